"""From a broken checkpoint to a draft of a sound one: survey, remedies, what is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import Refused, listed, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.draft import Draft
from dcpctl.model.sections import classify
from dcpctl.repair.beginning import RENAME, survey
from dcpctl.repair.grafts import collect_grafts
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.parts import PartsBin, collect_copies
from dcpctl.repair.remedy import LEFT_OUT, Remedy
from dcpctl.repair.state import give_up_state
from dcpctl.repair.survey import REBUILT, Lost, Survey
from dcpctl.repair.wording import count, sentence_of


@dataclass(frozen=True, slots=True, eq=False)
class Mended:
    """What came of a repair or a salvage, before it is written.

    Attributes:
        draft: the result.
        survey: what there was.
        remedies: what was done about what is lost.
        warnings: what is lost or may surprise, a sentence each.
    """

    draft: Draft
    survey: Survey
    remedies: tuple[Remedy, ...]
    warnings: tuple[str, ...]


class NothingToRepair(Refused):
    """The checkpoint is whole."""

    id = "nothing-to-repair"


def repair(
    path: Path, sibling: Checkpoint | None, options: RepairOptions, opened: ExitStack
) -> Mended:
    """Make a broken checkpoint whole, or refuse.

    Args:
        path: the directory; nothing in it is written to.
        sibling: another save of the same run, to take names, places and lost chunks from.
        options: which remedies are allowed.
        opened: closes what is opened here, once the draft is written.

    Raises:
        NothingToRepair: nothing is wrong with the checkpoint.
        Refused: something is lost for which no remedy was asked, or a match is in doubt.
        InputError: there is nothing to begin with.
    """
    found = survey(path, sibling, options, opened)
    if found.is_sound():
        raise NothingToRepair(
            f"nothing is wrong with the files of {quote(path)}: {found.verified:,} items are where "
            ".metadata places them, with matching checksums",
            hint="dcpctl check looks at what is in them",
        )
    _check_doubts(found)
    bins = PartsBin(found)
    collect_copies(found, bins)
    if sibling is not None:
        collect_grafts(found, bins, sibling, options)
    draft = dataclasses.replace(Draft.of(bins.checkpoint(path)), tidy=True)
    left, remedies, warnings = bins.left(), list(bins.remedies), list(bins.warnings)
    if left and (options.drop_broken_state or options.fill_broken_state):
        draft, given_up = give_up_state(draft, found, left, options)
        left = given_up.left
        remedies += given_up.remedies
        warnings += given_up.warnings
    if left:
        raise _refusal(found, left, bins, draft, sibling)
    return Mended(draft, found, tuple(remedies), (*warnings, *_warnings(found)))


def salvage(
    path: Path, sibling: Checkpoint | None, options: RepairOptions, opened: ExitStack
) -> Mended:
    """Take out of a broken checkpoint every entry that is provably good as a whole.

    Args:
        path: the directory; nothing in it is written to.
        sibling: another save of the same run, to take names and places from where there are no
            metadata; no number of it gets into the result.
        options: what counts as good.
        opened: closes what is opened here, once the draft is written.

    Raises:
        Refused: nothing is good, or the sibling contradicts what was matched.
        InputError: there is nothing to begin with.
    """
    found = survey(path, sibling, options, opened, in_part=True)
    bins = PartsBin(found)
    collect_copies(found, bins)
    draft = dataclasses.replace(Draft.of(bins.checkpoint(path)), tidy=True)
    lost = {item.fqn for item in bins.left()}
    kept = [entry for fqn, entry in draft.entries.items() if fqn not in lost]
    if not kept:
        raise Refused(f"nothing in {quote(path)} is provably good: {sentence_of(found)}")
    planner = draft.planner_data
    if planner is not None:
        planner = {fqn: way for fqn, way in planner.items() if fqn not in lost}
    left_out = [Remedy(LEFT_OUT, fqn) for fqn in draft.entries if fqn in lost]
    warnings = _warnings(found)
    if left_out:
        said = listed(remedy.fqn for remedy in left_out)
        warnings = (f"{count(len(left_out), 'key')} lost: {said}", *warnings)
    return Mended(draft.with_entries(kept, planner), found, (*bins.remedies, *left_out), warnings)


def check_destination(target: Path, sibling: Path | None) -> None:
    """Refuse a destination that would be written over the sibling.

    Raises:
        Refused: it is the sibling, in it or around it.
    """
    if sibling is None:
        return
    here, there = target.resolve(), sibling.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise Refused(f"the destination {quote(target)} would be written over {quote(sibling)}")


def _check_doubts(found: Survey) -> None:
    """Refuse where an item may be one entry or another, or belongs to none.

    Raises:
        Refused: there are such.
    """
    doubtful = dict.fromkeys(lost.fqn for lost in found.lost if lost.doubtful)
    if doubtful:
        raise Refused(
            f"{count(len(doubtful), 'key')} in doubt ({listed(doubtful)}): {sentence_of(found)}",
            hint=RENAME
            if any(file.holds for file in found.files)
            else "dcpctl salvage takes what is certain",
        )
    if found.strangers and found.basis == REBUILT:
        raise Refused(
            f"the sibling has no {listed(found.strangers)}: what is in there would be lost",
            hint="name a save with the same layout; a file of an older save may be moved away",
        )


def _refusal(
    found: Survey,
    left: Sequence[Lost],
    bins: PartsBin,
    draft: Draft,
    sibling: Checkpoint | None,
) -> Refused:
    """Say what is lost, and what could be done about it."""
    fqns = dict.fromkeys(lost.fqn for lost in left)
    hints = []
    if bins.offered and sibling is not None:
        hints.append(
            f"--allow-older takes {bins.offered:,} of {len(left):,} from {quote(sibling.path)}, "
            "which is another save, so that the result is not exact"
        )
    elif sibling is None:
        hints.append("--from SIBLING takes what is lost from a copy of the save")
    else:
        hints.append("the sibling has no good chunk in the same place")
    state = {fqn for raw in classify(draft).optimizers for fqn in raw.fqns}
    if state & set(fqns):
        hints.append(
            "--drop-broken-state or --fill-broken-state gives up the optimizer state of the "
            "parameters concerned"
        )
    hints.append("dcpctl salvage takes what is good")
    return Refused(
        f"{count(len(left), 'item')} of {count(len(fqns), 'key')} lost "
        f"({listed(fqns)}): {sentence_of(found) or left[0].why}",
        hint="; ".join(hints),
    )


def _warnings(found: Survey) -> tuple[str, ...]:
    made = []
    if found.unsummed:
        made.append(
            f"{found.unsummed:,} items record no checksum; that their numbers are right is not "
            "proved"
        )
    if found.basis == REBUILT and not found.confirmed:
        made.append("no number speaks for the names: they rest on order, dtypes and shapes alone")
    if found.strangers:
        made.append(f"left out, since no key is in it: {listed(found.strangers)}")
    return tuple(made)
