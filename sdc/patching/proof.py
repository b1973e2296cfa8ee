"""What is proved of a patch: counts and hashes of its text, and claims about what the patched script does."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Literal

import sdc
from sdc.adapters.base import Adapter
from sdc.patching.additive import MOST

OURS = ("--sdc_every", "--sdc_lambda", "--sdc_schedule")
"""The options that a patch gives to a script."""


@dataclass(frozen=True)
class Claim:
    """One claim about the patched script, how it came out, and what was seen."""

    name: str
    outcome: Literal["holds", "fails", "unchecked"]
    detail: str


@dataclass(frozen=True)
class Proof:
    """What a patch changes, counted from the files: lines of its script, and the claims that do not hold."""

    method: str
    files: tuple[str, ...]
    added: int
    removed: int
    total: int
    """Lines of the patched script."""
    functions: tuple[str, ...]
    """Where the added lines stand."""
    patch_sha256: str
    before: str
    after: str
    vendored: bool
    failures: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    """What was claimed of its behaviour, if that was looked at."""
    spread: str = ""
    """How far two runs of the untouched script are apart on a GPU; empty: there is none, or nobody looked."""
    by_hand: bool = False
    """Whether the lines are in a script of the user's own as nobody but a person, or a formatter, writes them."""

    @property
    def ok(self) -> bool:
        """Whether every claim holds; one that could not be checked does not."""
        return not self.failures and all(claim.outcome == "holds" for claim in self.claims)

    @property
    def share(self) -> float:
        """The share of the script's lines that is ours."""
        return self.added / self.total if self.total else 0.0


def breaches(files: tuple[str, ...], added: int, removed: int) -> Iterator[str]:
    """The rules every patch keeps: one file, nothing removed, a few lines added."""
    if len(files) != 1:
        yield f"the patch touches {len(files)} files, not one: {', '.join(files) or 'none'}"
    if removed:
        yield f"the patch removes {removed} lines"
    if not 0 < added <= MOST:
        yield f"the patch adds {added} lines, not 1 to {MOST}"


def as_json(proofs: Sequence[Proof]) -> dict[str, Any]:
    """All of it, for a program."""
    rows = [asdict(proof) | {"share": round(proof.share, 6), "ok": proof.ok} for proof in proofs]
    return {"ok": all(proof.ok for proof in proofs), "methods": rows}


def problems(proof: Proof) -> list[str]:
    """What does not hold, or could not be checked, a line each; claims that share a reason share a line."""
    names: dict[tuple[str, str], list[str]] = {}
    for claim in proof.claims:
        if claim.outcome != "holds":
            names.setdefault((claim.outcome, claim.detail), []).append(claim.name)
    return [*proof.failures, *(f"{', '.join(of)} {became}: {why}" for (became, why), of in names.items())]


def report(proofs: Sequence[Proof], adapters: Mapping[str, Adapter], command: str, looked_at: str) -> str:
    """The proofs as Markdown, for a paper's appendix or a pull request."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "numpy"))
    bad = [f"- `{proof.method}`: {problem}" for proof in proofs for problem in problems(proof)]
    held = "Every claim below holds." if not bad else f"{len(bad)} claims do not hold or could not be checked."
    parts = [
        "# What the SDC patches change",
        f"`{command}`; sdc {sdc.__version__}, Python {platform.python_version()}, {libraries}.",
        f"{held} Lines and hashes were counted on the files; hashes of scripts are those of git.",
        _table(
            ("method", "upstream, pin, licence", "script", "added", "removed", "of lines", "share", "where"),
            [
                (
                    p.method,
                    f"{adapters[p.method].upstream.url} at `{adapters[p.method].upstream.commit}`, "
                    f"{adapters[p.method].upstream.licence or 'no licence'}",
                    ", ".join(f"`{name}`" for name in p.files),
                    str(p.added),
                    str(p.removed),
                    str(p.total),
                    f"{100 * p.share:.2f} %",
                    ", ".join(p.functions),
                )
                for p in proofs
            ],
        ),
        _table(
            ("method", "script before", "script after", "SHA-256 of the patch"),
            [(p.method, f"`{p.before}`", f"`{p.after}`", f"`{p.patch_sha256}`") for p in proofs],
        ),
    ]
    if any(proof.claims for proof in proofs):
        rows = [row for p in proofs for row in _claimed(p)]
        parts += ["## Behaviour", looked_at, _table(("method", "claim", "", "seen"), rows)]
        parts += ["\n".join(f"- `{p.method}`: {p.spread}" for p in proofs)] if any(p.spread for p in proofs) else []
    return "\n\n".join([*parts, *(["## What does not hold", "\n".join(bad)] if bad else [])]) + "\n"


def _claimed(proof: Proof) -> Iterator[tuple[str, str, str, str]]:
    """A row a claim; what claims share is told with the first of them."""
    told: dict[str, str] = {}
    for claim in proof.claims:
        first = told.setdefault(claim.detail, claim.name)
        yield proof.method, claim.name, claim.outcome, claim.detail if first == claim.name else f"as {first}"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
