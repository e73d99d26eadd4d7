"""What is learned from: a list of losses, each with its weight."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline_config.fields import Strict
from pipeline_config.suggest import did_you_mean

DIVERGENCES = ("kl", "reverse_kl", "jsd")
KNOWN = ("cross_entropy", *DIVERGENCES, "contrastive")
TAKEN = {"loss", "eval_loss", "grad_norm", "learning_rate", "tokens", "examples", "step", "epoch", *KNOWN}
_TAKES = {
    "temperature": (*DIVERGENCES, "contrastive"),
    "class_weights": ("cross_entropy",),
    "positives": ("contrastive",),
    "by": ("cross_entropy", "contrastive"),
    "settings": (),
}
_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Loss(Strict):
    """One loss of the sum that is minimised."""

    name: str = Field(
        description="cross_entropy; kl, reverse_kl or jsd to a teacher; contrastive; or a function of your own, "
        "package.module:function"
    )
    weight: float = Field(1.0, gt=0)
    temperature: float | None = Field(
        None,
        gt=0,
        description="of a teacher's and a student's distributions (default 2), of similarities (default 0.05)",
    )
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(
        None,
        description="cross_entropy: class → weight, 1 for the others; balanced: a class counts as much as any other. "
        "Scaled so that their mean over the learned tokens is 1",
    )
    by: Literal["label", "task"] = Field("label", description="the class of a row")
    positives: Literal["dropout", "class"] = Field(
        "dropout", description="contrastive: the same row under other noise (SimCSE), or rows of one class"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of a function of your own")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in KNOWN and not _OWN.fullmatch(name):
            raise ValueError(
                f"no loss is named {name!r}{did_you_mean(name, KNOWN)}; there are: {', '.join(KNOWN)}, or a function "
                "of your own as package.module:function"
            )
        return name

    @field_validator("class_weights")
    @classmethod
    def _not_negative(cls, weights: Any) -> Any:
        for name, weight in weights.items() if isinstance(weights, dict) else ():
            if weight < 0:
                raise ValueError(f"the weight of class {name!r} is {weight:g}: it must be 0 or more")
        return weights

    @model_validator(mode="after")
    def _takes_what_is_given(self) -> "Loss":
        for field, names in _TAKES.items():
            fits = self.is_own if field == "settings" else self.name in names
            if not fits and getattr(self, field) != type(self).model_fields[field].get_default(
                call_default_factory=True
            ):
                raise ValueError(f"{self.name} has no {field}: leave it out")
        if self.is_own and self.shown in TAKEN:
            raise ValueError(f"{self.shown!r} is the name of another line of the history: rename the function")
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return ":" in self.name

    @property
    def shown(self) -> str:
        """Its name in the history."""
        if self.name == "contrastive" and self.positives == "class":
            return f"contrastive_{self.by}"
        return self.name.rpartition(":")[2]

    @property
    def has_classes(self) -> bool:
        """Whether it needs to know the class of a row."""
        return self.class_weights is not None or (self.name == "contrastive" and self.positives == "class")


def check_losses(losses: list[Loss]) -> None:
    """Raise ValueError where two losses would stand under one name in the history."""
    names = [loss.shown for loss in losses]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"losses: {name} stands there twice; give it once, with the weight of both")
