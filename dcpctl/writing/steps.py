"""The writer's steps, by name, for whoever wants to see them pass.

Every change on disk is preceded by one call of `step`, so that a test can count the steps and end
the process, fail a call or change the source at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observer = Callable[[str], None]
_observers: list[Observer] = []


def step(name: str) -> None:
    """Say that the step `name` comes next; an observer may raise, or never return."""
    for observer in _observers:
        observer(name)


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Call `observer` with each step's name, from whichever thread takes it, inside the block."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
