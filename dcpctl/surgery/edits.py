"""Edits as values: what `dcpctl edit` applies in order, and every other verb one of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dcpctl.errors import DcpctlError, listed
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.verdict import PARTIAL
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.rename_rules import Rule
from dcpctl.surgery.cast import cast
from dcpctl.surgery.drop import drop
from dcpctl.surgery.members import each, joined, members
from dcpctl.surgery.merge import merge, parted
from dcpctl.surgery.optimizer_of import Pair, with_pairs
from dcpctl.surgery.outcome import Change, Outcome
from dcpctl.surgery.placements import Placement
from dcpctl.surgery.rename import rename
from dcpctl.surgery.reshard import ReshardOptions, laid_out
from dcpctl.surgery.reshard_kept import kept_by_rank
from dcpctl.surgery.select import select
from dcpctl.surgery.set import Assignment, assign

#: Opens a checkpoint that an edit names; whoever passes it closes them all.
Open = Callable[[Path], Checkpoint]


@dataclass(frozen=True, slots=True)
class Rename:
    """`rename`: see `surgery.rename.rename`."""

    rules: tuple[Rule, ...]
    keys_only: bool = False
    optimizer_of: tuple[Pair, ...] = ()
    verb = "rename"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        return rename(draft, self.rules, keys_only=self.keys_only)


@dataclass(frozen=True, slots=True)
class Drop:
    """`drop`: see `surgery.drop.drop`."""

    globs: tuple[str, ...] = ()
    section: str | None = None
    with_state: bool = False
    optimizer_of: tuple[Pair, ...] = ()
    verb = "drop"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        return drop(draft, self.globs, section=self.section, with_state=self.with_state)


@dataclass(frozen=True, slots=True)
class Select:
    """`select`: see `surgery.select.select`."""

    globs: tuple[str, ...] = ()
    section: str | None = None
    with_state: bool = False
    optimizer_of: tuple[Pair, ...] = ()
    verb = "select"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        return select(draft, self.globs, section=self.section, with_state=self.with_state)


@dataclass(frozen=True, slots=True)
class Set:
    """`set`: see `surgery.set.assign`, and `surgery.add.add` for what is added before."""

    assignments: tuple[Assignment, ...] = ()
    change_type: bool = False
    fill: bool = False
    added: tuple[Assignment, ...] = ()
    verb = "set"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        from dcpctl.surgery.add import add

        draft, changes, notes = add(draft, self.added) if self.added else (draft, [], [])
        done = assign(draft, self.assignments, change_type=self.change_type, fill=self.fill)
        return dataclasses.replace(
            done, changes=(*changes, *done.changes), notes=(*notes, *done.notes)
        )


@dataclass(frozen=True, slots=True)
class Cast:
    """`cast`: see `surgery.cast.cast`."""

    dtype: str
    globs: tuple[str, ...] = ()
    allow_lossy: bool = False
    verb = "cast"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        return cast(draft, self.dtype, self.globs, allow_lossy=self.allow_lossy)


@dataclass(frozen=True, slots=True)
class Merge:
    """`merge`: see `surgery.merge.merge`; the checkpoints to merge with."""

    paths: tuple[Path, ...] = ()
    verb = "merge"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        return merge([draft, *(Draft.of(open_(path)) for path in self.paths)])


@dataclass(frozen=True, slots=True)
class Upgrade:
    """`upgrade`: see `surgery.upgrade.upgrade`; None leaves a choice to it."""

    torch: str | None = None
    optimizer: str | None = None
    optimizer_keys: str | None = None
    fill_missing_state: str | None = None
    wrappers: bool | None = None
    optimizer_of: tuple[Pair, ...] = ()
    verb = "upgrade"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        from dcpctl.surgery.upgrade import UpgradeOptions, upgrade

        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "optimizer_of" and getattr(self, field.name) is not None
        }
        made, steps = upgrade(draft, UpgradeOptions(**given))
        changes = tuple(Change(step.name, "", step.note) for step in steps if step.changed)
        notes = tuple(
            f"{step.name}: {step.note}" for step in steps if not step.changed and step.note
        )
        return Outcome(made, changes, notes if changes else (*notes, "there is nothing to upgrade"))


@dataclass(frozen=True, slots=True)
class Reshard:
    """`reshard`: see `surgery.reshard.reshard`; `like` is a path here."""

    world_size: int | None = None
    mesh: Mapping[str, int] | None = None
    placements: Mapping[str, Any] | None = None
    like: Path | None = None
    optimizer_of: tuple[Pair, ...] = ()
    verb = "reshard"

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit."""
        like = None if self.like is None else open_(self.like)
        options = ReshardOptions(self.world_size, self.mesh, self.placements, like)
        made, assumed = laid_out(draft, options)
        ranks = made.world_size or 0
        note = f"laid out for {ranks:,} rank{'' if ranks == 1 else 's'}"
        notes = [
            f"assumed {_on_axes(self.mesh or (), chosen)} for {listed(names, 3)}"
            for chosen, names in assumed.items()
        ]
        if notes:
            notes.append(
                "a mesh does not say how a job splits its tensors: --like PATH copies the layout "
                "of a save of that job, --placements FILE says it by name"
            )
        notes += kept_by_rank(draft, ranks)
        warnings = tuple(_partial_state(draft))
        return Outcome(made, (Change("resharded", "", note),), tuple(notes), warnings)


