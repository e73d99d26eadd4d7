"""How a configuration field takes part in the cache key.

Every field is *deciding* unless it says otherwise: changing it reruns its stage. A *scoring* field also shapes
the expensive row-local scores, which are cached apart; a *neutral* one (paths, batch sizes, worker counts,
gate bounds) changes no output and stands in no key.
"""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

KEY_ROLE = "key_role"


def scoring(default: Any = ..., **kwargs: Any) -> Any:
    """A field that shapes a stage's scores (and so its decision too)."""
    return Field(default, json_schema_extra={KEY_ROLE: "scoring"}, **kwargs)


def neutral(default: Any = ..., **kwargs: Any) -> Any:
    """A field that changes no output byte, and so stands in no key."""
    return Field(default, json_schema_extra={KEY_ROLE: "neutral"}, **kwargs)


class Strict(BaseModel):
    """A model that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` and `on` are true, and would count as 1 without a word."""
        field = cls.model_fields.get(info.field_name or "")
        if isinstance(value, bool) and field is not None and not _takes(field.annotation, bool):
            raise PydanticCustomError("no_number", "input should not be true or false")
        return value


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a type, or one that it is made of, is `kind` (or anything)."""
    return annotation in (kind, Any) or any(_takes(part, kind) for part in get_args(annotation))


class Gate(Strict):
    """Bounds that a stage's facts must keep; judged in every run, cached or not.

    A bound left out takes the stage's default (`tasks/gate.py` lists the facts each stage offers).
    """

    on_fail: str = neutral("stop", pattern="^(stop|warn)$", description="stop the run, or warn and go on")
    min_rows: int | None = neutral(None, ge=0, description="rows that must be left (default 1)")
    max_removed_share: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows in that may be removed"
    )
    max_quarantined_share: float | None = neutral(
        None, ge=0, le=1, description="largest share of the rows in that may be quarantined"
    )
    max_removed_share_by_rule: dict[str, float] = neutral(
        default_factory=dict, description="rule → largest share of the rows in that it may remove"
    )


class Section(Strict):
    """A stage's section. `null` or absent: the stage is skipped; `{}`: on, with these defaults."""

    seed: int | None = Field(None, ge=0, le=2**32 - 1, description="this stage's own (default: the run's)")
    gate: Gate = neutral(default_factory=Gate, description="bounds on what the stage publishes")


def key_values(model: BaseModel, only: str | None = None) -> dict[str, Any]:
    """The fields of a model that stand in a cache key, as plain JSON values.

    Args:
        model: a section, resolved.
        only: `scoring` for the fields that shape scores; by default all but the neutral ones.
    """
    values: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        extra = field.json_schema_extra
        role = extra.get(KEY_ROLE, "deciding") if isinstance(extra, dict) else "deciding"
        value = getattr(model, name)
        if role == "neutral":
            continue
        if isinstance(value, BaseModel):
            inner = key_values(value, only)
            if inner or only is None:
                values[field.alias or name] = inner
        elif only is None or role == only:
            values[field.alias or name] = _plain(value)
    if only is None:
        values |= {name: _plain(value) for name, value in (model.__pydantic_extra__ or {}).items()}
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return key_values(value)
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
