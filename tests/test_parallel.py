"""Threads: results in order, bounded work ahead, and an early end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from dcpctl.parallel import Meter, Threads, map_all, run_streams


def _doubled(number: int) -> int:
    time.sleep(0.0005 * (number % 3))  # so that they do not end in the order of their beginning
    return 2 * number


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("at_once", [1, 7])
def test_results_come_in_order(count: int, at_once: int) -> None:
    with Threads(count, "test") as threads:
        found = list(threads.in_order(_doubled, range(100), at_once=at_once))
    assert found == [2 * number for number in range(100)]
    assert map_all(_doubled, range(100), count) == found
    assert map_all(_doubled, [], count) == []


def test_no_more_is_given_out_than_a_few_jobs_a_thread() -> None:
    asked = 0

    def jobs() -> Iterator[int]:
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield number

    with Threads(2, "test") as threads:
        found = threads.in_order(_doubled, jobs())
        assert [next(found) for _ in range(10)] == list(range(0, 20, 2))
        assert asked <= 10 + 2 * 4 + 1
        found.close()


def test_an_error_stands_where_its_result_would_have_and_ends_the_rest() -> None:
    done: list[int] = []

    def call(number: int) -> int:
        if number == 5:
            raise KeyError(number)
        done.append(number)
        return number

    found = []
    with pytest.raises(KeyError), Threads(3, "test") as threads:
        for result in threads.in_order(call, range(1000)):
            found.append(result)
    assert found == [0, 1, 2, 3, 4]
    assert len(done) < 100
    assert not [t for t in threading.enumerate() if t.name.startswith("dcpctl-test")]


def test_one_thread_is_the_one_that_calls() -> None:
    with Threads(1, "test") as threads:
        found = list(threads.in_order(lambda _: threading.get_ident(), range(3)))
    assert found == [threading.get_ident()] * 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_streams_are_done_whole_each_in_its_order(count: int) -> None:
    lock = threading.Lock()
    done: dict[int, list[int]] = {stream: [] for stream in range(7)}

    def act(job: tuple[int, int]) -> None:
        with lock:
            done[job[0]].append(job[1])

    run_streams(count, [[(s, n) for n in range(s * 3)] for s in range(7)], act)
    assert {stream: sorted(jobs) for stream, jobs in done.items()} == {
        stream: list(range(stream * 3)) for stream in range(7)
    }


@pytest.mark.parametrize("count", [1, 3])
def test_the_first_error_in_a_stream_ends_all(count: int) -> None:
    acted = []

    def act(job: int) -> None:
        acted.append(job)
        if job == 3:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        run_streams(count, [range(1000)], act)
    assert len(acted) < 100


def test_a_meter_counts_over_threads_and_never_beyond_its_total() -> None:
    told: list[tuple[int, int]] = []
    meter = Meter(lambda done, total: told.append((done, total)), 300)
    map_all(lambda _: meter.add(4), range(100), 4)
    assert told == [(min(4 * n, 300), 300) for n in range(1, 101)]
    Meter(None, 3).add(1)
