"""The sections of the model stages, `train` to `report`, and every default they have."""

import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from pipeline_config.fields import Section, Strict, neutral
from pipeline_config.loss_schema import DIVERGENCES, Loss, check_losses

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Schedule = Literal["linear", "cosine", "constant", "constant_with_warmup", "reduce_lr_on_plateau"]


HIGHEST_RATE = 10.0  # no optimiser here trains anything at it
TRAIN = "train"  # what `from` calls the tuned model
RESERVED = ("base", "tuned", TRAIN)  # models that have these names already


def _check_names(models: Iterable[str]) -> None:
    """A model's name is a folder, and stands for that model alone."""
    for name in models:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise ValueError(f"{name!r} can't be a model's name: use letters, digits, '.', '-' and '_'")
        if name in RESERVED:
            raise ValueError(f"{name!r} is the name of another model; there are: {', '.join(RESERVED)}")


class Lora(Strict):
    """Low-rank adaptation (Hu et al., 2021)."""

    lora_r: int = Field(16, ge=1)
    lora_alpha: int = Field(32, ge=1)
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    lora_target: str | list[str] = Field("all-linear", description="module names, or all-linear")
    use_rslora: bool = Field(False, description="scale by alpha / sqrt(r), so that large ranks learn too (rsLoRA)")
    use_dora: bool = Field(False, description="learn each output's length apart from its direction (DoRA)")
    use_pissa: bool = Field(False, description="start from the weights' largest singular vectors (PiSSA)")
    use_vera: bool = Field(
        False,
        description="random matrices shared by all layers, two vectors of each learn (VeRA); takes ranks like 256",
    )
    loraplus_lr_ratio: float = Field(1.0, ge=1, description="the second matrix learns so many times faster (LoRA+)")

    @model_validator(mode="after")
    def _variants_that_go_together(self) -> "Lora":
        if self.use_vera:
            others = {"use_rslora": self.use_rslora, "use_dora": self.use_dora, "use_pissa": self.use_pissa}
            others["loraplus_lr_ratio"] = self.loraplus_lr_ratio != 1
            if clash := [name for name, on in others.items() if on]:
                raise ValueError(f"use_vera has no matrices of its own to learn: leave out {', '.join(clash)}")
        if self.use_pissa and self.use_dora:
            raise ValueError("use_pissa and use_dora can't be had together: choose one")
        return self


class Partial(Strict):
    """Some parts of the model learn, the others stay as they are."""

    layers: str | int | None = Field(
        None, description="decoder layers that learn, counted from 0: 20-29; 0,4-6; first-2; last-4 (null: all)"
    )
    modules: list[str] = Field(
        default_factory=list,
        description="modules that learn: names or patterns of them (mlp, *norm*, re:layers.[02].mlp); of those layers, "
        "where layers are given, else of the whole model (empty: all)",
    )


class Adapter(Strict):
    """Bottleneck adapters (Houlsby et al., 2019; Pfeiffer et al., 2021)."""

    placement: Literal["pfeiffer", "houlsby"] = Field(
        "pfeiffer", description="behind each feed-forward part; houlsby: behind attention too"
    )
    reduction_factor: int = Field(16, ge=1, description="how many times narrower than the model it is inside")
    adapter_dropout: float = Field(0.0, ge=0, lt=1)


class Prompt(Strict):
    """What prefix tuning and prompt tuning put before every example; examples are not packed with them."""

    num_virtual_tokens: int = Field(16, ge=1)
    init_text: str = Field(
        "Answer the request as well as you can.", min_length=1, description="text to start from, repeated or cut to fit"
    )


class EarlyStopping(Strict):
    """Stop when the validation loss no longer falls."""

    rule: Literal["patience", "gl", "up"] = Field(
        "patience",
        description="patience: evaluations without improvement; gl: the loss is gl_alpha per cent above its lowest; "
        "up: it rose in `patience` successive evaluations (Prechelt, 1998)",
    )
    patience: int = Field(3, ge=1, description="evaluations; of no concern to gl")
    min_delta: float = Field(0.0, ge=0, description="nats by which a loss must be lower to count as improvement")
    gl_alpha: float = Field(5.0, gt=0, description="per cent, for gl")


