"""Loss curves of everything that was trained, from the `history.json` that train and distill publish."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.kernels.diagnosis import told
from tasks.report.charts import curves
from tasks.report.drawing import Chart
from tasks.report.text import number, shown, words

if TYPE_CHECKING:
    from tasks.artifact import Artifact

HISTORY = "history.json"
STAGES = ("train", "distill")
_UNIT = {
    "train": "nats per learned token",
    "distill": "nats per learned token, in training mixed with the distance to the teacher",
}
_MOST_POINTS = 400
_NO_PART = {"step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm", "tokens", "examples"}
_FACTS = ("method", "learning_rate", "precision", "parameters", "trained_parameters")

Line = Mapping[str, float]
Points = list[tuple[float, float]]  # step, value


@dataclass(frozen=True)
class Losses:
    """How a model's losses went; `stage`: train or distill; `parts`: of the training loss, each without its weight."""

    stage: str
    model: str
    training: Points
    validation: Points
    parts: Mapping[str, Points] = field(default_factory=dict)


def losses(upstream: "Mapping[str, Artifact]") -> list[Losses]:
    """The losses of every model that was trained, in the order of the stages."""
    found: list[Losses] = []
    for stage in STAGES:
        if stage not in upstream:
            continue
        root = upstream[stage].path
        for path in sorted(root.rglob(HISTORY)):
            lines = _read(path)
            name = "tuned" if stage == "train" else _model_name(path, root)
            parts = {shown(each, 40): _points(lines, each) for each in _part_names(lines)}
            found.append(Losses(stage, shown(name, 40), _points(lines, "loss"), _points(lines, "eval_loss"), parts))
    return found


def loss_charts(found: Sequence[Losses]) -> list[Chart]:
    """Training and validation loss over the steps: one chart for each model that was trained."""
    charts: list[Chart] = []
    for model in found:
        series = {"training": model.training, "validation": model.validation}
        series = {each: points for each, points in series.items() if points}
        if any(len(points) > 1 for points in series.values()):
            note = "; ".join(f"{each} {_from_to(points)}" for each, points in series.items())
            place = f"loss-{model.stage}-{len(charts)}"
            charts.append(curves(place, f"Loss of {model.model}", f"{note}; {_UNIT[model.stage]}.", series, "loss"))
            charts += _part_charts(model, len(charts))
    return charts


def _part_charts(model: Losses, before: int) -> list[Chart]:
    """What a loss is the weighted sum of, where that is more than one thing; three in a chart."""
    names = sorted(name for name, points in model.parts.items() if len(points) > 1)
    chosen = [names[start : start + 3] for start in range(0, len(names), 3)] if len(model.parts) > 1 else []
    charts = []
    for place, group in enumerate(chosen, before):
        series = {words(name): model.parts[name] for name in group}
        note = "; ".join(f"{each} {_from_to(points)}" for each, points in series.items())
        title = f"Parts of the training loss of {model.model}"
        charts.append(curves(f"parts-{model.stage}-{place}", title, f"{note}; without their weights.", series, "value"))
    return charts


def training_facts(upstream: "Mapping[str, Artifact]") -> list[tuple[str, list[tuple[str, str]]]]:
    """Stage → what it says of its training, name and value as text."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for stage in STAGES:
        if stage in upstream:
            manifest = upstream[stage].manifest
            facts = [(words(name), _value(manifest["facts"][name])) for name in _FACTS if name in manifest["facts"]]
            facts += [(words(name), _value(value)) for name, value in sorted(manifest["metrics"].items())]
            if facts:
                found.append((stage, facts))
    return found


def diagnoses(upstream: "Mapping[str, Artifact]") -> list[tuple[str, str, str, str]]:
    """What the loss curves say: model, verdict, what is seen, what to change."""
    found = []
    for stage in STAGES:
        if stage in upstream:
            for model, *said in told(upstream[stage].manifest.get("facts", {})):
                verdict, seen, advice = (shown(each, 400) for each in said)
                found.append((shown(model, 40) or ("tuned" if stage == "train" else stage), verdict, seen, advice))
    return found


def _part_names(lines: Iterable[Line]) -> list[str]:
    return sorted({name for line in lines if "loss" in line for name in line} - _NO_PART)


def _read(path: Path) -> list[Line]:
    """The lines of a history; a file in another form has none."""
    try:
        lines: Any = json.loads(path.read_text("utf-8"))
    except ValueError:
        return []
    return [line for line in lines if isinstance(line, dict) and "step" in line] if isinstance(lines, list) else []


def _points(lines: Iterable[Line], name: str) -> Points:
    """Step and value; of very long histories every n-th point and the last."""
    points = [(line["step"], line[name]) for line in lines if math.isfinite(line.get(name, math.nan))]
    every = -(-len(points) // _MOST_POINTS) or 1
    return points[::every] + (points[-1:] if points and (len(points) - 1) % every else [])


def _from_to(points: Points) -> str:
    if len(points) == 1:
        return f"{number(points[0][1], 2)}, measured once at step {number(points[0][0])}"
    return f"{number(points[0][1], 2)} to {number(points[-1][1], 2)}"


def _model_name(path: Path, root: Path) -> str:
    return path.parent.name if path.parent != root else "the student"


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown(value, 60)
    return number(value) if float(value).is_integer() else f"{value:.4g}"
