"""Distilled sets, and networks trained on them: tensors, a protocol and a seed, never a method's name.

Imports: ground, data, launcher (memory, light).
Read: distilled, protocol, trial, training; then networks, view, shown, augment with pixels, dsa_augment, dc_augment,
spline; sgd, ahead, cpu, stacked, pace, repeatable; scoring, set_files, experiments, kept; foreign with tensor_files,
assumptions, foreign_labels, label_order, foreign_images; stats.
"""
