"""The example scripts do what they say, with this package and with the one file of the term alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from sdc.ground import paths
from tests.test_packaging import fresh

OWN_LOOP = paths.ROOT / "examples" / "own_loop.py"


def norm(python: Path | str, script: Path, *options: object) -> float:
    """The gradient norm that the script ends with."""
    words = [str(python), str(script), "--steps", "60", *map(str, options)]
    done = subprocess.run(words, cwd=script.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.rpartition(":")[2])


def test_the_term_in_a_loop_of_ones_own_makes_the_images_easier() -> None:
    without, little, much = (norm(sys.executable, OWN_LOOP, "--sdc_lambda", weight) for weight in (0, 0.1, 1))
    assert without > little > much
    assert much < 0.8 * without


def test_the_loop_needs_one_file_of_this_project(tmp_path: Path) -> None:
    fresh(tmp_path / "environment")
    script = Path(shutil.copy(OWN_LOOP, tmp_path))
    python = tmp_path / "environment" / "bin" / "python"
    lacking = subprocess.run([python, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "No module named 'sdc'" in lacking.stderr

    shutil.copy(paths.ROOT / "plugins" / "sdc.py", tmp_path / "sdc.py")
    assert norm(python, script, "--sdc_lambda", 1) == norm(sys.executable, OWN_LOOP, "--sdc_lambda", 1)


def test_the_loop_is_short_and_says_sdc_three_times() -> None:
    lines = OWN_LOOP.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("for "))
    loop = [line for line in lines[start:] if line.startswith(("for", "    "))]
    assert len(loop) <= 15
    assert [line.strip() for line in lines if line.strip().startswith(("import sdc", "sdc.", "loss = sdc."))] == [
        "import sdc",
        "sdc.add_options(parser)  # --sdc_lambda, --sdc_schedule, --sdc_every",
        "loss = sdc.corrected(loss, gradient, args, step, args.steps - 1)",
    ]
