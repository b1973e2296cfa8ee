"""`python -m sdc` is `sdc`, for places where that command is not on the path."""

from sdc.cli import main

main()
