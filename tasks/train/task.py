"""Fine-tuning of the base model, all of it, some of it or an adapter to it; or the base as it is."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ModelError
from pipeline_config.fields import key_values
from pipeline_config.model_schema import Train
from pipeline_config.schema import Config
from tasks.kernels.chat_template import tokenizer_references
from tasks.kernels.models import model_digest
from tasks.kernels.own_loss import own_digests
from tasks.ledger import Output
from tasks.stage import StageInput, stage

if TYPE_CHECKING:
    from tasks.kernels.trainer import Fit
    from tasks.kernels.training_rows import TrainingRows

    Card = Callable[[str, dict[str, Any], dict[str, float]], str]

LEARNING_RATES = {"full": 1e-4, "partial": 1e-4, "lora": 1e-3, "adapter": 1e-3, "prefix": 1e-2, "prompt": 1e-2}
VERA_RATE = 1e-2
ATTACHED = ("adapter", "prefix", "prompt")  # what is learned can't be merged into the weights
HISTORY = "history.json"


def base_model(run: Config) -> str:
    """The model that a run fine-tunes."""
    return (run.train.model if run.train else None) or run.model


def references(config: Train, run: Config, data_dir: Path) -> dict[str, str]:
    """The base model, the tokenizer that is published with it, a teacher, and losses of the user's own.

    Raises:
        ConfigError: layers or modules to train that the model does not have, or a loss that is nowhere.
        ModelError: a model that can't be used.
    """
    _check_targets(config, run)
    taught = {"teacher": model_digest(config.teacher, data_dir)} if config.teacher else {}
    return {
        "model": model_digest(base_model(run), data_dir),
        **taught,
        **own_digests(config.losses, "train"),
        **tokenizer_references(run, data_dir),
    }


@stage(
    "train",
    libraries=("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers", "numba", "numpy"),
    references=references,
)
def train(given: StageInput[Train]) -> Output:
    """Publish `model/` (complete), `adapter/` (LoRA) and the loss curve."""
    from tasks.kernels.chat_template import chat_tokenizer
    from tasks.kernels.model_card import licence_of, model_card, public_name
    from tasks.kernels.models import model_folder
    from tasks.kernels.published import MODEL_FOLDER

    config, name = given.config, base_model(given.run)
    folder = model_folder(name, given.data_dir)
    tokenizer = chat_tokenizer(given.run, given.data_dir)

    def card(summary: str, data: dict[str, Any], metrics: dict[str, float]) -> str:
        settings = key_values(config) | {"seed": given.seed}
        return model_card(
            f"{public_name(name).removeprefix('asset:')}, tuned",
            summary,
            base=public_name(name),
            licence=licence_of(name, Path(folder)),
            data=data,
            settings=settings,
            metrics=metrics,
            alone=config.method not in ATTACHED,
        )

    if config.method == "none":
        from tasks.kernels.publish import link_model

        link_model(Path(folder), tokenizer, given.out / MODEL_FOLDER, card("The base model as it is.", {}, {}))
        return Output({"steps": 0.0}, {"method": "none"})
    return _tune(given, folder, tokenizer, card)


def _check_targets(config: Train, run: Config) -> None:
    """Look the targets up in the weight files, where they are at hand: a model not fetched yet is looked at later."""
    from tasks.kernels.assets import is_asset
    from tasks.kernels.attached import is_attached
    from tasks.kernels.model_check import existing_folder
    from tasks.train.targets import check_lora_targets, chosen_parameters, stored_names

    name = base_model(run)
    folder = None if is_asset(name) or config.method == "none" else existing_folder(name)
    if folder and is_attached(folder):
        raise ModelError(
            f"{name} is a base model with something attached to it that can't be merged",
            place="train.model",
            cure="train from its base model",
        )
    names = stored_names(folder) if folder else []
    if names and config.method == "partial":
        chosen_parameters(names, config.partial)
    elif names and config.method == "lora":
        check_lora_targets(names, config.lora)


def _tune(given: StageInput[Train], folder: str, tokenizer: Any, card: "Card") -> Output:
    import torch
    from transformers import set_seed

    from tasks.kernels.attached import is_prompted
    from tasks.kernels.loss_list import listed_losses, plain_losses
    from tasks.kernels.models import load_causal, model_folder
    from tasks.kernels.objective import Objective, check_packing
    from tasks.kernels.precision import resolve_dtype
    from tasks.kernels.publish import size_mb, stored_dtype, write_model
    from tasks.kernels.published import MODEL_FOLDER
    from tasks.kernels.schedule import shown_rate
    from tasks.kernels.trainer import fit
    from tasks.kernels.training_rows import pad_id, training_rows

    config = given.config
    is_lora = config.method == "lora"
    dtype = resolve_dtype(config.precision, place="train.precision")
    set_seed(given.seed)
    is_frozen = is_lora or config.method in ATTACHED
    start = given.work / "start" if is_lora and config.lora.use_pissa else None
    model = load_causal(folder, dtype if is_frozen and start is None else "float32")
    guide = load_causal(model_folder(config.teacher, given.data_dir), dtype) if config.teacher else None
    is_alone = config.method in ("prefix", "prompt") or (guide is not None and is_prompted(guide))
    settings = config.model_copy(update={"packing": False}) if is_alone else config
    rows = training_rows(
        given.upstream["tokenize"].rows(),
        settings,
        vocabulary=model.get_input_embeddings().num_embeddings,
        place="train",
    )
    if settings.packing:
        check_packing(model)
    rate = learning_rate(config)
    if is_lora:
        from tasks.train.lora import keep_start, with_lora

        model = with_lora(model, config.lora, given.seed)
        if start is not None:
            keep_start(model, start)
    elif config.method == "partial":
        _freeze(model, config)
    elif config.method in ATTACHED:
        from tasks.train.attach import with_attached

        model = with_attached(model, config, tokenizer, given.seed)
    autocast = None if dtype == "float32" else getattr(torch, dtype)
    losses = listed_losses(config, rows, "train") if config.losses else plain_losses(config)
    objective = Objective(model, losses, guide, autocast, place="train.teacher")
    if is_lora and autocast is not None:
        from tasks.train.lora import keep_input_format

        keep_input_format(model)
    fitted = fit(
        model,
        objective,
        rows.train,
        rows.validation,
        settings,
        learning_rate=rate,
        seed=given.seed,
        pad=pad_id(tokenizer),
        work=given.work,
        label="train",
        early_stopping=config.early_stopping,
    )
    counted = _counted(model)
    text = card(_summary(config, rate), rows.facts, _repeatable(fitted))
    metrics = dict(fitted.metrics)
    if is_lora:
        model, metrics["merge_max_logit_difference"] = _merged(given, folder, model, rows, text, start)
    if config.method in ATTACHED:
        _publish_attached(given, folder, model, tokenizer, text)
    else:
        write_model(model.to(stored_dtype(folder)), tokenizer, given.out / MODEL_FOLDER, text)
    (given.out / HISTORY).write_text(json.dumps(fitted.history, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    metrics["size_mb"] = size_mb(given.out / MODEL_FOLDER)
    facts = {
        "method": config.method,
        "learning_rate": shown_rate(config, rate),
        "precision": dtype,
        **counted,
        **rows.facts,
    }
    return Output(metrics, {**facts, "diagnosis": fitted.diagnosis.facts})


def learning_rate(config: Train) -> float:
    """The learning rate of a configuration, chosen by method where it says `auto`."""
    if config.learning_rate != "auto":
        return config.learning_rate
    return VERA_RATE if config.method == "lora" and config.lora.use_vera else LEARNING_RATES[config.method]


def _publish_attached(given: StageInput[Train], folder: str, model: Any, tokenizer: Any, card: str) -> None:
    from tasks.kernels.attached import seal
    from tasks.kernels.model_card import public_name
    from tasks.kernels.publish import link_model
    from tasks.kernels.published import ADAPTER_FOLDER, MODEL_FOLDER
    from tasks.train.attach import save_attached

    adapter = given.out / ADAPTER_FOLDER
    save_attached(model, given.config, adapter, public_name(base_model(given.run)), card)
    link_model(Path(folder), tokenizer, given.out / MODEL_FOLDER, card)
    seal(given.out / MODEL_FOLDER, adapter)


def _merged(
    given: StageInput[Train], folder: str, model: Any, rows: "TrainingRows", card: str, start: Path | None
) -> tuple[Any, float]:
    from tasks.kernels.model_card import public_name
    from tasks.kernels.publish import write_adapter
    from tasks.kernels.published import ADAPTER_FOLDER
    from tasks.train.lora import merge

    adapter = given.out / ADAPTER_FOLDER
    write_adapter(model, adapter, public_name(base_model(given.run)), card, start)
    merged = merge(folder, adapter, rows.train[0].ids.tolist())
    return merged.model, merged.difference


def _freeze(model: Any, config: Train) -> None:
    """What does not learn gets no gradient, and so neither weight decay nor an optimiser's state."""
    from tasks.train.targets import chosen_parameters

    learning = chosen_parameters([name for name, _ in model.named_parameters()], config.partial)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in learning)


