"""Distilled sets for people who train elsewhere: parquet, image folders, the layouts of the upstream scripts."""
