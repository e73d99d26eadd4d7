"""The diagnosis reads curves as a person with a finger on the chart would."""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.dashboard import stage_markdown
from tasks.artifact import Artifact
from tasks.kernels.diagnosis import curve_metrics, diagnose, told
from tasks.report.training import diagnoses
from tests.toy_fit import drawn, toy_examples, toy_fit

STEPS = 80


def falling(step: float) -> float:
    return 1.0 + 2.0 * math.exp(-step / 12)


def lines(
    training: Callable[[float], float],
    validation: Callable[[float], float] | None = None,
    noise: float = 0.0,
    steps: int = STEPS,
    every: int = 10,
    seed: int = 0,
) -> list[dict[str, float]]:
    draw = random.Random(seed)
    found = [{"step": n, "loss": max(0.0, training(n) + draw.gauss(0, noise))} for n in range(1, steps + 1)]
    if validation:
        found += [{"step": n, "eval_loss": validation(n)} for n in range(every, steps + 1, every)]
    return found


CURVES: dict[str, tuple[str, list[dict[str, float]]]] = {
    "falls and stays": ("healthy", lines(falling, lambda n: falling(n) + 0.1, noise=0.05)),
    "falls and stays, no validation": ("healthy", lines(falling, noise=0.05)),
    "four validations": ("healthy", lines(falling, lambda n: falling(n) + 0.1, every=20)),
    "validation turns": ("over-fitting", lines(falling, lambda n: 1.5 + ((n - 30) / 40) ** 2, noise=0.05)),
    "validation turns, memorised": ("over-fitting", lines(lambda n: 3 * math.exp(-n / 9), lambda n: 2 + n / 60)),
    "turns at the last measurement": ("over-fitting", lines(falling, lambda n: falling(n) + (n == 80) * 0.2)),
    "still falling": ("under-fitting", lines(lambda n: 4 - n / 40, lambda n: 4.1 - n / 40, noise=0.05)),
    "still falling, no validation": ("under-fitting", lines(lambda n: 4 - n / 40, noise=0.05)),
    "hardly falls": ("under-fitting", lines(lambda n: 3 - n / 4000, lambda n: 3.1 - n / 4000, noise=0.02)),
    "rises": ("diverging", lines(lambda n: 2 + n / 20, lambda n: 2 + n / 20, noise=0.05)),
    "hard batches came last": ("healthy", lines(lambda n: falling(n) + (0.4 if n > 68 else 0), falling)),
    "blows up late": ("diverging", lines(lambda n: falling(n) + max(0, n - 60) * 0.3, noise=0.05)),
    "scatters": ("noisy", lines(lambda n: 2.0, noise=0.8)),
    "scatters more than it falls": ("noisy", lines(lambda n: 2.0 - n / 800, noise=0.4)),
    "validation goes up and down": ("noisy", lines(falling, lambda n: 2 + 0.3 * (n // 10 % 2))),
    "nothing there": ("too short", []),
    "three steps": ("too short", lines(falling, steps=3)),
    "learned by heart": ("healthy", lines(lambda n: 2 * math.exp(-n / 5), lambda n: 2 * math.exp(-n / 5))),
}


@pytest.mark.parametrize("case", CURVES)
def test_what_is_seen(case: str) -> None:
    expected, history = CURVES[case]
    found = diagnose(history)
    assert found.verdict == expected, found
    assert found.seen.endswith(".")
    assert found.advice.endswith(".")


@pytest.mark.parametrize("seed", range(20))
def test_the_noise_of_single_steps_is_no_verdict(seed: int) -> None:
    """A healthy run whose steps scatter by a tenth is healthy whatever the draw."""
    assert diagnose(lines(falling, lambda n: falling(n) + 0.1, noise=0.12, seed=seed)).verdict == "healthy"


def test_over_fitting_names_the_step_and_says_what_to_type() -> None:
    history = CURVES["validation turns"][1]
    found = diagnose(history)
    assert found.step == 30
    assert "max_steps: 30" in found.advice
    assert "checkpoint of that step was taken" in diagnose(history, restored=True).advice
    assert curve_metrics(history, found) == {
        "overfit_from_step": 30.0,
        "eval_loss_rise": pytest.approx((50 / 40) ** 2 / 1.5),
    }


@pytest.mark.parametrize(
    ("every", "advised"),
    [(STEPS + 1, "Hold out validation rows"), (STEPS, "smaller eval_steps"), (10, "Nothing needs")],
)
def test_advice_knows_how_often_validation_was_measured(every: int, advised: str) -> None:
    assert advised in diagnose(lines(falling, falling, every=every)).advice


def test_two_steps_that_rise_are_not_called_healthy() -> None:
    found = diagnose(lines(lambda n: 2.0 + n, lambda n: 2.0, steps=2, every=1))
    assert found.verdict == "too short"
    assert "training loss rose from 3.00 to 4.00" in found.seen


def test_scale_changes_no_verdict() -> None:
    """Losses in other units (a mixed loss, bits for nats) are judged alike."""
    for expected, history in CURVES.values():
        scaled = [{name: value if name == "step" else 3 * value for name, value in line.items()} for line in history]
        assert diagnose(scaled).verdict == expected


def test_losses_that_are_no_numbers_are_left_out() -> None:
    history = [*CURVES["falls and stays"][1], {"step": 81, "loss": math.nan}, {"step": 81, "eval_loss": math.inf}]
    assert diagnose(history).verdict == "healthy"


def test_report_and_dashboard_say_it(tmp_path: Path) -> None:
    found = diagnose(CURVES["validation turns"][1])
    rows: dict[str, Any] = {"in": 1, "out": 1, "removed": {}, "changed": {}, "added": {}, "quarantined": {}}
    common = {"rows": rows, "metrics": {}, "seconds": 1.0, "peak_rss_mb": 1.0, "key": "0" * 64}
    tuned = {"stage": "train", "facts": {"diagnosis": found.facts}, **common}
    students = {"stage": "distill", "facts": {"small": {"diagnosis": found.facts}}, **common}
    assert told(tuned["facts"])[0][0] == ""
    assert f"**over-fitting.** {found.seen} {found.advice}" in stage_markdown(tuned, "")
    assert "**small: over-fitting.**" in stage_markdown(students, "")
    upstream = {"train": Artifact(tmp_path, tuned), "distill": Artifact(tmp_path, students)}
    assert [line[:2] for line in diagnoses(upstream)] == [("tuned", "over-fitting"), ("small", "over-fitting")]
    assert diagnoses(upstream)[0][2:] == (found.seen, found.advice)


@pytest.mark.usefixtures("one_thread")
def test_a_run_made_to_over_fit_is_seen_to(tmp_path: Path) -> None:
    """Sixteen answers drawn at random can be learned by heart, and say nothing of eight others."""
    fitted = toy_fit(
        tmp_path,
        toy_examples(drawn(16, 1)),
        toy_examples(drawn(8, 2)),
        max_steps=80,
        eval_steps=10,
    )
    assert fitted.diagnosis.verdict == "over-fitting"
    assert fitted.metrics["overfit_from_step"] == fitted.diagnosis.step < 80
    assert fitted.metrics["eval_loss_rise"] > 0.1
