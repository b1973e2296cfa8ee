"""A member of the crew of an evaluation: `python -m sdc.evaluation.member FILE`, as `beside` starts it."""

import sys

from sdc.evaluation import beside
from sdc.evaluation.training import one

if __name__ == "__main__":
    beside.serve(one, sys.argv[1:])
