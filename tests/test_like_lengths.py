"""Batches of like length: every row once, little padding, the same order for the same seed and epoch."""

from pathlib import Path

import numpy as np

from tasks.kernels.like_lengths import LikeLengths
from tasks.kernels.packing import pack, unpacked
from tests.test_packing import make_examples
from tests.toy_fit import drawn, toy_examples, toy_fit


def test_rows_of_like_length_come_together_each_once_and_in_an_order_of_the_epoch() -> None:
    rows = unpacked(make_examples(np.random.default_rng(3).integers(1, 200, 900).tolist()))
    assert rows.lengths.tolist() == [len(rows[n].ids) for n in range(len(rows))]

    def order(epoch: int, seed: int = 0) -> list[int]:
        sampler = LikeLengths(rows.lengths, 4, seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    def filled(chosen: list[int]) -> float:
        batches = [rows.lengths[chosen[at : at + 4]] for at in range(0, len(chosen), 4)]
        return sum(batch.sum() for batch in batches) / sum(4 * batch.max() for batch in batches)

    assert sorted(order(0)) == list(range(900))
    assert order(1) == order(1)
    assert len({tuple(each) for each in (order(0), order(1), order(0, seed=1))}) == 3
    assert rows.lengths[order(0)[0]] == rows.lengths.max()
    assert filled(order(0)) > 0.95 > 0.75 > filled(list(range(900)))
    assert list(LikeLengths(rows.lengths[:0], 4, 0)) == []
    packed = pack(rows.examples, 256)
    assert packed.lengths.tolist() == [len(packed[n].ids) for n in range(len(packed))]


def test_the_trainer_takes_the_longest_rows_first_and_learns_all_of_them(tmp_path: Path, one_thread: None) -> None:
    answers = [each[: 1 + n % 4] for n, each in enumerate(drawn(12, seed=1))]
    settings = {"packing": False, "num_train_epochs": 2, "per_device_train_batch_size": 3}
    found = toy_fit(tmp_path / "grouped", toy_examples(answers), group_by_length=True, **settings)
    seen = np.diff([0, *(line["tokens"] for line in found.history if "loss" in line)]).tolist()
    assert seen == [21, 18, 15, 12] * 2
    assert [line["examples"] for line in found.history if "loss" in line] == list(range(3, 25, 3))