class Optimisation(Strict):
    """What train and distill share."""

    learning_rate: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="auto: 1e-4 where weights of the model learn; ten times that for LoRA and adapters, a hundred "
        "times for VeRA, prefix and prompt",
    )
    losses: list[Loss] = Field(
        default_factory=list, description="summed by weight (empty: cross_entropy; in distill what alpha says)"
    )
    lr_scheduler_type: Schedule = "cosine"
    plateau_patience: int = Field(
        2, ge=1, description="reduce_lr_on_plateau: evaluations without a lower loss before the rate is lowered"
    )
    plateau_factor: float = Field(0.5, gt=0, lt=1, description="reduce_lr_on_plateau: what the rate is multiplied by")
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    num_train_epochs: float = Field(1.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="optimiser steps, in place of num_train_epochs")
    max_minutes: float | None = Field(
        None,
        gt=0,
        description="minutes of optimiser steps after which training ends and is published as it is; a run that goes "
        "on has as many again. What is learned then depends on the machine's speed",
    )
    per_device_train_batch_size: int = Field(4, ge=1, description="packed rows in a step")
    gradient_accumulation_steps: int = Field(1, ge=1)
    max_grad_norm: float = Field(1.0, ge=0, description="0: no clipping")
    weight_decay: float = Field(0.0, ge=0, description="not on norms and biases; adam: L2 in the gradient")
    optim: Literal["adamw", "adam", "lamb", "adafactor"] = Field(
        "adamw", description="adafactor with learning_rate: auto finds its step from the gradients"
    )
    label_smoothing_factor: float = Field(0.0, ge=0, lt=1, description="share of the target spread over the vocabulary")
    neftune_noise_alpha: float | None = Field(None, gt=0, description="noise on embeddings in training; 5 is usual")
    embedding_dropout: float = Field(0.0, ge=0, lt=1)
    residual_dropout: float = Field(0.0, ge=0, lt=1, description="on what attention and feed-forward layers add")
    packing: bool = Field(True, description="several examples in a row, attention kept apart")
    group_by_length: bool = Field(
        False, description="with packing: false: batches of like length, so that little of them is padding"
    )
    packed_length: int = Field(512, ge=8, description="tokens of a packed row; a longer example has a row of its own")
    precision: Precision = "auto"
    eval_steps: int | None = Field(None, ge=1, description="steps between validations (default: four in a run)")
    max_eval_examples: int | None = Field(
        128, ge=1, description="validation rows at each evaluation, always the same ones (null: all)"
    )
    save_steps: int | None = neutral(
        None, ge=1, description="steps between checkpoints (default: as eval_steps, but 10 at least)"
    )

    @model_validator(mode="after")
    def _rate_in_range(self) -> "Optimisation":
        if self.learning_rate != "auto" and self.learning_rate >= HIGHEST_RATE:
            raise ValueError(
                f"learning_rate {self.learning_rate:g} can't train anything: write auto, or something like 1e-4 for "
                "full and 1e-3 for lora"
            )
        return self

    @model_validator(mode="after")
    def _losses_that_go_together(self) -> "Optimisation":
        check_losses(self.losses)
        return self

    @property
    def is_noisy(self) -> bool:
        """Whether two passes of one row differ in training."""
        return bool(self.embedding_dropout or self.residual_dropout or self.neftune_noise_alpha)


def _check_noise(settings: Optimisation, has_dropout: bool) -> None:
    compared = any(loss.name == "contrastive" and loss.positives == "dropout" for loss in settings.losses)
    if compared and not has_dropout and not settings.is_noisy:
        raise ValueError("contrastive compares two passes under dropout: set residual_dropout, as 0.1")


class Train(Section, Optimisation):
    """Fine-tuning by one of several methods; `none` takes the model as it is."""

    model: str | None = neutral(None, description="base model (default: the top-level model)")
    method: Literal["full", "partial", "lora", "adapter", "prefix", "prompt", "none"] = "lora"
    lora: Lora = Field(default_factory=Lora)
    partial: Partial = Field(default_factory=Partial)
    adapter: Adapter = Field(default_factory=Adapter)
    prompt: Prompt = Field(default_factory=Prompt)
    early_stopping: EarlyStopping | None = None
    teacher: str | None = neutral(None, description="of kl, reverse_kl and jsd: folder, hub name or asset")

    @model_validator(mode="after")
    def _partial_says_what(self) -> "Train":
        if self.method == "partial" and self.partial.layers is None and not self.partial.modules:
            raise ValueError("partial: say what learns, as in {layers: last-4} or {modules: [mlp]}")
        return self

    @model_validator(mode="after")
    def _losses_have_what_they_need(self) -> "Train":
        taught = [loss.name for loss in self.losses if loss.name in DIVERGENCES]
        if taught and self.teacher is None:
            raise ValueError(f"{taught[0]} needs a teacher: set train.teacher to a model, or distil from the tuned one")
        if self.teacher is not None and not taught and not any(loss.is_own for loss in self.losses):
            raise ValueError("teacher: no loss of this stage uses it; add one to losses, as in {name: kl}")
        inner = self.lora.lora_dropout if self.method == "lora" else self.adapter.adapter_dropout
        _check_noise(self, self.method in ("lora", "adapter") and bool(inner))
        return self

    @model_validator(mode="after")
    def _rates_that_are_given(self) -> "Train":
        if self.lora.loraplus_lr_ratio != 1 and self.optim == "adafactor" and self.learning_rate == "auto":
            raise ValueError("loraplus_lr_ratio needs a learning_rate: adafactor with auto has none to multiply")
        return self


