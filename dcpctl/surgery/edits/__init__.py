"""A list of edits, made one after the other: what every command of surgery comes down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.errors import DcpctlError, NothingSelected, Refused, UsageError
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.model.draft import Draft
    from dcpctl.model.rename_rules import Renaming
    from dcpctl.surgery.outcome import Outcome


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
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.parts.joining import merge, parted

    draft = Draft.of(checkpoint)
    prefixes = tuple(f"{part.name}/" for part in checkpoint.parts if part.name)
    clashing = prefixes and any(fqn.startswith(prefixes) for fqn in draft.entries)
    if not clashing or len(parted(draft)) < 2:
        return draft, []
    outcome = merge([draft])
    return outcome.draft, [Applied("merge", outcome)]


def apply_edits(
    checkpoint: Checkpoint, edits: Sequence[Verb], open_: Open
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
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.names.survey import with_pairs
    from dcpctl.surgery.parts.members import each, joined, members

    held = [Draft.of(checkpoint)]
    if not any(edit.joins for edit in edits):
        held = members(held[0])
    elif not edits[0].joins:
        held = [draft_of(checkpoint)[0]]
    done: list[Applied] = []
    for number, edit in enumerate(edits, 1):

        def act(draft: Draft, edit: Verb = edit) -> Outcome:
            draft = with_pairs(draft, getattr(edit, "optimizer_of", ()))
            return edit.apply(draft, open_)

        try:
            if len(held) == 1:
                outcome = act(held[0])
                held = [outcome.draft]
            else:
                held, outcome = each(held, act)
        except DcpctlError as error:
            if len(edits) > 1:
                error.args = (f"edit {number}, {edit.verb}: {error.message}",)
            raise
        done.append(Applied(edit.verb, outcome))
    return joined(held), done


def names_after(checkpoint: Checkpoint, renaming: Renaming) -> Mapping[str, str] | None:
    """What a rename would call each key; None where it is refused."""
    from dcpctl.surgery.names.renamer import rename

    draft, _ = draft_of(checkpoint)
    try:
        outcome = rename(draft, renaming.rules, keys_only=renaming.keys_only)
    except (Refused, NothingSelected, UsageError):
        return None
    names = {fqn: fqn for fqn in draft.entries}
    names.update((change.fqn, change.to) for change in outcome.changes if change.what == "renamed")
    return names
