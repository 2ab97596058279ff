"""A bounded set of open file descriptors that threads share."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class Handle:
    """An open file.

    Attributes:
        fd: file descriptor, for positioned reads only: its file position is shared.
        size: bytes in the file when it was opened.
        users: how many reads are using `fd` now; it is not closed before they are done.
    """

    fd: int
    size: int
    users: int = 0


class HandleCache:
    """The most recently used descriptors, opened on demand and closed beyond `capacity`.

    Descriptors that are never closed by `close` are closed when the cache is collected.

    Args:
        opener: opens a name, returns descriptor and size. Must not refer to this cache's owner,
            which would then never be collected.
        capacity: how many descriptors to keep; more are open only while more are in use.
    """

    def __init__(self, opener: Callable[[str], tuple[int, int]], capacity: int) -> None:
        self._opener = opener
        self._capacity = capacity
        self._lock = threading.Lock()
        self._handles: OrderedDict[str, Handle] = OrderedDict()
        self._closed = False
        weakref.finalize(self, _close_all, self._handles)

    @contextmanager
    def use(self, name: str) -> Iterator[Handle]:
        """Give the open handle of `name`; it stays open until the block ends.

        Raises:
            ValueError: the cache is closed.
            Whatever the opener raises.
        """
        handle = self._acquire(name)
        try:
            yield handle
        finally:
            self._release(handle)

    def close(self) -> None:
        """Close every descriptor that no read is using; the others when their read ends."""
        with self._lock:
            self._closed = True
            self._trim(0)

    def _acquire(self, name: str) -> Handle:
        with self._lock:
            if self._closed:
                raise ValueError("read from a closed storage")
            handle = self._handles.get(name)
            if handle is None:
                handle = self._handles[name] = Handle(*self._opener(name))
            self._handles.move_to_end(name)
            handle.users += 1
            self._trim(self._capacity)
            return handle

    def _release(self, handle: Handle) -> None:
        with self._lock:
            handle.users -= 1
            self._trim(0 if self._closed else self._capacity)

    def _trim(self, keep: int) -> None:
        excess = len(self._handles) - keep
        if excess <= 0:
            return
        idle = [name for name, handle in self._handles.items() if not handle.users]
        for name in idle[:excess]:
            os.close(self._handles.pop(name).fd)


def _close_all(handles: OrderedDict[str, Handle]) -> None:
    while handles:
        os.close(handles.popitem()[1].fd)