class Student(Optimisation):
    """One student: the teacher with layers left out, taught by the teacher's distribution."""

    from_: str = Field("train", alias="from", description="train, or the name of another student")
    layers: int | float = Field(0.75, gt=0, description="layers kept: a number, or a share of the teacher's")
    temperature: float = Field(2.0, gt=0)
    alpha: float = Field(0.5, ge=0, le=1, description="weight of the teacher's distribution; the rest is cross-entropy")

    @model_validator(mode="after")
    def _said_once(self) -> "Student":
        for name in ("temperature", "alpha") if self.losses else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is of no use beside losses: give weight and temperature there")
        _check_noise(self, False)
        return self


class Distill(Section):
    """Teacher to students: a mapping from a student's name to its settings (empty: `distilled`, with the defaults)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Student] = Field(init=False)

    @property
    def students(self) -> dict[str, Student]:
        """Name → settings, each behind its teacher."""
        left = dict(self.__pydantic_extra__)
        ordered: dict[str, Student] = {}
        while left:
            ready = [name for name, student in left.items() if student.from_ == TRAIN or student.from_ in ordered]
            if not ready:
                name, student = next(iter(left.items()))
                known = ", ".join([TRAIN, *(other for other in left if other != name)])
                raise ValueError(f"{name}.from is {student.from_!r}, which no teacher leads to; there are: {known}")
            ordered |= {name: left.pop(name) for name in ready}
        return ordered

    @model_validator(mode="after")
    def _teachers(self) -> "Distill":
        if not self.__pydantic_extra__:
            self.__pydantic_extra__["distilled"] = Student()
        _check_names(self.students)
        return self


class Export(Strict):
    """One compressed model."""

    from_: str = Field("train", alias="from", description="train, or the name of a student")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="weights are cast last")


class Compress(Section):
    """Merge and cast: a mapping from an export's name to its settings (empty: `merged`, with the defaults)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Export] = Field(init=False)

    @property
    def exports(self) -> dict[str, Export]:
        """Name → settings."""
        return self.__pydantic_extra__

    @model_validator(mode="after")
    def _names(self) -> "Compress":
        if not self.__pydantic_extra__:
            self.__pydantic_extra__["merged"] = Export()
        _check_names(self.exports)
        return self


class Evaluate(Section):
    """Quality and efficiency of each model on each test set."""

    models: list[str] = Field(
        default_factory=list, description="names: base, tuned, distilled, or an export's (empty: all there are)"
    )
    test_sets: list[str] = Field(default_factory=list, description="test splits (empty: all)")
    max_examples: int = Field(
        64, ge=1, description="examples of each test set that are answered, the same ones for every model"
    )
    max_loss_examples: int = Field(
        128, ge=1, description="examples of each test set whose loss is measured, the answered ones among them"
    )
    max_new_tokens: int = Field(48, ge=1)
    max_prompt_tokens: int = Field(512, ge=16, description="a longer prompt loses its middle, and that is counted")
    batch_size: int = Field(16, ge=1, description="examples in a batch (in low precision it shapes the last digits)")
    metrics: list[Literal["loss", "bleu", "chrf", "rouge_l", "bertscore_f1", "f1_macro", "accuracy"]] = Field(
        ["loss", "bleu", "chrf", "rouge_l", "bertscore_f1", "f1_macro", "accuracy"],
        description="f1_macro and accuracy are measured on rows with a label",
    )
    encoder: str = neutral("asset:all-minilm-l6-v2", description="BERTScore's encoder: folder, hub name or asset")
    bootstrap: int = Field(2000, ge=100, description="resamples of an interval")
    precision: Precision = "auto"


class Report(Section):
    """One HTML page."""

    title: str = "Winnow report"
    examples: int = Field(5, ge=0, description="examples shown for each rule")
