"""Distilled sets, and networks trained on them: tensors, a protocol and a seed, never a method's name.

Imports: ground, data, launcher (memory, light).
Read: distilled, protocol, training; then networks, augment, view; sgd, cpu, stacked; scoring, set_files,
foreign; stats.
"""
