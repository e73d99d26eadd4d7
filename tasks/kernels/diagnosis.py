"""What the loss curves of a training run say, in words, and what to change.

A person who looks at curves asks the same few questions every time: did the training loss blow up, did the validation
loss turn, is it all noise, was there more to learn? They are asked here in that order, by rules that a reader can
follow with a finger on the chart. Two curves can't say more than that: whether the model is good is `evaluate`'s to
tell, and a validation loss that never turned is no proof that nothing was memorised.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

Verdict = Literal["healthy", "over-fitting", "under-fitting", "diverging", "noisy", "too short"]
Points = list[tuple[float, float]]  # step, loss

_FEWEST_STEPS = 6  # training losses below which a curve has no shape
_WINDOWS = 8  # a level is the mean of an eighth of the curve
_TURNED = 0.01  # share of the lowest validation loss by which a later one is higher
_LEAST_RISE = 0.005  # nats; near a loss of 0 a share means nothing
_STEADY = 0.5  # net rise by all movement since the lowest: below it the curve wanders
_BLOWN = 0.2  # share of the lowest level by which a diverging training loss ends higher
_NOISE = 0.25  # standard deviation of single steps around the level, as a share of it
_SOME_NOISE = 0.1  # the same, where it hides all that was learned
_WAVES = 0.03  # share of the validation loss by which it goes up between two measurements
_HARDLY = 0.03  # share of its first level by which a training loss falls that has hardly learned
_STILL = 0.25  # share of the whole fall that comes in the last third of a curve that still falls
_STILL_LEAST = 0.02  # and its share of the loss


@dataclass(frozen=True)
class Diagnosis:
    """What is seen and what to do.

    Attributes:
        seen: a sentence with the numbers that the verdict rests on.
        advice: what to change; configuration keys are those of train and of a student.
        step: from which on, for over-fitting and diverging.
    """

    verdict: Verdict
    seen: str
    advice: str
    step: int | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


def diagnose(history: Sequence[Mapping[str, float]], *, restored: bool = False) -> Diagnosis:
    """Judge the curves of one run.

    Args:
        history: one line a log: `step` and `loss`, or `step` and `eval_loss`; nats per learned token.
        restored: whether the checkpoint of the lowest validation loss was taken in the end.
    """
    training, validation = _points(history, "loss"), _points(history, "eval_loss")
    if len(training) < _FEWEST_STEPS and len(validation) < 2:
        return Diagnosis(
            "too short",
            f"{_count(len(training), 'training loss', 'training losses')} and "
            f"{_count(len(validation), 'validation loss', 'validation losses')}: too few to see a shape.",
            "Train for more steps, or lower eval_steps.",
        )
    found = _diverging(training, validation) or _over_fitting(training, validation, restored)
    return (
        found
        or _noisy(training, validation)
        or _under_fitting(training, validation)
        or _unremarkable(training, validation)
    )


def curve_metrics(history: Sequence[Mapping[str, float]], found: Diagnosis) -> dict[str, float]:
    """The diagnosis as numbers, which a gate can bound.

    Returns:
        where there are two validation losses or more: `overfit_from_step` (0: not seen) and `eval_loss_rise`, the last
        validation loss above the lowest, as a share of it.
    """
    values = [loss for _, loss in _points(history, "eval_loss")]
    if len(values) < 2:
        return {}
    rise = (values[-1] - min(values)) / max(min(values), 1e-9)
    return {
        "overfit_from_step": float(found.step or 0) if found.verdict == "over-fitting" else 0.0,
        "eval_loss_rise": rise,
    }


def told(facts: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """What a stage's facts say of its training: model ("" for the stage's only one), verdict, what is seen, advice."""
    inner = {"": facts, **{name: each for name, each in facts.items() if isinstance(each, Mapping)}}
    return [
        (name, str(found["verdict"]), str(found["seen"]), str(found["advice"]))
        for name, each in inner.items()
        if isinstance(found := each.get("diagnosis"), Mapping)
    ]


def _diverging(training: Points, validation: Points) -> Diagnosis | None:
    """The level of the training loss ends well above its lowest, and not by the noise of single steps.

    The validation loss is measured on the same rows each time: while it is at its lowest, harder batches came last.
    """
    if len(training) < _FEWEST_STEPS:
        return None
    levels, noise = _levels(training), _noise(training)
    lowest = min(levels, key=lambda point: point[1])
    rise = levels[-1][1] - lowest[1]
    window = max(1, len(training) // _WINDOWS)
    if rise < _BLOWN * lowest[1] or rise < 3 * noise / math.sqrt(window) or rise < _LEAST_RISE:
        return None
    if rise < _STEADY * _movement([value for step, value in levels if step >= lowest[0]]):
        return None
    if len(validation) > 1 and validation[-1][1] <= (1 + _TURNED) * min(value for _, value in validation):
        return None
    return Diagnosis(
        "diverging",
        f"The training loss rises from step {lowest[0]:.0f} on, from {lowest[1]:.2f} to {levels[-1][1]:.2f}.",
        "Lower learning_rate (by three to ten times), lengthen warmup_ratio, keep max_grad_norm at 1 or below.",
        int(lowest[0]),
    )


def _over_fitting(training: Points, validation: Points, restored: bool) -> Diagnosis | None:
    """The validation loss has turned: it ends above its lowest, and went there without wandering."""
    if len(validation) < 2:
        return None
    place, (step, lowest) = min(enumerate(validation), key=lambda each: each[1][1])
    values = [value for _, value in validation]
    rise = values[-1] - lowest
    if rise < max(_TURNED * lowest, _LEAST_RISE) or rise < _STEADY * _movement(values[place:]):
        return None
    if place == len(values) - 2 and rise <= max([b - a for a, b in _pairs(values[: place + 1])], default=0.0):
        return None  # one measurement up, and it had gone up as far before
    after = [value for at, value in training if at > step]
    fell = f" while the training loss went on to {fmean(after[-len(after) // _WINDOWS :]):.2f}" if after else ""
    kept = "The checkpoint of that step was taken. " if restored else f"Set early_stopping, or max_steps: {step:.0f}. "
    return Diagnosis(
        "over-fitting",
        f"The validation loss is lowest at step {step:.0f} ({lowest:.2f}) and ends at {values[-1]:.2f}{fell}.",
        f"{kept}More or more varied rows help most; then a lower learning_rate, weight_decay, dropout, or LoRA with a "
        "smaller rank.",
        int(step),
    )


def _noisy(training: Points, validation: Points) -> Diagnosis | None:
    """Single steps scatter so far that the curve can't be read, or the validation loss goes up and down."""
    if len(training) >= _FEWEST_STEPS:
        levels, noise = _levels(training), _noise(training)
        level = fmean(value for _, value in levels)
        fall = levels[0][1] - levels[-1][1]
        if noise > _NOISE * level or (noise > _SOME_NOISE * level and noise > abs(fall)):
            return Diagnosis(
                "noisy",
                f"The training loss of single steps scatters by {noise:.2f} around its level of {level:.2f}.",
                "Raise gradient_accumulation_steps or per_device_train_batch_size, or lower learning_rate.",
            )
    values = [value for _, value in validation]
    up = max([b - a for a, b in _pairs(values)], default=0.0)
    if up > _WAVES * fmean(values or [1.0]) and abs(values[-1] - values[0]) < _STEADY * _movement(values):
        return Diagnosis(
            "noisy",
            f"The validation loss goes up and down, by up to {up:.2f}, from {min(values):.2f} to {max(values):.2f}.",
            "Lower learning_rate, validate on more rows (max_eval_examples), or raise gradient_accumulation_steps.",
        )
    return None


