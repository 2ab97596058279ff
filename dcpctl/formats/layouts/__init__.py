"""The on-disk forms of a checkpoint directory; each module reads one.

A module has `recognises(names)`, which decides by file names alone, and `read(storage)`. A new form
is a new module and its line in `READERS`; the first that recognises a directory reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dcpctl.formats.layouts import dcp, per_rank, safetensors_files
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.storage.local import LocalStorage


class LayoutReader(Protocol):
    """What a module of this package offers."""

    def recognises(self, names: Mapping[str, int]) -> bool:
        """Whether a directory with these files (name -> bytes) has this form."""

    def read(self, storage: LocalStorage) -> StoredCheckpoint:
        """Describe the checkpoint in `storage`; reads metadata and headers, no tensor."""


READERS: tuple[LayoutReader, ...] = (dcp, per_rank, safetensors_files)


def find_reader(names: Mapping[str, int]) -> LayoutReader | None:
    """The reader of a directory with these files, or None if no form fits."""
    return next((reader for reader in READERS if reader.recognises(names)), None)
