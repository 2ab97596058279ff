"""One of the two checkpoints of a comparison, without the keys that are ignored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property
from pathlib import Path
from typing import Any

from dcpctl import torch_bridge
from dcpctl.formats.pickles.standins import PackedTensor
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.copies import compare_copies
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.layout import Layouts, survey
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.releases import form_of
from dcpctl.model.sections import Sections, classify
from dcpctl.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Side:
    """A checkpoint in numbers, the ignored keys left out.

    Attributes:
        path: the directory that was asked for.
        format: the on-disk form, as `Checkpoint.format`.
        keys: entries.
        tensors: tensor entries.
        nbytes: bytes of all tensors' numbers.
    """

    path: Path
    format: str
    keys: int
    tensors: int
    nbytes: int


class Subject:
    """A checkpoint as it is compared; answers what the surveys of `model` ask of one.

    Args:
        checkpoint: an open checkpoint.
        ignore: globs of keys that do not count.

    Attributes:
        entries: FQN to entry, in metadata order.
        planner_data: FQN to object path, or None.
        ignored: the FQNs that were left out.
    """

    def __init__(self, checkpoint: Checkpoint, ignore: Sequence[str] = ()) -> None:
        self.checkpoint = checkpoint
        self.ignored = matching(checkpoint.entries, ignore)
        self.entries: Mapping[str, Entry] = checkpoint.entries
        self.planner_data: Mapping[str, tuple[Any, ...]] | None = checkpoint.planner_data
        if self.ignored:
            gone = self.ignored
            self.entries = {f: e for f, e in checkpoint.entries.items() if f not in gone}
            if self.planner_data is not None:
                left_out = gone | matching(self.planner_data, ignore)
                kept = {f: p for f, p in self.planner_data.items() if f not in left_out}
                self.planner_data = kept

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """The tensor entries, in metadata order."""
        return {fqn: e for fqn, e in self.entries.items() if isinstance(e, TensorEntry)}

    @cached_property
    def objects(self) -> dict[str, BytesEntry]:
        """The bytes entries, in metadata order."""
        return {fqn: e for fqn, e in self.entries.items() if isinstance(e, BytesEntry)}

    @property
    def packed(self) -> Mapping[str, PackedTensor]:
        """FQN to what it holds, of the tensors of a subclass and packed ones."""
        return self.checkpoint.packed

    @cached_property
    def places(self) -> list[tuple[Storage, str]]:
        """Where each shard file is read: the directory, and its name there."""
        parts = self.checkpoint.parts
        return [(part.storage, name) for part in parts for name in part.stored.files]

    @cached_property
    def sections(self) -> Sections:
        """The section of every entry."""
        return classify(self)

    @cached_property
    def view(self) -> OptimizerView:
        """What it says of its optimizer."""
        return OptimizerView(self, self.sections)

    @cached_property
    def layouts(self) -> Layouts:
        """How its tensors lie over the ranks."""
        return survey(self.tensors, self.checkpoint.files, compare_copies(self.checkpoint))

    @property
    def release(self) -> str:
        """The torch release that an upgrade to its form has to name.

        Empty where the installed one writes that form, which an upgrade then takes by itself, and
        where the form is not known.
        """
        forms = [form_of(part.stored) for part in self.checkpoint.parts]
        if len(forms) != 1 or forms[0] is None:
            return ""
        installed = torch_bridge.installed_version()
        if installed is not None and forms[0].written_by(installed):
            return ""
        return forms[0].releases.split()[-1]

    @cached_property
    def side(self) -> Side:
        """It in numbers."""
        return Side(
            self.checkpoint.path,
            self.checkpoint.format,
            len(self.entries),
            len(self.tensors),
            sum(entry.nbytes for entry in self.tensors.values()),
        )


def matching(fqns: Iterable[str], globs: Sequence[str]) -> frozenset[str]:
    """Return the FQNs that any of several globs matches.

    As a shell has it, and `*` also matches dots. A plain name at a dot matches all below it.
    """
    if not globs:
        return frozenset()
    match = re.compile("|".join(f"(?:{translate(glob)})" for glob in globs)).match
    below = tuple(glob.rstrip(".") + "." for glob in globs)
    return frozenset(fqn for fqn in fqns if match(fqn) or fqn.startswith(below))
