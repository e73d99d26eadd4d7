"""Batches of like length, so that little of them is padding."""

from collections.abc import Sequence


def by_length(lengths: Sequence[int], batch_size: int, max_tokens: int) -> list[list[int]]:
    """Group items, longest first.

    Args:
        lengths: tokens of each item.
        batch_size: items in a batch at most.
        max_tokens: tokens in a batch at most, padding included; a longer item stands alone.

    Returns:
        positions in `lengths`, each once; ties in the order given.
    """
    batches: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        last = batches[-1] if batches else None
        if last is None or len(last) == batch_size or (len(last) + 1) * lengths[last[0]] > max_tokens:
            batches.append([place])
        else:
            last.append(place)
    return batches


def of_one_width(
    lengths: Sequence[int], batch_size: int, max_tokens: int, step: int = 8
) -> list[tuple[list[int], int]]:
    """Group items by their length rounded up, longest first, so that an item's padding depends on itself alone.

    Args:
        lengths: tokens of each item.
        batch_size, max_tokens: as in `by_length`.
        step: lengths are rounded up to a multiple of it.

    Returns:
        positions in `lengths`, each once, and the width of their batch; ties in the order given.
    """
    widths: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        widths.setdefault(-(-length // step) * step, []).append(place)
    batches: list[tuple[list[int], int]] = []
    for width in sorted(widths, reverse=True):
        size, places = max(1, min(batch_size, max_tokens // max(width, 1))), widths[width]
        batches += [(places[start : start + size], width) for start in range(0, len(places), size)]
    return batches
