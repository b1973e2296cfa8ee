"""A report over run folders: read them, compare with and without SDC, write tables, figures and a page."""
