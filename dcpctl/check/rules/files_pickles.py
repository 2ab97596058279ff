"""DCP2xx: pickles beside the shards, which a framework loads with them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from dcpctl import limits
from dcpctl.check.finding import ERROR, WARNING
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import DcpctlError, listed, printable
from dcpctl.formats.side_pickles import imports_of
from dcpctl.model.checkpoint import Part
from dcpctl.storage.local import LocalStorage

_OF_A_RANK = re.compile(r"__\d+\.metadata")
_SHARD = re.compile(r"__\d+_\d+\.distcp|.*\.safetensors")


@rule("DCP213", WARNING, "a pickle beside the shards", security=True)
def side_pickles(run: Run) -> Iterator[Hit]:
    """Code that loading a side file runs; with `security` also those that cannot be judged."""
    with LocalStorage(run.checkpoint.directory) as storage:
        read = {
            os.path.realpath(part.storage.root / name)
            for part in run.checkpoint.parts
            for name in _metadata(part)
        }
        for name in _names(storage.root):
            if os.path.realpath(storage.root / name) in read:
                continue
            try:
                found, unjudged = imports_of(storage, name, storage.size(name))
            except DcpctlError:
                continue  # links that lead out, FIFOs: DCP209 and DCP206 tell of them
            runs = [one.path for one in found if one.runs]
            if runs:
                yield Hit(
                    name, f"a pickle; loading this runs code: {listed(runs)}", name, severity=ERROR
                )
            elif unjudged and run.options.security:
                why = printable(unjudged).partition(": ")[2] or unjudged
                yield Hit(name, f"a pickle that cannot be judged: {why}", name)


def _metadata(part: Part) -> list[str]:
    """The files that the part's metadata were read from, which is stricter."""
    if part.stored.form.per_rank:
        return [name for name in part.storage.names() if _OF_A_RANK.fullmatch(name)]
    return [part.stored.metadata_file] if part.stored.metadata_file else []


def _names(root: Path) -> Iterator[str]:
    """The files in and below a save that are no shards, sorted; links are not followed."""
    left = limits.SIDE_FILES
    for where, directories, files in os.walk(root):
        directories.sort()
        below = Path(where).relative_to(root)
        if len(below.parts) >= limits.TREE_DEPTH:
            directories.clear()
        for file in sorted(files):
            if _SHARD.fullmatch(file):
                continue
            left -= 1
            if left < 0:
                return
            yield (below / file).as_posix()
