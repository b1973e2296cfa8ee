"""Distilled sets, and networks trained on them: tensors, a protocol and a seed, never a method's name.

Imports: ground, data, launcher (memory, light).
Read: distilled, protocol, trial, training, learning; then networks, view, augment with pixels, dsa_augment, dc_augment,
spline; sgd, ahead, cpu, beside with member, stacked, pace, repeatable; scoring, set_files, experiments; foreign with
tensor_files, assumptions, foreign_labels, foreign_images; stats.
"""
