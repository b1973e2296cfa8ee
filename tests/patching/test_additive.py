"""Additive changes: what is found between two texts, and that git makes the same of the patches that we write."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from sdc.patching.additive import ChangedError, Line, between, functions, put_in, read, taken_out, written

TEXT = b"import os\n\n\ndef main():\n    x = 1\n    return x\n"


@pytest.mark.parametrize("ends", [b"\n", b"\r\n"])
def test_git_makes_of_a_written_patch_what_we_do_and_takes_it_out_again(ends: bytes, tmp_path: Path) -> None:
    drawn = random.Random(0)
    for number in range(20):
        text = b"".join(b"line %d" % drawn.randrange(5) + ends for _ in range(drawn.randrange(1, 30)))
        places = sorted(drawn.randrange(text.count(b"\n") + 1) for _ in range(drawn.randrange(1, 7)))
        lines = tuple(Line(place, b"ours %d" % count) for count, place in enumerate(places))
        (tmp_path / "s.py").write_bytes(text)
        (tmp_path / "s.patch").write_bytes(b"Words above.\n\n" + written("s.py", text, lines))

        def apply(*more: str) -> bytes:
            words = ["git", "apply", "--unidiff-zero", "--whitespace=nowarn", *more, "s.patch"]
            subprocess.run(words, cwd=tmp_path, check=True)
            return (tmp_path / "s.py").read_bytes()

        patched = put_in(text, lines)
        assert apply() == patched, number
        assert read((tmp_path / "s.patch").read_bytes()) == lines
        assert taken_out(patched, lines) == apply("--reverse") == text
        assert put_in(text, between(text, patched)) == patched


def test_what_was_removed_or_changed_is_named_with_its_line() -> None:
    assert between(TEXT, TEXT) == ()
    with pytest.raises(ChangedError) as removed:
        between(TEXT, TEXT.replace(b"    x = 1\n", b""))
    assert removed.value.offences == ("line 5, removed:     x = 1",)
    with pytest.raises(ChangedError) as changed:
        between(TEXT, TEXT.replace(b"x = 1", b"x = 2") + b"added\n")
    assert changed.value.offences == ("line 5, changed:     x = 1",)


def test_lines_are_told_with_the_innermost_function_around_them() -> None:
    nested = b"a = 1\ndef f():\n    def g():\n        pass\n    return g\n"
    lines = (Line(1, b"b = 2"), Line(4, b"        c = 3"), Line(5, b"    d = 4"), Line(5, b"e = 5"))

    assert functions(put_in(nested, lines), lines) == ("top level", "g()", "f()")
    assert functions(b"not python (\n", (Line(1, b"x"),)) == ("top level",)
