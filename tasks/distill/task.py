"""Teacher to students: layers left out, then taught by labels and the teacher's distribution."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.fields import key_values
from pipeline_config.model_schema import Distill, Student
from pipeline_config.schema import Config
from tasks.kernels.own_loss import own_digests
from tasks.ledger import Output
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    import torch

    from tasks.kernels.training_rows import TrainingRows

LEARNING_RATE = 1e-4  # all weights are trained
HISTORY = "history.json"
_CALIBRATION_ROWS = 1  # packed rows, some 500 tokens


def references(config: Distill, run: Config, data_dir: Path) -> dict[str, str]:
    """Losses of the user's own.

    Raises:
        ConfigError: a loss that is nowhere.
    """
    found: dict[str, str] = {}
    for name, student in config.students.items():
        found |= own_digests(student.losses, f"distill.{name}")
    return found


@stage(
    "distill",
    libraries=("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numba", "numpy"),
    references=references,
)
def distill(given: StageInput[Distill]) -> Output:
    """Publish a folder for each student, and its loss curve in it."""
    metrics: dict[str, float] = {}
    facts: dict[str, Any] = {}
    for name, student in given.config.students.items():
        found = _teach(given, name, student)
        metrics |= {f"{name}.{key}": value for key, value in found.metrics.items()}
        facts[name] = found.facts
    return Output(metrics, facts)


def _teach(given: StageInput[Distill], name: str, student: Student) -> Output:
    """Make one student and publish it; its tokenizer and chat template are its teacher's."""
    import torch

    from tasks.kernels.attached import is_prompted
    from tasks.kernels.loss_list import listed_losses, taught_losses
    from tasks.kernels.models import load_causal, load_tokenizer
    from tasks.kernels.objective import Objective
    from tasks.kernels.precision import resolve_dtype
    from tasks.kernels.publish import size_mb, stored_dtype, write_model
    from tasks.kernels.schedule import shown_rate
    from tasks.kernels.trainer import fit
    from tasks.kernels.training_rows import pad_id, training_rows

    place = f"distill.{name}"
    folder = _teacher_folder(given, student, place)
    tokenizer, model = load_tokenizer(str(folder)), load_causal(str(folder), "float32", whole=False)
    vocabulary = model.get_input_embeddings().num_embeddings
    dtype = resolve_dtype(student.precision, place=f"{place}.precision")
    guide = load_causal(str(folder), dtype)
    if is_prompted(guide):
        student = student.model_copy(update={"packing": False})
    rows = training_rows(given.upstream["tokenize"].rows(), student, vocabulary=vocabulary, place=place)
    autocast = None if dtype == "float32" else getattr(torch, dtype)
    rate = LEARNING_RATE if student.learning_rate == "auto" else student.learning_rate
    facts: dict[str, Any] = {
        "method": "distill",
        "learning_rate": shown_rate(student, rate),
        "precision": dtype,
        **rows.facts,
    }
    facts |= _shrink(model, student, rows, autocast, pad_id(tokenizer), place)
    listed = listed_losses(student, rows, place) if student.losses else None
    losses = listed or taught_losses(student, student.alpha, student.temperature)
    fitted = fit(
        model,
        Objective(model, losses, guide, autocast, place),
        rows.train,
        rows.validation,
        student,
        learning_rate=rate,
        seed=given.seed,
        pad=pad_id(tokenizer),
        work=given.work / name,
        label=place,
    )
    facts["diagnosis"] = fitted.diagnosis.facts
    card = _card(given, name, student, folder, facts, fitted.metrics)
    write_model(model.to(stored_dtype(str(folder))), tokenizer, given.out / name, card)
    history = json.dumps(fitted.history, indent=0, sort_keys=True)
    (given.out / name / HISTORY).write_text(history + "\n", encoding="utf-8")
    return Output({**fitted.metrics, "size_mb": size_mb(given.out / name)}, facts)


def _shrink(
    model: Any, student: Student, rows: "TrainingRows", autocast: "torch.dtype | None", pad: int, place: str
) -> dict[str, Any]:
    """Leave layers out of the teacher's copy, in place; give what was done."""
    import torch

    from tasks.distill.layers import count_kept, leave_out
    from tasks.kernels.objective import check_packing
    from tasks.kernels.packing import collate

    before = model.config.num_hidden_layers
    kept = count_kept(student.layers, before, place=f"{place}.layers")
    if student.packing:
        check_packing(model)
    sample = collate([rows.train[n] for n in range(min(_CALIBRATION_ROWS, len(rows.train)))], pad)
    with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        gone = leave_out(model, kept, sample)
    return {
        "layers": kept,
        "teacher_layers": before,
        "layers_left_out": sorted(gone),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _teacher_folder(given: StageInput[Distill], student: Student, place: str) -> Path:
    """The tuned model, or a student taught before in this stage."""
    from tasks.kernels.published import teacher_folder

    earlier = given.out / student.from_
    if (earlier / "config.json").is_file():
        return earlier
    return teacher_folder(student.from_, given.upstream, place=f"{place}.from")


def _taught_by(student: Student) -> str:
    if not student.losses:
        return (
            f"the labels and the teacher's distribution (temperature {student.temperature:g}, weight {student.alpha:g})"
        )
    return ", ".join(f"{loss.shown} (weight {loss.weight:g})" for loss in student.losses)


def _card(
    given: StageInput[Distill],
    name: str,
    student: Student,
    folder: Path,
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> str:
    from tasks.kernels.model_card import base_of, licence_of, model_card

    counts = ("train_examples", "train_tokens", "learned_tokens", "validation_examples", "parameters")
    return model_card(
        name,
        f"A student of {facts['layers']} of its teacher's {facts['teacher_layers']} layers, taught by "
        f"{_taught_by(student)}.",
        base=base_of(folder),
        licence=licence_of(str(folder), folder),
        data={key: facts[key] for key in counts},
        settings=key_values(student) | {"seed": given.seed},
        metrics={key: value for key, value in metrics.items() if key != "tokens_per_second"},
    )
