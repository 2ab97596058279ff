"""Which chunks of an entry a box touches; fast for the few chunks that most tensors have."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from dcpctl.formats.records import Chunk
from dcpctl.model import boxes
from dcpctl.model.entry import TensorEntry

#: Entries of up to so many chunks are looked at as Python objects, those of more as columns.
_FEW = 64
_REMEMBERED = 256


class Rows:
    """Remembers the chunks of entries. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, list[Chunk]] = {}

    def overlapping(
        self, entry: TensorEntry, starts: tuple[int, ...], stops: tuple[int, ...]
    ) -> Iterator[tuple[int, Chunk]]:
        """Yield row and chunk of every chunk that shares an element with [starts, stops)."""
        if len(entry.chunks) > _FEW:
            for row in boxes.overlapping(entry.chunks, starts, stops).tolist():
                yield row, entry.chunks[row]
            return
        for row, chunk in enumerate(self._chunks(entry)):
            if all(
                offset < stop and offset + size > start and size
                for offset, size, start, stop in zip(
                    chunk.offsets, chunk.sizes, starts, stops, strict=True
                )
            ):
                yield row, chunk

    def _chunks(self, entry: TensorEntry) -> list[Chunk]:
        with self._lock:
            known = self._known.get(id(entry))
        if known is None:
            known = list(entry.chunks)
            with self._lock:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[id(entry)] = known
        return known