def _partial_state(draft: Draft) -> Iterator[str]:
    """What a new layout does not give back: state of which a part is not in the source."""
    for source in draft.sources:
        view = OptimizerView(source)
        if view.verdict == PARTIAL:
            yield f"{view.sentence} Another layout does not bring it back."


def _on_axes(axes: Iterable[str], placements: Iterable[Placement]) -> str:
    return ", ".join(f"{axis} {placed}" for axis, placed in zip(axes, placements, strict=True))


Edit = Rename | Drop | Select | Set | Cast | Merge | Upgrade | Reshard
#: Edits for which it matters which optimizer belongs to which model.
PAIRED = (Rename, Drop, Select, Upgrade, Reshard)


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """One edit that was made.

    Attributes:
        verb: which.
        outcome: what came of it.
    """

    verb: str
    outcome: Outcome


def draft_of(checkpoint: Checkpoint) -> tuple[Draft, list[Applied]]:
    """Return a checkpoint as a draft; parts that have keys in common are merged first.

    Raises:
        Refused: the parts contradict each other.
    """
    draft = Draft.of(checkpoint)
    prefixes = tuple(f"{part.name}/" for part in checkpoint.parts if part.name)
    clashing = prefixes and any(fqn.startswith(prefixes) for fqn in draft.entries)
    if not clashing or len(parted(draft)) < 2:
        return draft, []
    outcome = merge([draft])
    return outcome.draft, [Applied("merge", outcome)]


def apply_edits(
    checkpoint: Checkpoint, edits: Sequence[Edit], open_: Open
) -> tuple[Draft, list[Applied]]:
    """Make edits one after the other; reads no tensor and writes nothing.

    Args:
        checkpoint: the source.
        edits: in their order.
        open_: opens what an edit names (`merge`, `reshard --like`).

    Returns:
        The last draft, and what came of each edit.

    Raises:
        As the edits; with several, the message says which.
    """
    held = [Draft.of(checkpoint)]
    if not any(isinstance(edit, Merge) for edit in edits):
        held = members(held[0])
    elif not isinstance(edits[0], Merge):
        held = [draft_of(checkpoint)[0]]
    done: list[Applied] = []
    for number, edit in enumerate(edits, 1):

        def act(draft: Draft, edit: Edit = edit) -> Outcome:
            if isinstance(edit, PAIRED):
                draft = with_pairs(draft, edit.optimizer_of)
            return edit.apply(draft, open_)

        try:
            if len(held) == 1:
                outcome = act(held[0])
                held = [outcome.draft]
            else:
                held, outcome = each(held, act)
        except DcpctlError as error:
            if len(edits) > 1:
                error.args = (f"edit {number}, {edit.verb}: {error}",)
            raise
        done.append(Applied(edit.verb, outcome))
    return joined(held), done
