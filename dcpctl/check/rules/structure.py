"""DCP1xx: do the chunks of each tensor make the tensor?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check.finding import ERROR
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run


@rule("DCP108", ERROR, "no storage item holds an entry or chunk")
def no_storage_item(run: Run) -> Iterator[Hit]:
    """An entry or chunk whose bytes lie nowhere."""
    for fqn, entry in run.checkpoint.tensors.items():
        lost = int((entry.chunks.file < 0).sum())
        if lost:
            yield Hit(fqn, f"no storage item holds {lost} of its {len(entry.chunks)} chunks")
    for fqn, value in run.checkpoint.bytes_entries.items():
        if value.file < 0:
            yield Hit(fqn, "no storage item holds it")
