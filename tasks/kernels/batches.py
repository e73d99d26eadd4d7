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


def of_one_shape(
    lengths: Sequence[int], batch_size: int, max_tokens: int, step: int = 16
) -> list[tuple[list[int], int]]:
    """Group items by their length rounded up, longest first, each batch filled up by repeating its first item.

    So an item is computed in a batch whose shape depends on the item alone, and its result on nothing else to the last
    bit: matrix products of another shape may add in another order.

    Args:
        lengths: tokens of each item.
        batch_size, max_tokens: as in `by_length`.
        step: lengths are rounded up to a multiple of it.

    Returns:
        positions in `lengths` (the first of a batch may stand several times), and the width of their batch.
    """
    widths: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        widths.setdefault(-(-max(length, 1) // step) * step, []).append(place)
    batches: list[tuple[list[int], int]] = []
    for width in sorted(widths, reverse=True):
        size, places = max(1, min(batch_size, max_tokens // width)), widths[width]
        parts = [places[start : start + size] for start in range(0, len(places), size)]
        batches += [(part + part[:1] * (size - len(part)), width) for part in parts]
    return batches
