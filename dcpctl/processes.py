"""Calls side by side: each in a process of its own where that is safe, else in threads."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from dcpctl.errors import DcpctlError, ReadFailed
from dcpctl.parallel import Advance, Threads

T = TypeVar("T")


def run_each(
    calls: Sequence[Callable[[], T]],
    at_once: int,
    *,
    lost: Sequence[Callable[[DcpctlError], T]],
    advance: Advance | None = None,
) -> list[T]:
    """Make every call and return what they return, in order.

    Args:
        calls: take nothing; what they return can be pickled.
        at_once: most calls at a time.
        lost: of each call what to return where its process was killed, as by a system that runs
            out of memory; takes the error that says so.
        advance: told how many calls are done, and how many there are.

    Raises:
        Exception: whatever a call raises; the others are ended then.
    """
    if at_once > 1 and _may_fork():
        return _Processes(calls, at_once, lost, advance).run()
    with Threads(at_once, "each") as threads:
        made = threads.in_order(lambda call: call(), calls)
        return list(_counted(made, len(calls), advance))


def _counted(answers: Iterable[T], total: int, advance: Advance | None) -> Iterator[T]:
    for done, answer in enumerate(answers, 1):
        if advance is not None:
            advance(done, total)
        yield answer


def _may_fork() -> bool:
    """Whether a fork of this process is one that works.

    On macOS its own libraries do not survive it; and a lock that another thread holds stays
    locked in the child.
    """
    return sys.platform == "linux" and threading.active_count() == 1


@dataclass(slots=True)
class _Worker:
    process: ForkProcess
    number: int  # of the call that it makes


class _Processes:
    """Workers that take the numbers of calls, which they have had from birth, and send answers."""

    def __init__(
        self,
        calls: Sequence[Callable[[], Any]],
        at_once: int,
        lost: Sequence[Callable[[DcpctlError], Any]],
        advance: Advance | None,
    ) -> None:
        self.calls = calls
        self.at_once = at_once
        self.lost = lost
        self.advance = advance
        self.waiting = deque(range(len(calls)))
        self.answers: dict[int, Any] = {}
        self.workers: dict[Connection, _Worker] = {}

    def run(self) -> list[Any]:
        try:
            while self.waiting or self.workers:
                while self.waiting and len(self.workers) < self.at_once:
                    self._start()
                for ready in wait(list(self.workers)):
                    assert isinstance(ready, Connection)
                    self._take(ready)
        finally:
            for pipe, left in self.workers.items():
                left.process.terminate()
                left.process.join()
                pipe.close()
        return [self.answers[number] for number in range(len(self.calls))]

    def _start(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        inherited = [ours, *self.workers]
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(self.calls, theirs, inherited)
        )
        with warnings.catch_warnings():
            # Of the threads that Python counts here none is its own; NumPy's end themselves first.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        number = self.waiting.popleft()
        self.workers[ours] = _Worker(process, number)
        ours.send(number)

    def _take(self, pipe: Connection) -> None:
        worker = self.workers[pipe]
        try:
            failed, answer = pipe.recv()
        except (EOFError, OSError):
            failed, answer = False, self.lost[worker.number](self._end_of(pipe))
        if failed:
            raise answer
        self.answers[worker.number] = answer
        if self.advance is not None:
            self.advance(len(self.answers), len(self.calls))
        if pipe not in self.workers:
            return
        if self.waiting:
            worker.number = self.waiting.popleft()
            pipe.send(worker.number)
        else:
            self._retire(pipe)

    def _end_of(self, pipe: Connection) -> DcpctlError:
        """Say how a worker ended that should not have."""
        code = self._retire(pipe)
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        return ReadFailed(
            f"the process that read it {how}", hint="with --jobs 1 it has the memory alone"
        )

    def _retire(self, pipe: Connection) -> int:
        """Let a worker end; return its exit code."""
        worker = self.workers.pop(pipe)
        pipe.close()
        worker.process.join()
        return worker.process.exitcode or 0


def _work(
    calls: Sequence[Callable[[], Any]], pipe: Connection, inherited: Sequence[Connection]
) -> None:
    """What a worker does until nobody asks any more; an interrupt is for the parent to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for other in inherited:  # else a worker would not see that the parent has gone
        other.close()
    try:
        while True:
            number = pipe.recv()
            try:
                answer = (False, calls[number]())
            except Exception as error:
                answer = (True, error)
            pipe.send(answer)
    except (EOFError, OSError):  # the parent has closed its end, or was killed
        return
