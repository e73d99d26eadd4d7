"""Progress: who watches is told seldom, in order, to the end, and only of what lasts."""

import threading

import pytest

from tasks.kernels import progress
from tasks.kernels.progress import track, watched


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    return found


def run(clock: Clock, steps: int, seconds: float, total: int | None) -> list[tuple[str, int, int]]:
    told: list[tuple[str, int, int]] = []
    with watched(lambda *words: told.append(words)):
        for _ in track(range(steps), "loop", total):
            clock.now += seconds
    return told


def test_a_short_loop_and_one_of_unknown_length_are_not_told(clock: Clock) -> None:
    assert run(clock, 10, 0.1, 10) == []
    assert run(clock, 10, 60.0, None) == []


def test_a_long_loop_is_told_every_two_seconds_and_at_its_end(clock: Clock) -> None:
    told = run(clock, 1000, 0.1, 1000)
    assert told[-1] == ("loop", 1000, 1000)
    assert 45 <= len(told) <= 50  # of 100 seconds
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_another_threads_loop_is_not_told(clock: Clock) -> None:
    told: list[tuple[str, int, int]] = []

    def loop() -> None:
        for _ in track(range(10), "loop", 10):
            clock.now += 10

    with watched(lambda *words: told.append(words)):
        thread = threading.Thread(target=loop)
        thread.start()
        thread.join()
    assert told == []
    loop()  # and when nobody watches, nothing happens