def _under_fitting(training: Points, validation: Points) -> Diagnosis | None:
    """Hardly anything was learned, or the loss was still falling when training ended."""
    if len(training) >= _FEWEST_STEPS:
        levels = _levels(training)
        first, last = levels[0][1], levels[-1][1]
        if first - last < _HARDLY * first and first > _LEAST_RISE:
            return Diagnosis(
                "under-fitting",
                f"The training loss has hardly fallen: from {first:.2f} to {last:.2f}.",
                "Raise learning_rate, train for more steps, or give the method more to move (a higher lora_r, more "
                "target modules, method: full).",
            )
    curve, name = (validation, "validation") if len(validation) > 2 else (_levels(training), "training")
    if len(curve) < 3:
        return None
    start, end = curve[0][0], curve[-1][0]
    third = _at(curve, end - (end - start) / 3)
    fall, late = curve[0][1] - curve[-1][1], third - curve[-1][1]
    if late < _STILL * fall or late < _STILL_LEAST * curve[-1][1] or late < _LEAST_RISE:
        return None
    return Diagnosis(
        "under-fitting",
        f"The {name} loss is still falling at the end: by {late:.2f} in the last third of the steps, to "
        f"{curve[-1][1]:.2f}.",
        "Train longer (num_train_epochs or max_steps), or raise learning_rate.",
    )


