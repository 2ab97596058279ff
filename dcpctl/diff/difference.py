"""What a comparison came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dcpctl.diff.contents import Contents
from dcpctl.diff.key_groups import KeyGroup
from dcpctl.diff.layouts import LayoutDifference
from dcpctl.diff.objects import ObjectChange, ObjectDifference
from dcpctl.diff.optimizer import OptimizerDifference
from dcpctl.diff.options import (
    ASPECTS,
    CONTENTS,
    KEYS,
    LAYOUT,
    OBJECTS,
    OPTIMIZER,
    SHAPES,
    VALUES,
    DiffOptions,
)
from dcpctl.diff.pairing import Pairing
from dcpctl.diff.shapes import SpecChange
from dcpctl.diff.subject import Side
from dcpctl.errors import DcpctlError
from dcpctl.model.loading import LoadPreview
from dcpctl.model.rename_rules import Upgrading


@dataclass(frozen=True)
class Difference:
    """Everything that was compared; what was not is None, or empty.

    Attributes:
        a: the first checkpoint.
        b: the second.
        options: what was asked.
        ignored: keys that were left out, of both together.
        pairing: which key is which.
        specs: keys of another shape or dtype, or kind.
        layout: how the tensors of both lie.
        optimizer: what the two say of their optimizers; None too where neither has one.
        objects: the bytes entries of both.
        contents: what stored checksums tell of the tensors' numbers, or what reading them does.
        load: what a stock `dcp.load` of A does in a run whose state dict is B's.
        anew: parameters of B whose optimizer state that load leaves on disk: it would begin anew.
        remedy: the upgrade after which that load no longer raises.
        misplaced: of the renamed, those whose key in B is something else's key in A: a load puts
            that there.
        removed: the keys of A alone, in groups.
        added: the keys of B alone, in groups.
        rewritten: the tensors of other numbers by their keys in A, in groups.
    """

    a: Side
    b: Side
    options: DiffOptions
    ignored: tuple[str, ...]
    pairing: Pairing
    specs: tuple[SpecChange, ...] = ()
    layout: LayoutDifference | None = None
    optimizer: OptimizerDifference | None = None
    objects: ObjectDifference | None = None
    contents: Contents | None = None
    load: LoadPreview | None = None
    anew: tuple[str, ...] = ()
    remedy: Upgrading | None = None
    misplaced: tuple[tuple[str, str], ...] = ()
    removed: tuple[KeyGroup, ...] = ()
    added: tuple[KeyGroup, ...] = ()
    rewritten: tuple[KeyGroup, ...] = ()

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Aspect to the number of things that differ, of those that were compared."""
        found = {
            KEYS: self._keys,
            SHAPES: len(self.counted_specs),
            LAYOUT: self.layout.changed if self.layout else 0,
            OPTIMIZER: self.optimizer.changed if self.optimizer else 0,
            OBJECTS: len(self.objects_apart),
            CONTENTS: len(self.contents.different) if self.contents else 0,
            VALUES: len(self.contents.different) if self.contents else 0,
        }
        aspects = self.options.aspects
        return {aspect: found[aspect] for aspect in ASPECTS if aspect in aspects}

    @property
    def same(self) -> bool:
        """Whether nothing that was compared differs (exit code 0)."""
        return not any(self.counts.values())

    @property
    def objects_apart(self) -> tuple[ObjectChange, ...]:
        """The objects of another value, but for those that differences of param groups tell of."""
        if self.objects is None:
            return ()
        told = self.optimizer is not None and bool(self.optimizer.changes)
        return tuple(one for one in self.objects.changed if not (told and one.in_groups))

    @property
    def unread(self) -> list[tuple[str, str, DcpctlError]]:
        """Key in A and in B of what cannot be read, and so was not compared, and why."""
        objects = self.objects.unread if self.objects else ()
        tensors = self.contents.unread if self.contents else ()
        found = [(one.fqn_a, one.fqn_b, one.error) for one in objects]
        found += [(one.a, one.b, one.failure) for one in tensors if one.failure is not None]
        return found

    @property
    def _keys(self) -> int:
        """Keys of one side alone; where values are compared, names do not count."""
        if VALUES not in self.options.aspects or self.options.keys_only:
            return self.pairing.changed
        return len(self.pairing.removed) + len(self.pairing.added)

    @property
    def counted_specs(self) -> tuple[SpecChange, ...]:
        """Changed kinds of entry that count: where values are compared, dtypes do not."""
        if VALUES not in self.options.aspects or self.options.keys_only:
            return self.specs
        return tuple(change for change in self.specs if not change.comparable)
