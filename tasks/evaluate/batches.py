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
