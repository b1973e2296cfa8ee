"""A report over run folders: read them, compare with and without SDC, write tables, figures and a page.

Imports: ground, adapters, patching (methods), evaluation (stats, kept), plan (settings).
Read: make, load with fields, elsewhere, origins; compare, tables; then documents, records; figures, grids, curves,
places; page, commands.
"""
