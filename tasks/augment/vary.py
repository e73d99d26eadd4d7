"""Variants of conversations: other words in the user's turns, every other turn byte for byte as it was.

Each row has a draw of its own, made from its id, so its variant does not depend on which other rows are varied. The
draw decides which method is tried first; a method that changes nothing makes room for the next.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tasks.augment.methods import Method
from tasks.augment.protect import Run, runs

_TRIES = 3  # of a method; a swap of two equal words changes nothing


class Variant(NamedTuple):
    """A row's messages with other words in the user's turns, and the method that put them there."""

    method: str
    messages: list[dict[str, Any]]


def variant_of(
    messages: Sequence[Mapping[str, Any]],
    lang: str | None,
    methods: Sequence[Method],
    strength: float,
    draw: random.Random,
) -> Variant | None:
    """Vary one conversation.

    Args:
        messages: `role`, `content`, `weight`.
        lang: of the user's turns, ISO 639-1; None: not Chinese, otherwise unknown.
        methods: to choose from.
        strength: share of the words that may change that do change; at least one word of each turn that has one.
        draw: the row's own.

    Returns:
        the variant; None where no method is for this language or none changes anything.
    """
    fitting = [method for method in methods if _fits(method, lang)]
    if not fitting:
        return None
    first = draw.randrange(len(fitting))
    for method in fitting[first:] + fitting[:first]:
        for _ in range(_TRIES):
            varied = [_turn(message, method, strength, draw) for message in messages]
            if varied != list(messages):
                return Variant(method.name, varied)
    return None


def vary_text(text: str, method: Method, strength: float, draw: random.Random) -> str:
    """Other words in one prompt; what is protected stays (`protect.py`)."""
    places = [place for place in runs(text, method.script) if len(method.words(_cut(text, place))) >= method.least]
    owners = [place for place in places for _ in method.words(_cut(text, place))]  # one entry a word
    if not owners:
        return text
    changes = Counter(draw.sample(owners, max(1, round(strength * len(owners)))))
    for place in sorted(changes, reverse=True):  # from the end, so that earlier places keep their numbers
        varied = method.vary(_cut(text, place), changes[place], draw)
        text = text[: place.start] + varied + text[place.end :]
    return text


def _turn(message: Mapping[str, Any], method: Method, strength: float, draw: random.Random) -> dict[str, Any]:
    if message["role"] != "user" or not message["content"]:
        return dict(message)
    return dict(message) | {"content": vary_text(message["content"], method, strength, draw)}


def _fits(method: Method, lang: str | None) -> bool:
    if lang is None or lang == "und":
        return method.script == "spaced"
    return (method.script == "chinese") == (lang == "zh") and (not method.languages or lang in method.languages)


def _cut(text: str, place: Run) -> str:
    return text[place.start : place.end]
