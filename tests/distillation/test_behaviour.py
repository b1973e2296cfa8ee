"""`sdc verify --behaviour` on fakes: what each claim catches, and what cannot be checked is said to be so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdc.adapters.registry import ADAPTERS
from sdc.ground import paths
from tests import fake
from tests.conftest import Outcome, Sdc

IMPORT, OPTIONS, LOSS = fake.ADDED
KEEP = {IMPORT: fake.ADDED[IMPORT], OPTIONS: fake.ADDED[OPTIONS]}
EFFECTLESS = "    sdc.corrected(loss, [images], args, step, args.steps - 1)"
Verified = Callable[..., tuple[Outcome, dict[str, str]]]


@pytest.fixture
def verified(sdc: Sdc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verified:
    """Verify a fake whose patch adds `added` to `text`: the outcome, and that of each claim by its name."""

    def verify(added: Mapping[str, str], text: str = fake.SCRIPT, *more: object) -> tuple[Outcome, dict[str, str]]:
        made = fake.build(tmp_path / "fake", text, added)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(made.git_config))
        monkeypatch.setitem(ADAPTERS, "fake", made.adapter)
        assert sdc("apply", "fake").code == 0
        outcome = sdc("verify", "fake", "--behaviour", "--json", *more)
        return outcome, {claim["name"]: claim["outcome"] for claim in claims(outcome)}

    return verify


def claims(outcome: Outcome) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = outcome.json["methods"][0]["claims"]
    return found


def test_every_claim_holds_for_a_sound_patch_and_the_report_says_so(verified: Verified, tmp_path: Path) -> None:
    report = tmp_path / "proof" / "sdc.md"
    outcome, found = verified(fake.ADDED, fake.SCRIPT, "--report", report)

    assert (outcome.code, outcome.json["ok"]) == (0, True), outcome
    assert found == {"weight 0": "holds", "weight 0.1": "holds", "options": "holds"}
    details = {claim["name"]: claim["detail"] for claim in claims(outcome)}
    assert details["weight 0"].startswith("images 10x3x32x32 after 3 steps")
    assert details["options"] == "the 7 of the untouched script and --sdc_every --sdc_lambda --sdc_schedule"
    proof = outcome.json["methods"][0]
    assert (proof["added"], proof["removed"], proof["total"]) == (3, 0, fake.SCRIPT.count("\n") + 3)
    assert proof["share"] == pytest.approx(3 / proof["total"], abs=1e-6)
    assert proof["functions"] == ["top level"]
    text = report.read_text()
    patch = ADAPTERS["fake"].patch
    for expected in (patch.before, patch.after, patch.sha256, fake.URL, ADAPTERS["fake"].upstream.commit, "no licence"):
        assert expected in text
    assert "Every claim below holds." in text
    assert "| fake | weight 0 | holds | images 10x3x32x32 after 3 steps" in text
    assert [path.name for path in report.parent.iterdir()] == ["sdc.md"]
    assert not (paths.cache() / "experts").exists() or not list((paths.cache() / "experts").glob("*fake*"))


@pytest.mark.parametrize(
    ("line", "outcomes", "said"),
    [
        ("    loss = loss * 1.001", ("fails", "holds"), "not the bits of the untouched script: images"),
        (EFFECTLESS, ("holds", "fails"), "the term has no effect"),
        ("    if step == 1: break", ("fails", "holds"), "1 steps, and 3 of the untouched script"),
        (
            "    loss = loss + args.sdc_lambda / args.sdc_lambda * images.abs().sum()",
            ("fails", "holds"),
            "did not run where the untouched did",
        ),
        ("    1 / (0.1 - args.sdc_lambda)", ("holds", "unchecked"), "it did not run"),
        (
            "    loss = sdc.corrected(loss, images.detach(), args, step, 9)",
            ("holds", "unchecked"),
            "it did not run: a line of SDC is not right: sdc.corrected wants the gradient that",
        ),
    ],
    ids=["other bits", "no effect", "other steps", "ends at weight 0", "ends at another weight", "a wrong gradient"],
)
def test_a_patch_that_does_not_keep_a_claim_fails_it(
    line: str, outcomes: tuple[str, str], said: str, verified: Verified
) -> None:
    outcome, found = verified({**KEEP, LOSS: line})

    assert outcome.code == 1
    assert (found["weight 0"], found["weight 0.1"], found["options"]) == (*outcomes, "holds")
    assert said in outcome.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("sdc.add_options(parser); parser.add_argument('--more')", "--more --sdc_every --sdc_lambda --sdc_schedule"),
        ("sdc.add_options(parser); parser.set_defaults(ipc=3)", "gone, or not what they were: --ipc"),
    ],
)
def test_an_option_that_is_not_ours_fails_the_claim(options: str, said: str, verified: Verified) -> None:
    outcome, found = verified({**fake.ADDED, OPTIONS: options})

    assert (outcome.code, found["options"], found["weight 0"]) == (1, "fails", "holds")
    assert said in outcome.out


def test_what_does_not_repeat_or_does_not_run_is_unchecked_never_passed(verified: Verified) -> None:
    noisy = fake.SCRIPT.replace("jitter = 0.1 *", "jitter = int.from_bytes(os.urandom(4)) *")
    outcome, found = verified(fake.ADDED, noisy)
    assert (outcome.code, found["weight 0"], found["weight 0.1"]) == (1, "unchecked", "unchecked")
    assert "does not repeat its bits" in outcome.out


def test_an_untouched_script_that_does_not_run_leaves_every_claim_unchecked(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, found = verified(
        fake.ADDED, fake.SCRIPT.replace("from helpers", "import nothing_of_the_kind\nfrom helpers")
    )
    assert (outcome.code, set(found.values())) == (1, {"unchecked"})
    assert "the untouched script did not run" in outcome.out


def test_without_a_patch_no_script_is_run_and_data_are_for_behaviour_alone(sdc: Sdc, fake_upstream: fake.Fake) -> None:
    outcome = sdc("verify", "fake", "--behaviour", "--json")

    assert outcome.code == 1
    assert {claim["outcome"] for claim in claims(outcome)} == {"unchecked"}
    assert "not applied: the clone is absent" in outcome.out
    assert sdc("verify", "fake", "--dataset", "digits").code == 2
