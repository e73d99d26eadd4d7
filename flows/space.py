"""What a search may choose from: `train.learning_rate=loguniform(1e-4,1e-2)`, for any key of the configuration."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from pipeline_config.errors import ConfigError
from pipeline_config.suggest import did_you_mean

KINDS = ("uniform", "loguniform", "int", "choice")
_SPACE = re.compile(r"\s*([^=\s]+)\s*=\s*(\w+)\s*\((.*)\)\s*", re.DOTALL)
_CURE = "write KEY=uniform(LOW,HIGH), KEY=loguniform(LOW,HIGH), KEY=int(LOW,HIGH) or KEY=choice(A,B,…)"


@dataclass(frozen=True)
class Dimension:
    """One key and what it may be.

    Attributes:
        kind: uniform and loguniform are real numbers, int whole ones, both ends included; choice is one of `values`.
        values: low and high, or what may be chosen.
    """

    key: str
    kind: str
    values: tuple[Any, ...]

    def override(self, value: Any) -> str:
        """`key=value`, as after `--set`; real numbers to six digits, written so that YAML reads a number."""
        if isinstance(value, float):
            digits, power, exponent = f"{value:.6g}".partition("e")
            return f"{self.key}={digits}{'' if '.' in digits else '.0'}{power}{exponent}"
        return f"{self.key}={json.dumps(value, ensure_ascii=False)}"  # which YAML reads as it is


def parse_space(texts: Sequence[str]) -> list[Dimension]:
    """The dimensions of a search, in the order given.

    Raises:
        ConfigError: one is not written as it should be, is empty, or a key comes twice.
    """
    found = [_dimension(text) for text in texts]
    if not found:
        raise ConfigError("a search needs something to choose from", place="--space", cure=_CURE)
    keys = [dimension.key for dimension in found]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ConfigError(f"{twice[0]} comes twice", place="--space", cure="give each key once")
    return found


def _dimension(text: str) -> Dimension:
    parts = _SPACE.fullmatch(text)
    if parts is None:
        raise ConfigError(f"{text!r} is no space", place="--space", cure=_CURE)
    key, kind, inside = parts.groups()
    if kind not in KINDS:
        raise ConfigError(f"{kind!r} is no kind of space{did_you_mean(kind, KINDS)}", place="--space", cure=_CURE)
    try:
        values = yaml.safe_load(f"[{inside}]")
    except yaml.YAMLError:
        raise ConfigError(f"{inside!r} can't be read as values", place=f"--space {key}", cure=_CURE) from None
    if kind == "choice":
        if not values or any(isinstance(value, dict | list) for value in values):
            raise ConfigError("a choice is between plain values", place=f"--space {key}", cure=_CURE)
        return Dimension(key, kind, tuple(values))
    return Dimension(key, kind, _bounds(key, kind, values))


def _bounds(key: str, kind: str, values: list[Any]) -> tuple[Any, ...]:
    number = int if kind == "int" else float
    try:
        low, high = (number(str(value)) for value in values)
    except ValueError:
        what = "whole numbers" if kind == "int" else "numbers"
        raise ConfigError(f"{kind} takes two {what}, low and high", place=f"--space {key}", cure=_CURE) from None
    if not low < high or (kind == "loguniform" and low <= 0):
        above = " above 0" if kind == "loguniform" else ""
        raise ConfigError(f"{low:g} to {high:g} is no range{above}", place=f"--space {key}", cure="give low, then high")
    return low, high
