"""A schedule in a word: the ramp of the weight over the run, and behind a slash at which steps the term is taken.

`linear`; `constant/5`: at every fifth step, with five times the weight.
"""

from __future__ import annotations

from sdc.ground.errors import FatalError, unknown

RAMPS = ("constant", "linear", "log")


def options(schedule: str) -> tuple[str, ...]:
    """What a patched script is told. Raises FatalError for what is no schedule."""
    ramp, slash, every = schedule.partition("/")
    if ramp not in RAMPS:
        raise unknown("schedule", schedule, list(RAMPS))
    if slash and not (every.isascii() and every.isdecimal() and int(every) > 1):
        raise FatalError(
            f"schedule {schedule!r}: behind the slash stands at every how many steps the term is taken, a whole number "
            f"of 2 or more, as in {ramp}/5; {ramp} alone is every step"
        )
    return "--sdc_schedule", ramp, "--sdc_every", every or "1"
