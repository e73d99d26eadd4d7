"""Token ids and loss masks: exactly the answers are learned, their end-of-turn token always with them.

Each conversation is tokenised as a whole, and a token is learned if it stands in the span of a learned turn, up to
the special token that ends the turn (white space that the template puts behind it is never generated). Whether the
ids before each answer are what the prompt alone gives at inference is checked by tokenising it again; where a
tokenizer merges across the border, such as over an answer that begins with spaces, the row is tokenised in parts, as
a generating model would meet it. Of earlier answers the prompt is tokenised from its last special token on, since
nothing merges across one.

A row's first token is never learned: nothing stands before it to predict it from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pipeline_config.errors import ModelError
from tasks.kernels.chat import Rendered
from tasks.kernels.quiet import quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Refused = tuple[str, str]


@dataclass(frozen=True)
class Encoded:
    """Rows of tokens, one behind the other.

    Attributes:
        ids: (n_tokens,) int32, all rows.
        mask: (n_tokens,) bool; True where the token is learned.
        offsets: (n_rows + 1,) int64; row i is `ids[offsets[i]:offsets[i + 1]]`, empty if it was refused.
        refused: row → rule and detail.
        parted: rows tokenised in parts.
    """

    ids: "NDArray[np.int32]"
    mask: "NDArray[np.bool_]"
    offsets: "NDArray[np.int64]"
    refused: dict[int, Refused]
    parted: int = 0

    def row(self, index: int) -> "tuple[NDArray[np.int32], NDArray[np.bool_]]":
        """Ids and mask of one row, (n,) each."""
        part = slice(int(self.offsets[index]), int(self.offsets[index + 1]))
        return self.ids[part], self.mask[part]


def encode_conversations(tokenizer: Any, rendered: Sequence[Rendered]) -> Encoded:
    """Tokenise rendered conversations and mark what is learned.

    Raises:
        ModelError: a tokenizer without a fast (offset-keeping) implementation, or without an eos token.
    """
    _check(tokenizer)
    special = _special_ids(tokenizer)
    texts = [each.text for each in rendered]
    wholes = _encode(tokenizer, texts)
    with_answers = [n for n, each in enumerate(rendered) if each.spans and not each.refused]
    prompts = dict(
        zip(
            with_answers,
            _encode(tokenizer, [texts[n][: max(start for start, _ in rendered[n].spans)] for n in with_answers]),
            strict=True,
        )
    )
    ids: list[list[int]] = []
    masks: list[list[bool]] = []
    refused: dict[int, Refused] = {}
    headers = _Headers(tokenizer, special)
    parted = 0
    for n, each in enumerate(rendered):
        parts = [(0, wholes[n])]
        if each.refused is None and n in prompts and not _is_exact(prompts[n].ids, wholes[n], each, headers):
            parts = _in_parts(tokenizer, each)
            parted += 1
            if tokenizer.decode(_joined(parts)) != tokenizer.decode(wholes[n].ids):
                refused[n] = ("prompt_not_a_prefix", "the tokenizer merges the prompt's end with the answer")
        if each.refused is not None:
            refused[n] = each.refused
        row_ids, row_mask = ([], []) if n in refused else _masked(parts, each, special, tokenizer.eos_token_id)
        ids.append(row_ids)
        masks.append(row_mask)
    return _flat(ids, masks, refused, parted)


def encode_texts(tokenizer: Any, texts: Sequence[str]) -> Encoded:
    """Tokenise raw texts: what the tokenizer puts around a text, then eos; all of it learned.

    Raises:
        ModelError: the tokenizer has no eos token.
    """
    _check(tokenizer)
    eos = tokenizer.eos_token_id
    with quiet():
        found = tokenizer(list(texts), return_attention_mask=False)["input_ids"] if texts else []
    ids = [row if row and row[-1] == eos else [*row, eos] for row in found]
    return _flat(ids, [[False] + [True] * (len(row) - 1) for row in ids], {})


def _masked(
    parts: list[tuple[int, Any]], each: Rendered, special: frozenset[int], eos: int
) -> tuple[list[int], list[bool]]:
    ids = _joined(parts)
    mask = [False] * len(ids)
    token_at = _locator(parts, len(each.text), len(ids))
    place_after = _places(parts)
    for start, end in each.spans:
        first, stop = token_at(start), token_at(end)
        ends = [at for at in range(stop - 1, first - 1, -1) if ids[at] in special]
        if ends and not each.text[place_after(ends[0]) : end].strip():  # others are part of what is said
            stop = ends[0] + 1
        elif stop < len(ids) and ids[stop] in special:
            stop += 1  # marks that leave the end of the turn outside
        elif stop == len(ids):
            ids.append(eos)  # a template that never ends a turn
            mask.append(False)
            stop += 1
        mask[first:stop] = [True] * (stop - first)
    if mask:
        mask[0] = False
    return ids, mask


def _locator(parts: list[tuple[int, Any]], n_characters: int, n_tokens: int) -> Callable[[int], int]:
    """A function from a character of the text to the first token that holds it, or holds the next one that any does."""
    starts = [start for start, _ in parts] + [n_characters]
    counts = [0]
    for _, encoding in parts:
        counts.append(counts[-1] + len(encoding.ids))

    def token_at(character: int) -> int:
        for n, (start, end) in enumerate(pairwise(starts)):
            for place in range(max(character, start), end):
                token = parts[n][1].char_to_token(place - start)
                if token is not None:
                    return int(counts[n] + token)
        return n_tokens

    return token_at


def _places(parts: list[tuple[int, Any]]) -> Callable[[int], int]:
    """A function from a token to the first character behind it."""

    def place_after(token: int) -> int:
        for start, encoding in parts:
            if token < len(encoding.ids):
                return int(start + encoding.token_to_chars(token)[1])
            token -= len(encoding.ids)
        raise IndexError(token)

    return place_after


def _is_exact(prompt: list[int], whole: Any, each: Rendered, headers: "_Headers") -> bool:
    """Whether every answer begins with a token of its own, and follows exactly the ids that its prompt alone gives."""
    if whole.ids[: len(prompt)] != prompt:
        return False
    last = max(start for start, _ in each.spans)
    for start, _ in each.spans:
        token = whole.char_to_token(start)
        if token is not None and whole.token_to_chars(token)[0] < start:
            return False
        if token is not None and start < last and not headers.agree(each.text, start, whole, token):
            return False
    return True


class _Headers:
    """What stands between the last special token of a prompt and the answer: few texts, each tokenised once."""

    def __init__(self, tokenizer: Any, special: frozenset[int]) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._known: dict[str, list[int]] = {}

    def agree(self, text: str, start: int, whole: Any, token: int) -> bool:
        """Whether the tokens before `token`, at the character `start`, are those of the text before it alone."""
        first = next((at for at in range(token - 1, -1, -1) if whole.ids[at] in self._special), 0)
        header = text[whole.token_to_chars(first)[0] if first else 0 : start]
        if header not in self._known:
            self._known[header] = list(_encode(self._tokenizer, [header])[0].ids)
        same: bool = self._known[header] == whole.ids[first:token]
        return same


def _in_parts(tokenizer: Any, each: Rendered) -> list[tuple[int, Any]]:
    cuts = sorted({0, *(start for start, _ in each.spans)})
    texts = [each.text[start:end] for start, end in pairwise([*cuts, len(each.text)])]
    return list(zip(cuts, _encode(tokenizer, texts), strict=True))


def _joined(parts: list[tuple[int, Any]]) -> list[int]:
    return [token for _, encoding in parts for token in encoding.ids]


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    if not texts:
        return []
    with quiet():
        found: list[Any] = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False).encodings
    return found


def _special_ids(tokenizer: Any) -> frozenset[int]:
    marked = (int(number) for number, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset([*marked, *tokenizer.all_special_ids])


def _flat(ids: list[list[int]], masks: list[list[bool]], refused: dict[int, Refused], parted: int = 0) -> Encoded:
    import numpy as np

    lengths = [len(row) for row in ids]
    return Encoded(
        ids=np.fromiter((token for row in ids for token in row), dtype=np.int32, count=sum(lengths)),
        mask=np.fromiter((learned for row in masks for learned in row), dtype=np.bool_, count=sum(lengths)),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        refused=refused,
        parted=parted,
    )


def _check(tokenizer: Any) -> None:
    place = "tokenize.model"
    if not tokenizer.is_fast:
        raise ModelError(
            "the tokenizer has no fast implementation, so masks can't be told exactly",
            place=place,
            cure="use a model whose folder has a tokenizer.json",
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no eos token, so a model would never learn to stop",
            place=place,
            cure="set eos_token in the model's tokenizer_config.json",
        )
