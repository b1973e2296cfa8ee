"""The one exception that stands for an expected failure, and what is told from the words of others' errors."""


class FatalError(Exception):
    """What went wrong, where, and the command that mends it. The command line prints it and exits 1."""


def unknown(kind: str, name: str, known: list[str]) -> FatalError:
    """The error for a name that is not in a registry, listing the names that are."""
    return FatalError(f"unknown {kind} {name!r}. Known: {', '.join(known)}")


def out_of_memory(text: str) -> bool:
    """Whether an error says that the GPU's or the machine's memory did not suffice."""
    return any(words in text for words in ("out of memory", "MemoryError", "can't allocate memory"))