def _counted(model: Any) -> dict[str, int]:
    parameters = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "parameters": sum(size for size, _ in parameters),
        "trained_parameters": sum(size for size, learns in parameters if learns),
    }


def _repeatable(fitted: "Fit") -> dict[str, float]:
    """The metrics that the same run gives again: no speeds."""
    return {name: value for name, value in fitted.metrics.items() if name != "tokens_per_second"}


def _summary(config: Train, rate: float) -> str:
    if config.method == "full":
        return f"All weights fine-tuned, learning rate {rate:g}."
    if config.method == "partial":
        what = [f"layers {config.partial.layers}"] * (config.partial.layers is not None) + config.partial.modules
        return f"Fine-tuned in part ({', '.join(what)}), learning rate {rate:g}; the other weights are the base's."
    if config.method in ATTACHED:
        added = f"{config.adapter.placement} adapters" if config.method == "adapter" else f"a learned {config.method}"
        return (
            f"The base model with {added}, learning rate {rate:g}. What was learned is in `adapter/` and can't be "
            "merged: winnow loads both together, `from_pretrained` refuses this folder."
        )
    lora = config.lora
    variants = {"rsLoRA": lora.use_rslora, "DoRA": lora.use_dora, "PiSSA": lora.use_pissa, "VeRA": lora.use_vera}
    variants["LoRA+"] = lora.loraplus_lr_ratio > 1
    name = ", ".join(name for name, on in variants.items() if on) or "LoRA"
    return (
        f"Fine-tuned with {name} (rank {lora.lora_r}, alpha {lora.lora_alpha}, learning rate {rate:g}), "
        "merged in float32."
    )