def _unremarkable(training: Points, validation: Points) -> Diagnosis:
    """Healthy, or too short to be called so."""
    parts = []
    if len(training) >= 2:
        levels = _levels(training)
        moved = "rose" if levels[-1][1] > levels[0][1] else "fell"
        parts.append(f"the training loss {moved} from {levels[0][1]:.2f} to {levels[-1][1]:.2f}")
    if len(validation) >= 2:
        parts.append(f"the validation loss went from {validation[0][1]:.2f} to {validation[-1][1]:.2f} without turning")
    said = " and ".join(parts) or "nothing stands out"
    seen = f"{said[0].upper()}{said[1:]}."
    if len(training) < _FEWEST_STEPS:
        return Diagnosis("too short", seen, "Too few steps to see a shape; train for more.")
    advice = (
        "Hold out validation rows to see over-fitting.",
        "A single validation loss shows no turn; a smaller eval_steps gives more.",
        "Nothing needs to change.",
    )[min(len(validation), 2)]
    return Diagnosis("healthy", seen, advice)


def _points(history: Sequence[Mapping[str, float]], name: str) -> Points:
    """Step and value of every finite loss; of a step that was measured twice the last."""
    found = {line["step"]: line[name] for line in history if name in line and math.isfinite(line[name])}
    return sorted(found.items())


def _levels(points: Points) -> Points:
    """The curve without the noise of single steps: means of consecutive windows, at their middle steps."""
    size = max(1, len(points) // _WINDOWS)
    parts = [points[start : start + size] for start in range(0, len(points) - size + 1, size)]
    parts[-1] = points[-size:]
    return [(part[len(part) // 2][0], fmean(value for _, value in part)) for part in parts]


def _noise(points: Points) -> float:
    """Standard deviation of single steps: of their second differences, which a trend has no part in, over √6."""
    values = [value for _, value in points]
    bends = [a - 2 * b + c for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    middle = sorted(abs(bend) for bend in bends)[len(bends) // 2] if bends else 0.0
    return middle * 1.4826 / math.sqrt(6)  # by the median, which one step that jumps does not move


def _movement(values: Sequence[float]) -> float:
    return math.fsum(abs(b - a) for a, b in _pairs(values))


def _pairs(values: Sequence[float]) -> list[tuple[float, float]]:
    return list(pairwise(values))


def _at(curve: Points, step: float) -> float:
    """The curve between its points, straight."""
    for (left, low), (right, high) in pairwise(curve):
        if left <= step <= right:
            return low + (high - low) * (step - left) / (right - left)
    return curve[-1][1]


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
