"""Distilled sets for people who train elsewhere: parquet, image folders, the layouts of the upstream scripts.

Imports: ground, adapters, data, evaluation.
Read: write, source; then folder, parquet, torch_files.
"""
