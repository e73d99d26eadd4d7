"""How a configuration field takes part in the cache key.

Every field is *deciding* unless it says otherwise: changing it reruns its stage. A *scoring* field also shapes
the expensive row-local scores, which are cached apart; a *neutral* one (paths, batch sizes, worker counts,
gate bounds) changes no output and stands in no key.
"""

from collections.abc import Iterator
from typing import Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
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


class Sparse(Strict):
    """A model of many keys of which few are given: only those are written out."""

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if value is not None and value != {}}


class Range(Sparse):
    """A lower bound, an upper bound, or both."""

    min: float | None = neutral(None)
    max: float | None = neutral(None)

    @model_validator(mode="after")
    def _bounds_something(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("a bound needs min, max or both: {min: 0.5}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class Gate(Sparse):
    """Bounds that every stage may have; judged in every run, cached or not. `gate_schema.py` has those on rows."""

    on_fail: Literal["stop", "warn"] = neutral("stop", description="stop the run, or warn and go on")
    metrics: dict[str, Range] = neutral(
        default_factory=dict, description="metric of this stage → min and max, {tuned.python.rouge_l: {min: 0.2}}"
    )

    @field_validator("metrics", mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        """`{tuned: {python: {rouge_l: {min: 0.2}}}}`, as `--set` writes it, is `{tuned.python.rouge_l: {min: 0.2}}`."""
        return dict(_flattened(given)) if isinstance(given, dict) else given


def _flattened(given: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        full = f"{above}{name}"
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            yield from _flattened(value, f"{full}.")
            continue
        unknown = [key for key in value if key not in Range.model_fields] if isinstance(value, dict) else []
        if unknown:
            raise ValueError(f"metrics.{full}: {unknown[0]!r} is no bound; write min, max or both")
        yield full, value


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
