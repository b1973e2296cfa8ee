"""What every room stands on: errors, files that arrive whole or not at all, paths, progress, the look of figures.

Imports: nothing of ours.
Read: errors, paths, storage, files, watch; then hardware, cores, crew, packages, drawing.
"""
