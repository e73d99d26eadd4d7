"""\"Did you mean …?\": the nearest of the names that would have been right."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if no name is near."""
    known = list(names)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    if not near:
        near = [other for other in known if other.startswith(name) or name.startswith(other)][:1]
    if not near:  # a word of a longer name
        near = [other for other in known if get_close_matches(name, other.split("_"), n=1, cutoff=0.7)][:1]
    return f"; did you mean {near[0]!r}?" if near else ""


def known_keys(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """The keys that may stand at a path below a model."""
    current: type[BaseModel] | None = model
    key_is_free = False  # the next part is a name of the user's own
    for part in path:
        if current is None:
            return []
        if isinstance(part, int):
            continue
        if key_is_free:
            key_is_free = False
            continue
        fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
        if part in fields:
            key_is_free = get_origin(fields[part]) is dict
            current = _model_in(fields[part])
        else:
            current = _model_in(current.__annotations__.get("__pydantic_extra__"))
    if current is None or key_is_free:
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is None:
        return None
    for argument in get_args(annotation):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
