"""A member of the crew that trains judges: `python -m sdc.analysis.difficulty.pupil FILE`, as `beside` starts it."""

import sys

from sdc.analysis.difficulty.judges import taught
from sdc.evaluation import beside

if __name__ == "__main__":
    beside.serve(taught, sys.argv[1:])
