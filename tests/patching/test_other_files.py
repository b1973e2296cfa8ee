"""Forks whose command line, or the body of whose loop, has moved: into another file, or into a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fake
from tests.conftest import Sdc
from tests.patching.conftest import LF
from tests.patching.test_fork import patched

IMPORT, OPTIONS, TERM = fake.ADDED.values()
READ = "import argparse\n\n\ndef read():\n{body}    return parser.parse_args()\n"
LOSS = "    loss = ((images - goal - jitter) ** 2).mean()\n"


def apart(text: str) -> tuple[str, str]:
    """A script that has another file read the command line, and that file."""
    first, last = text.index("parser = "), text.index("args = ")
    body = "".join(f"    {row}\n" for row in text[first:last].splitlines())
    script = text[:first] + "args = read()\n" + text[last:].partition("\n")[2]
    return script.replace("import argparse\n", "from options import read\n"), READ.format(body=body)


def by_hand(script: str, options: str) -> tuple[str, str]:
    script = script.replace("import os\n", f"import os\n{IMPORT}\n").replace(LOSS, f"{LOSS}{TERM}\n")
    return script, options.replace("import argparse\n", f"import argparse\n{IMPORT}  # the term\n").replace(
        "    return parser", f"    {OPTIONS}\n    return parser"
    )


def test_where_another_file_reads_the_command_line_its_line_is_printed_for_that_file(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script, options = apart(LF.decode())
    path = own(script.encode(), commit=False)
    path.with_name("options.py").write_text(options)
    fake._commit(tmp_path / "own", {})
    refused = sdc("apply", "fake", "--to", tmp_path / "own")
    line = options.split("\n").index('    parser.add_argument("--end")') + 1
    assert (refused.code, f"goes into train/options.py, after line {line}, " in refused.err) == (1, True), refused
    assert path.read_text() == script


def test_a_line_in_the_file_that_reads_the_command_line_is_recognised_proved_and_taken_out(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    bare, to = apart(LF.decode()), ("--to", tmp_path / "own")
    script, options = by_hand(*bare)
    path = own(script.encode(), commit=False)
    other = path.with_name("options.py")
    other.write_bytes(options.replace("\n", "\r\n").encode())
    fake._commit(tmp_path / "own", {})

    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["by_hand"], row["problems"]) == ("patched", True, []), row
    proof = sdc("verify", "fake", *to, "--behaviour", "--json")
    (one,) = proof.json["methods"]
    assert (proof.code, one["added"], one["files"]) == (0, 4, ["train/distil.py", "train/options.py"]), proof
    assert sdc("revert", "fake", *to).code == 0
    assert (path.read_text(), other.read_bytes()) == (bare[0], bare[1].replace("\n", "\r\n").encode())


def test_what_the_script_lacks_beside_a_line_elsewhere_is_put_in(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    bare, to = apart(LF.decode()), ("--to", tmp_path / "own")
    path = own(bare[0].encode(), commit=False)
    other = path.with_name("options.py")
    other.write_text(by_hand(*bare)[1])
    fake._commit(tmp_path / "own", {})
    status = sdc("status", "fake", *to)
    assert (status.code, "other files have some of the patch's lines" in status.err) == (1, True), status
    applied = sdc("apply", "fake", *to)
    assert (applied.code, OPTIONS in applied.out, TERM.strip() in applied.out) == (0, False, True), applied
    assert sdc("verify", "fake", *to).code == 0

    other.write_text(f"# mine\n{other.read_text()}")
    refused = sdc("revert", "fake", *to)
    assert (refused.code, f"{other} has changes that are not committed" in refused.err) == (1, True), refused
    assert TERM in path.read_text()


def moved(text: str, call: str) -> str:
    """The loss, and what follows it up to the step, in a function of its own."""
    first, last = text.index(LOSS), text.index("    optimizer.zero_grad()")
    return text[:first].replace(
        "for step in", f"def body(images, jitter, step):\n{text[first:last]}    return loss\n\n\nfor step in"
    ) + (f"    loss = {call}\n{text[last:]}")


@pytest.mark.parametrize("call", ["body(images, jitter, step)", "abs(body(images, jitter, step=step))"])
def test_a_line_may_stand_in_a_function_that_the_loop_calls(
    call: str, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    text, to = moved(LF.decode(), call), ("--to", tmp_path / "own")
    script = own(text.encode())
    assert sdc("apply", "fake", *to).code == 0
    assert script.read_bytes() == moved(patched(LF).decode(), call).encode()
    proof = sdc("verify", "fake", *to, "--behaviour", "--json")
    assert (proof.code, proof.json["ok"]) == (0, True), proof
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_text() == text
    script.write_text(moved(patched(LF).decode(), call).replace(f"loss = {call}", "loss = images.mean()"))
    status = sdc("status", "fake", *to)
    assert (status.code, "stands in another loop" in status.err) == (1, True), status


def twice(text: str) -> str:
    """A script with two copies of its loop, of which it runs one."""
    at = text.index("for step in")
    loop = "".join(f"    {row}\n" for row in text[at:].splitlines())
    return f"{text[:at]}if args.rate > 0:\n{loop}else:\n{loop}"


def test_lines_in_each_copy_of_a_loop_are_recognised_and_one_said_twice_in_a_copy_is_not(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    text, to = twice(patched(LF).decode()), ("--to", tmp_path / "own")
    script = own(twice(LF.decode()).encode())
    refused = sdc("apply", "fake", *to)
    lines = [n for n, row in enumerate(twice(LF.decode()).split("\n"), start=1) if row.strip() == LOSS.strip()]
    told = f"line {lines[0]}, line {lines[1]}"
    assert (refused.code, len(lines), told in refused.err) == (1, 2, True), refused

    script.write_text(text)
    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["by_hand"], row["problems"]) == ("patched", True, []), row
    assert sdc("verify", "fake", *to, "--json").json["methods"][0]["added"] == 4
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_text() == twice(LF.decode())

    line = f"    {TERM}\n"
    script.write_text(line.join(text.rsplit(line, 1)).replace(line, line * 2, 1))
    status = sdc("status", "fake", *to)
    assert (status.code, "says once more what the patch adds" in status.err) == (1, True), status
