"""Calls side by side: each in a process of its own where that is safe, else in threads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from dcpctl.errors import DcpctlError, ReadFailed

T = TypeVar("T")
Advance = Callable[[int, int], None]


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
    if at_once == 1:
        return list(_counted((call() for call in calls), len(calls), advance))
    with ThreadPoolExecutor(at_once, thread_name_prefix="dcpctl-each") as pool:
        try:
            made = pool.map(lambda call: call(), calls)
            return list(_counted(made, len(calls), advance))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


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


@dataclass(frozen=True, slots=True)
class _Running:
    number: int
    process: ForkProcess


class _Processes:
    """Starts a process for each call, no more at once than it may, and collects the answers."""

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
        self.answers: dict[int, Any] = {}
        self.running: dict[Connection, _Running] = {}

    def run(self) -> list[Any]:
        waiting = list(enumerate(self.calls))[::-1]
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.at_once:
                    self._start(*waiting.pop())
                for ready in wait(list(self.running)):
                    assert isinstance(ready, Connection)
                    self._take(ready)
        finally:
            for left in self.running.values():
                left.process.terminate()
                left.process.join()
        return [self.answers[number] for number in range(len(self.calls))]

    def _start(self, number: int, call: Callable[[], Any]) -> None:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_answer, args=(call, theirs))
        with warnings.catch_warnings():
            # Of the threads that Python counts here none is its own; NumPy's end themselves first.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        self.running[ours] = _Running(number, process)

    def _take(self, ready: Connection) -> None:
        running = self.running[ready]
        try:
            failed, answer = ready.recv()
        except (EOFError, OSError):
            running.process.join()
            code = running.process.exitcode or 0
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            error = ReadFailed(
                f"the process that read it {how}", hint="with --jobs 1 it has the memory alone"
            )
            failed, answer = False, self.lost[running.number](error)
        running.process.join()
        ready.close()
        del self.running[ready]
        if failed:
            raise answer
        self.answers[running.number] = answer
        if self.advance is not None:
            self.advance(len(self.answers), len(self.calls))


def _answer(call: Callable[[], Any], pipe: Connection) -> None:
    """What a process does; an interrupt is for the parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer = (False, call())
    except Exception as error:
        answer = (True, error)
    try:
        pipe.send(answer)
    except BrokenPipeError:  # the parent was killed
        os._exit(1)
