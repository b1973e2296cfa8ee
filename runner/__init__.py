"""The machinery: git, launching, data, networks, evaluation, command line."""
