"""The one exception that stands for an expected failure."""


class FatalError(Exception):
    """What went wrong, where, and the command that mends it. The command line prints it and exits 1."""


def unknown(kind: str, name: str, known: list[str]) -> FatalError:
    """The error for a name that is not in a registry, listing the names that are."""
    return FatalError(f"unknown {kind} {name!r}. Known: {', '.join(known)}")
