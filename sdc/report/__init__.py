"""A report over run folders: read them, compare with and without SDC, write tables, figures and a page.

Imports: ground, adapters, patching (methods), evaluation (stats), plan (settings).
Read: make, load, compare, tables; then documents, records; figures, grids, curves, places; page, commands.
"""
