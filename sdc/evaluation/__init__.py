"""Distilled sets, and networks trained on them: tensors, a protocol and a seed, never a method's name.

Imports: ground, data, launcher (memory, light).
Read: distilled, protocol, trial, training, learning; then networks, view, shown, augment with pixels, dsa_augment,
dc_augment, spline; sgd, ahead, cpu, beside with member, stacked, pace, repeatable; scoring, set_files, experiments,
outcomes; foreign with assumptions, foreign_labels, label_order, foreign_images, held; set_layouts with file_kinds,
companions, tensor_files, declared, plain_arrays, set_pictures, class_folders, own_exports; stats.
"""
