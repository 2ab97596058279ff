"""The on-disk forms of a checkpoint directory; each module reads one and owns its `Form`.

A module has `recognises(names)`, which decides by file names alone, and `read(storage)`. A new form
is a new module and its line in `READERS`; the first that recognises a directory reads it. Other
packages add theirs as an entry point of the group `dcpctl.layouts`, a module or an object that
offers the same; they are asked after the forms that are built in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Protocol

from dcpctl.errors import UsageError, quote
from dcpctl.formats.layouts import dcp, per_rank, safetensors_files
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.plugins import entry_points
from dcpctl.storage.local import LocalStorage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINTS = "dcpctl.layouts"


class LayoutReader(Protocol):
    """What a module of this package offers."""

    def recognises(self, names: Mapping[str, int]) -> bool:
        """Whether a directory with these files (name -> bytes) has this form."""

    def read(self, storage: LocalStorage) -> StoredCheckpoint:
        """Describe the checkpoint in `storage`; reads metadata and headers, no tensor."""


READERS: tuple[LayoutReader, ...] = (dcp, per_rank, safetensors_files)


def find_reader(names: Mapping[str, int]) -> LayoutReader | None:
    """The reader of a directory with these files, or None if no form fits.

    Raises:
        UsageError: a package that offers a form cannot be imported.
    """
    for reader in READERS:
        if reader.recognises(names):
            return reader
    # Asked for last: to look for other packages takes longer than to open a small checkpoint.
    offered = _offered() if names else ()
    return next((reader for reader in offered if reader.recognises(names)), None)


@cache
def _offered() -> tuple[LayoutReader, ...]:
    """The readers of other packages, by the names of their entry points."""
    return tuple(map(_imported, entry_points(ENTRY_POINTS)))


def _imported(point: EntryPoint) -> LayoutReader:
    try:
        reader: LayoutReader = point.load()
    except Exception as error:
        raise UsageError(
            f"the form {quote(point.name)} of {quote(point.value)} cannot be imported: "
            f"{quote(error)}",
            hint="mend or remove the package that offers it",
        ) from None
    return reader
