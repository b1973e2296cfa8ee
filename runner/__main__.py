"""`python -m runner` is `sdc`, for places where that command is not on the path."""

from runner.cli import main

main()
