"""First matches among unit vectors: greedy, in blocks of matrix products.

The products only say where to look: how a matrix multiplication rounds depends on threads and blocks. What is near the
threshold is summed once more in double precision, one term after the other, and that decides. So does SemDeDup (Abbas
et al., 2023) within clusters of k-means; here every pair is looked at, so that nothing is missed.
"""

import numpy as np
import numpy.typing as npt

from tasks.kernels.compiled import compiled

Vectors = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK, _HELD = 512, 8192  # rows of a product
_SLACK = np.float32(1e-4)  # more than a product of float32 can be off


def first_alike(vectors: Vectors, like: Int64s, threshold: float, given: int = 0) -> tuple[Int64s, Floats]:
    """Match each row with the first kept one whose vectors are near in every part; one without a match is kept.

    Args:
        vectors: (n_rows, n_parts, width) unit vectors, in the order of keeping.
        like: (n_rows,) rows with different numbers are never matched.
        threshold: cosine that each part must reach.
        given: so many rows, the first, are kept whatever they resemble.

    Returns:
        (n_rows,) the row that each was matched with, or -1; (n_rows, n_parts) cosines of the pair.
    """
    rows = like.size
    match, cosines = np.full(rows, -1, np.int64), np.full((rows, vectors.shape[1]), np.nan)
    kept, count = np.empty(rows, np.int64), given
    kept[:given] = np.arange(given)
    for start in range(given, rows, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, rows))
        for begin in range(0, count, _HELD):
            _match(vectors, like, threshold, block, kept[begin : min(begin + _HELD, count)], match, cosines, False)
        _match(vectors, like, threshold, block, block, match, cosines, True)
        stay = block[match[block] < 0]
        kept[count : count + stay.size] = stay
        count += stay.size
    return match, cosines


def _match(
    vectors: Vectors,
    like: Int64s,
    threshold: float,
    block: Int64s,
    others: Int64s,
    match: Int64s,
    cosines: Floats,
    within: bool,
) -> None:
    near = vectors[block, 0] @ vectors[others, 0].T
    for part in range(1, vectors.shape[1]):
        np.minimum(near, vectors[block, part] @ vectors[others, part].T, out=near)
    _first(near, np.float32(threshold) - _SLACK, vectors, like, threshold, block, others, match, cosines, within)


@compiled
def _first(
    near: Vectors,
    bound: np.float32,
    vectors: Vectors,
    like: Int64s,
    threshold: float,
    block: Int64s,
    others: Int64s,
    match: Int64s,
    cosines: Floats,
    within: bool,
) -> None:
    """For each row without a match the first of the others that is near; within a block only kept earlier ones."""
    for i in range(block.size):
        row = block[i]
        if match[row] >= 0:
            continue
        for j in range(i if within else others.size):
            if near[i, j] < bound:
                continue
            other = others[j]
            if like[other] != like[row] or (within and match[other] >= 0):
                continue
            reached = True
            for part in range(vectors.shape[1]):
                product = 0.0
                for k in range(vectors.shape[2]):
                    product += np.float64(vectors[row, part, k]) * np.float64(vectors[other, part, k])
                cosines[row, part] = min(product, 1.0)
                reached &= product >= threshold
            if reached:
                match[row] = other
                break
