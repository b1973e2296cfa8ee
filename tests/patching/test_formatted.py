"""`--to DIR` where the script is written differently: our lines find their places by what the script says."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import fake
from tests.conftest import Sdc
from tests.patching.conftest import LF
from tests.patching.test_fork import patched
from tests.written import WRITERS, Writer

ADDED = list(fake.ADDED.values())
MERGED = {"isort"}
"""Ways to write it that change no line where ours go."""


def said(content: bytes) -> tuple[list[str], list[str]]:
    """What a script says: its imports in any order, and all else in its own."""
    body = ast.parse(content).body
    imports = [ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(imports), [ast.dump(node) for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]


def without(lines: list[bytes], more: list[bytes]) -> bool:
    """Whether `more` is `lines` with other lines put in, and nothing else."""
    left = iter(more)
    return all(line in left for line in lines)


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_script_that_is_written_differently_takes_our_lines_and_gives_them_back(
    write: Writer, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    content = write(LF)
    script, to = own(content), ("--to", tmp_path / "own")
    assert (content != LF, "pristine" in sdc("status", "fake", *to).out) == (True, True)

    applied = sdc("apply", "fake", *to)
    assert applied.code == 0, applied
    after = script.read_bytes()
    assert said(after) == said(write(patched(LF)))
    ends = {line[-2:] == b"\r\n" for line in after.splitlines(keepends=True)}
    assert (len(ends), without(content.splitlines(), after.splitlines())) == (1, True)
    assert all(line.strip() in applied.out for line in ADDED)

    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["edited"]) == ("patched", True)
    (proof,) = sdc("verify", "fake", *to, "--json").json["methods"]
    assert (proof["ok"], proof["added"], proof["removed"]) == (True, 3, 0)
    assert "no change" in sdc("apply", "fake", *to).out
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == content


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_what_was_patched_first_and_formatted_then_is_patched_and_comes_out_whole(
    write: Writer, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    content = write(patched(LF))
    script, to = own(content), ("--to", tmp_path / "own")

    status = sdc("status", "fake", *to, "--json").json["methods"][0]
    assert (status["state"], status["problems"]) == ("patched", [])
    proof = sdc("verify", "fake", *to, "--json").json["methods"][0]
    assert proof["ok"], proof
    assert sdc("apply", "fake", *to, "--json").json["methods"][0]["before"] == "patched"
    assert sdc("revert", "fake", *to).code == 0
    left = script.read_bytes()
    assert said(left) == said(write(LF))
    assert without(left.splitlines(), content.splitlines())
    assert len(content.splitlines()) - len(left.splitlines()) == proof["added"]
    assert b"sdc" not in left


def test_the_places_that_were_found_are_shown_with_what_stands_around_them(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script = own(WRITERS["tabs"](LF))
    applied = sdc("apply", "fake", "--to", tmp_path / "own")

    rows = script.read_text().split("\n")
    at = rows.index("\t" + ADDED[2].strip())
    for number in range(at - 2, at + 3):
        sign = "+" if number == at else " "
        assert f"{sign} {number + 1:5d}  {rows[number]}\n" in applied.out
    assert f"sdc verify fake --to {tmp_path / 'own'} --behaviour" in applied.out


IMPORT, OPTIONS, TERM = ADDED
BY_HAND = {
    "import first, term a statement later": [
        ("import argparse\n", f"{IMPORT}  # SDC\nimport argparse\n"),
        ("args = parser.parse_args()\n", f"{OPTIONS}\nargs = parser.parse_args()\n"),
        ("    optimizer.zero_grad()\n", f"    optimizer.zero_grad()\n{TERM}\n"),
    ],
    "wrapped": [
        ("import numpy as np\n", f"{IMPORT}\n\nimport numpy as np\n"),
        ('parser.add_argument("--end")\n', f'parser.add_argument("--end")\n\n{OPTIONS}\n'),
        (
            "    optimizer.zero_grad()\n",
            "    loss = sdc.corrected(\n        loss,\n        [images],  # ours\n        args,\n        step,\n"
            "        args.steps - 1,\n    )\n    optimizer.zero_grad()\n",
        ),
    ],
    "other names": [
        ("import numpy as np\n", "import sdc as term\nimport numpy as np\n"),
        ("args = parser.parse_args()\n", "term.add_options(parser)\nargs = parser.parse_args()\n"),
        (
            "    optimizer.zero_grad()\n",
            "    loss = term.corrected(loss, [images], args, step, args.steps - 1)\n    optimizer.zero_grad()\n",
        ),
    ],
    "asked for": [
        ("import argparse\n", f"{IMPORT}\nimport argparse\n"),
        ("args = parser.parse_args()\n", f"{OPTIONS}\nargs = parser.parse_args()\n"),
        ("    optimizer.zero_grad()\n", f"    if args.sdc_lambda > 0:\n    {TERM}\n    optimizer.zero_grad()\n"),
    ],
    "imported by name": [
        ("import numpy as np\n", "from sdc import add_options, corrected\nimport numpy as np\n"),
        ("args = parser.parse_args()\n", "add_options(parser)\nargs = parser.parse_args()\n"),
        (
            "    optimizer.zero_grad()\n",
            "    loss = corrected(loss, [images], args, step, args.steps - 1)\n    optimizer.zero_grad()\n",
        ),
    ],
}


@pytest.mark.parametrize("edits", BY_HAND.values(), ids=BY_HAND)
@pytest.mark.parametrize("write", [None, "two spaces, CRLF"])
def test_lines_put_in_by_hand_are_recognised_counted_and_taken_out(
    write: str | None, edits: list[tuple[str, str]], own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    before = text = LF.decode()
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    writer = WRITERS[write] if write else bytes
    script, to = own(writer(text.encode())), ("--to", tmp_path / "own")

    status = sdc("status", "fake", *to)
    assert (status.code, "patched (by hand)" in status.out) == (0, True), status
    assert sdc("status", "fake", *to, "--json").json["methods"][0]["by_hand"] is True
    (proof,) = sdc("verify", "fake", *to, "--json").json["methods"]
    added = sum("sdc" in new or "term." in new for _, new in edits)
    assert (proof["ok"], proof["added"] >= added, proof["by_hand"]) == (True, True, True)
    count = len(text.splitlines()) - len(before.splitlines())
    assert "no change (by hand)" in sdc("apply", "fake", *to).out
    content = script.read_bytes()
    assert sdc("revert", "fake", *to).code == 0
    left = script.read_bytes()
    assert without(left.splitlines(), content.splitlines())
    assert len(content.splitlines()) - len(left.splitlines()) == proof["added"] <= count
    assert not any(word in left for word in (b"sdc", b"corrected", b"term."))


def test_lines_that_were_adapted_to_other_names_are_recognised_too(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    renamed, text = (re.sub(rb"\bargs\b", b"opt", each.replace(b"loss", b"total")) for each in (LF, patched(LF)))
    script, to = own(text), ("--to", tmp_path / "own")

    assert "patched (by hand), edited" in sdc("status", "fake", *to).out
    proof = sdc("verify", "fake", *to, "--behaviour", "--json")
    assert proof.json["methods"][0]["added"] == 3
    assert proof.json["methods"][0]["claims"][1]["outcome"] == "holds", proof
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == renamed


def test_lines_put_in_by_hand_are_proved_by_their_behaviour(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    text = LF.decode()
    for old, new in BY_HAND["wrapped"]:
        text = text.replace(old, new)
    script = own(WRITERS["tabs"](text.encode()))
    proof = sdc("verify", "fake", "--to", tmp_path / "own", "--behaviour", "--json")
    assert (proof.code, proof.json["ok"]) == (0, True), proof

    late = patched(LF).replace(f"{TERM}\n".encode(), b"")
    script.write_bytes(late.replace(b"    loss.backward()\n", f"    loss.backward()\n{TERM}\n".encode()))
    assert "patched (by hand)" in sdc("status", "fake", "--to", tmp_path / "own").out
    proof = sdc("verify", "fake", "--to", tmp_path / "own", "--behaviour", "--json")
    assert (proof.code, proof.json["methods"][0]["claims"][1]["outcome"]) == (1, "fails"), proof


def test_a_line_by_hand_in_another_loop_is_drift_and_can_be_taken_out(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    end = '        open("filler", "wb").write(bytes(10**9))\n'
    text = patched(LF).decode().replace(f"{TERM}\n", "").replace(end, f"{end}{TERM.strip()}\n")
    script, to = own(text.encode()), ("--to", tmp_path / "own")

    status = sdc("status", "fake", *to)
    line = text.split("\n").index(TERM.strip()) + 1
    assert (status.code, f"line {line} stands in another loop or branch" in status.err) == (1, True), status
    assert sdc("verify", "fake", *to).code == 1
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == LF


def test_of_a_script_that_is_repaired_only_the_missing_line_is_shown(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    for write in (bytes, WRITERS["black with tabs"]):
        content = write(patched(LF)).replace(b"sdc.add_options(parser)\n", b"")
        to = ("--to", tmp_path / "own")
        script = tmp_path / "own" / "train" / "distil.py" if (tmp_path / "own").exists() else own(content)
        script.write_bytes(content)
        status = sdc("status", "fake", *to)
        assert (status.code, f"it lacks {OPTIONS}" in status.err) == (1, True)
        (change,) = sdc("apply", "fake", *to, "--uncommitted", "--json").json["methods"]
        shown = [row for row in change["diff"].split("\n") if row.startswith("+")]
        assert [row.split()[-1] for row in shown] == [OPTIONS]
        assert said(script.read_bytes()) == said(write(patched(LF)))


LOSS = "    loss = ((images - goal - jitter) ** 2).mean()\n"
REFUSED = {
    "changed": ([("loss = ((images", "loss = 2 * ((images")], "not found"),
    "twice": ([("    optimizer.zero_grad()\n", f"{LOSS}    optimizer.zero_grad()\n")], "cannot be told apart"),
    "unknown name": ([("for step in", "for number in"), ("and step ==", "and number ==")], "step is not known"),
    "in a loop more": ([(LOSS, f"    for _ in range(2):\n    {LOSS}")], "in other loops or branches there"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_where_a_line_has_no_place_that_can_be_meant_each_is_printed_to_be_put_in_by_hand(
    name: str, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    edits, reason = REFUSED[name]
    text = LF.decode()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    content = WRITERS["two spaces, CRLF"](text.encode()) if name != "unknown name" else text.encode()
    script, to = own(content), ("--to", tmp_path / "own")
    refused = sdc("apply", "fake", *to)

    assert (refused.code, reason in refused.err) == (1, True), refused
    rows = refused.err.split("\n")
    assert all(any(row.strip() == line.strip() for row in rows) for line in ADDED)
    assert script.read_bytes() == content
    places = [rows[n - 1] for n, row in enumerate(rows) if row == OPTIONS]
    end = next(n for n, row in enumerate(content.decode().splitlines(), start=1) if '"--end"' in row)
    assert places == [f"  after line {end}, `parser.add_argument('--end')`:"]


def test_a_script_that_is_no_python_is_called_that_with_the_line(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    mixed = WRITERS["two spaces, CRLF"](LF).replace(b"\r\n  optimizer.zero_grad()", b"\r\n\toptimizer.zero_grad()")
    script, to = own(mixed), ("--to", tmp_path / "own")
    line = 1 + next(n for n, row in enumerate(mixed.split(b"\n")) if row.startswith(b"\t"))

    refused = sdc("apply", "fake", *to)
    assert (refused.code, f"line {line}: " in refused.err, "cannot be read as Python 3" in refused.err) == (
        1,
        True,
        True,
    ), refused
    assert script.read_bytes() == mixed
    old = LF.replace(b'print("training begins")', b'print "training begins"')
    script.write_bytes(old)
    applied = sdc("apply", "fake", *to, "--uncommitted")
    line = 1 + old[: old.index(b"print ")].count(b"\n") + 2  # two of ours come before it
    assert (applied.code, script.read_bytes()) == (0, patched(old))  # nothing but its places is asked of it
    assert f"line {line - 2}: " in applied.err
    assert f"line {line}: " in sdc("status", "fake", *to).err
    script.write_bytes(patched(LF).replace(b"parser = ", b"# \xe9\nparser = "))
    line = 1 + patched(LF)[: patched(LF).index(b"parser = ")].count(b"\n")
    status = sdc("status", "fake", *to)
    assert (status.code, f"line {line}: byte 0xe9" in status.err) == (0, True), status
    script.write_bytes(LF.decode().encode("utf-16"))
    assert "null bytes" in sdc("apply", "fake", *to).err


def test_what_shares_its_line_with_other_code_is_not_torn_from_it(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    text = patched(LF).replace(b"import sdc\n", b"import sdc; import json\n")
    script, to = own(text), ("--to", tmp_path / "own")

    assert "patched (by hand)" in sdc("status", "fake", *to).out
    refused = sdc("revert", "fake", *to)
    line = 1 + text[: text.index(b"import sdc")].count(b"\n")
    assert (refused.code, f"line {line} holds more than a line of the patch" in refused.err) == (1, True)
    assert script.read_bytes() == text
    proof = sdc("verify", "fake", *to)
    assert (proof.code, f"line {line} holds more" in proof.err) == (1, True)


MOVED = {
    "renamed": (LF, "mine.py"),
    "moved and formatted": (WRITERS["black with tabs"](LF), "src/deep/run.py"),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_script_with_another_name_is_patched_proved_and_reverted(
    name: str, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    content, called = MOVED[name]
    script = own(content)
    moved = tmp_path / "own" / called
    moved.parent.mkdir(parents=True, exist_ok=True)
    script.rename(moved)
    (script.parent / "helpers.py").rename(moved.parent / "helpers.py")
    fake._commit(tmp_path / "own", {})
    to = ("--to", tmp_path / "own")

    lost = sdc("apply", "fake", *to)
    assert (lost.code, f"--script {called}" in lost.err) == (1, True), lost
    to = (*to, "--script", called)
    assert sdc("apply", "fake", *to).code == 0
    assert said(moved.read_bytes()) == said(patched(LF))
    assert sdc("status", "fake", *to, "--json").json["methods"][0]["state"] == "patched"
    proof = sdc("verify", "fake", *to, *(["--behaviour"] if "/" in called else []), "--json")
    assert (proof.code, proof.json["methods"][0]["files"]) == (0, [called]), proof
    assert sdc("revert", "fake", *to).code == 0
    assert moved.read_bytes() == content


def test_a_scripts_name_is_for_one_script_within_the_folder(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    own()
    for name in ("../own/train/distil.py", str(tmp_path / "own" / "train" / "distil.py")):
        refused = sdc("apply", "fake", "--to", tmp_path / "own", "--script", name)
        assert (refused.code, "within" in refused.err) == (1, True)
    for command in ("apply", "revert", "status", "verify"):
        assert sdc(command, "fake", "--script", "train/distil.py").code == 2
    assert sdc("apply", "dc", "dm", "--to", tmp_path / "own", "--script", "main.py").code == 2


def test_a_download_without_a_repository_that_is_the_pins_is_as_good_as_a_clone(
    fake_upstream: fake.Fake, sdc: Sdc, tmp_path: Path
) -> None:
    pin = ["git", "-C", fake_upstream.path, "archive", "--prefix=own/", fake_upstream.adapter.upstream.commit]
    archive = subprocess.run(pin, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", tmp_path], input=archive, check=True)
    script, to = tmp_path / "own" / "train" / "distil.py", ("--to", tmp_path / "own")
    content = script.read_bytes()

    (row,) = sdc("status", "fake", *to, "--json").json["methods"]
    assert (row["state"], row["edited"], row["notes"]) == ("pristine", False, [])
    assert sdc("apply", "fake", *to).code == 0
    assert script.read_bytes() == patched(content)
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == content

    (script.parent / "helpers.py").write_text("def shrink(image):\n    return image\n")
    (tmp_path / "own" / "LICENSE").unlink()
    (note,) = sdc("status", "fake", *to, "--json").json["methods"][0]["notes"]
    assert "train/helpers.py (changed)" in note
    assert "LICENSE (missing)" in note
    edited = content.replace(b"momentum=0.5", b"momentum=0.25")
    script.write_bytes(edited)
    line = 1 + edited[: edited.index(b"momentum")].count(b"\n")
    refused = sdc("apply", "fake", *to)
    assert (refused.code, f"it differs in line {line}." in refused.err) == (1, True), refused
    script.write_bytes(content.replace(b"\r\n", b"\n"))
    assert "only its line ends differ" in sdc("apply", "fake", *to).err
    assert sdc("apply", "fake", *to, "--uncommitted").code == 0


def test_what_a_script_needs_to_run_is_said_and_is_enough(own: Callable[..., Path], sdc: Sdc, tmp_path: Path) -> None:
    script, to = own(), ("--to", tmp_path / "own")
    applied = sdc("apply", "fake", *to)
    assert f"sdc apply fake --to {tmp_path / 'own'} --vendor" in applied.out
    assert "pip install sdc" not in applied.out
    (change,) = sdc("apply", "fake", *to, "--json").json["methods"]
    assert [row.split()[0] for row in change["needs"]] == ["pip", next(w for w in change["needs"][1].split()), "sdc"]
    named = dict(
        word.split("=", 1) for row in change["needs"] for word in row.split() if word.startswith("PYTHONPATH=")
    )
    bare = ["/usr/bin/env", "-i", f"PYTHONPATH={named['PYTHONPATH']}", "PATH=/usr/bin:/bin"]
    ran = subprocess.run(
        [*bare, sys.executable, script, "--help"], cwd="/", capture_output=True, text=True, check=False
    )
    assert (ran.returncode, "--sdc_lambda" in ran.stdout) == (0, True), ran.stderr
    assert Path(change["needs"][0].split()[2]).joinpath("pyproject.toml").is_file()

    vendored = sdc("apply", "fake", *to, "--vendor", "--json").json["methods"][0]
    assert (vendored["vendored"], vendored["needs"]) == (True, [])
    assert "PYTHONPATH" not in sdc("apply", "fake", *to).out


def under(head: str, text: str, end: str = "") -> str:
    """All from the parser on, in a block."""
    at = text.index("parser = ")
    return text[:at] + head + "\n" + "".join(f"    {line}".rstrip() + "\n" for line in text[at:].splitlines()) + end


OPTION = 'parser.add_argument("--end")\n'
BUILT_ANEW: dict[str, Callable[[str], str]] = {
    "under __name__": lambda text: under('if __name__ == "__main__":', text),
    "in a function": lambda text: under("def main():", text, "\n\nmain()\n"),
    "in a function, with a docstring": lambda text: under('async def run(more=1):\n    """Run."""', text),
    "in try and with": lambda text: under("try:", text, "finally:\n    pass\n"),
    "in a loop over seeds": lambda text: under("for seed in range(3):", text),
    "options in a function": lambda text: text.replace("args = parser.parse_args()\n", "").replace(
        text[text.index("parser = ") : text.index("args = parser")],
        "def options():\n"
        + "".join(f"    {row}\n" for row in text[text.index("parser = ") : text.index("args = parser")].splitlines())
        + "    return parser.parse_args()\n\n\nargs = options()\n",
    ),
    "global": lambda text: text.replace("args = parser", "def read():\n    global args\n    args = parser").replace(
        "usual = ", "\n\nread()\nusual = "
    ),
    "in a class": lambda text: under("class Run:", text),
    "an option after ours": lambda text: text.replace(OPTION, f'{OPTION}parser.add_argument("--mine")\n'),
    "the last option gone": lambda text: text.replace(OPTION, "parser.add_argument('--mine')\n"),
    "added in place": lambda text: text.replace("    loss.backward()", "    loss += 1\n    loss.backward()"),
    "annotated": lambda text: text.replace("    loss = (", "    loss: torch.Tensor = ("),
    "a statement right after": lambda text: text.replace(LOSS, f"{LOSS}    loss = loss * 2\n"),
    "a statement right before": lambda text: text.replace(LOSS, f"    more = 1\n{LOSS}"),
    "a comment right after": lambda text: text.replace(LOSS, LOSS.rstrip() + "  # the loss\n    # more\n"),
    "another branch": lambda text: text.replace(LOSS, f"{LOSS}    if step:\n        print(step)\n"),
    "another helper": lambda text: text.replace(
        "from helpers import shrink", "from helpers import (\n  more,\n  shrink)"
    ),
    "no helper": lambda text: text.replace(
        "from helpers import shrink\n", "\n\ndef shrink(image):\n    return image\n\n"
    ),
    "imports in try": lambda text: text.replace(
        "from helpers import shrink\n", "try:\n    from helpers import shrink\nexcept ImportError:\n    shrink = abs\n"
    ),
    "from the future": lambda text: f'"""Mine."""\nfrom __future__ import annotations\n\n{text}',
    "latin-1": lambda text: f"#!/usr/bin/env python\n# -*- coding: latin-1 -*-\n# \xe9\n{under('if 1:', text)}",
    "a byte order mark": lambda text: "\ufeff" + under("def main():", text),
    "on one line": lambda text: text.replace("import os\nimport random\n", "import os, random\n").replace(
        "    optimizer.zero_grad()\n    loss.backward()\n", "    optimizer.zero_grad(); loss.backward()\n"
    ),
}


@pytest.mark.parametrize("name", BUILT_ANEW)
def test_a_script_that_is_built_differently_takes_our_lines_and_gives_them_back(
    name: str, own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    text = BUILT_ANEW[name](LF.decode())
    assert text != LF.decode()
    encoded = text.encode("latin-1" if name == "latin-1" else "utf-8")
    writer = (bytes, WRITERS["narrow"], WRITERS["two spaces, CRLF"])[list(BUILT_ANEW).index(name) % 3]
    content = encoded if name == "latin-1" else writer(encoded)
    script, to = own(content), ("--to", tmp_path / "own")

    applied = sdc("apply", "fake", *to)
    assert (applied.code, "pristine -> patched" in applied.out) == (0, True), applied
    after = script.read_bytes()
    nodes = list(ast.walk(ast.parse(after)))
    blocks = [block for node in nodes for block in (getattr(node, "body", None), getattr(node, "finalbody", None))]
    for ours, before in ((TERM.strip(), "loss"), (OPTIONS, "parser")):
        (at,) = [
            (block, n)
            for block in blocks
            if isinstance(block, list)
            for n, each in enumerate(block)
            if ast.unparse(each) == ours
        ]
        assert ast.unparse(at[0][at[1] - 1]).startswith(before), (name, ours)
    body = [each for each in ast.parse(after).body if ast.unparse(each) == IMPORT]
    assert len(body) == 1
    assert sdc("verify", "fake", *to).code == 0
    assert sdc("revert", "fake", *to).code == 0
    assert script.read_bytes() == content


def test_a_copy_of_the_plugin_stays_where_another_script_imports_it_in_whatever_way(
    own: Callable[..., Path], sdc: Sdc, tmp_path: Path
) -> None:
    script, to = own(WRITERS["tabs"](LF)), ("--to", tmp_path / "own")
    assert sdc("apply", "fake", "--vendor", *to).code == 0
    other = script.parent / "other.py"
    for way in ("import sdc  # ours", "import sdc as term", "from sdc import corrected", "if 1:\n    import sdc"):
        other.write_text(f"{way}\n")
        assert sdc("revert", "fake", *to).code == 0
        assert (script.parent / "sdc.py").is_file(), way
    other.unlink()
    assert sdc("revert", "fake", *to).code == 0
    assert not (script.parent / "sdc.py").exists()
