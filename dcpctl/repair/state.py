"""Optimizer state that is damaged: given up, for exactly the parameters whose state it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dcpctl.errors import Refused, listed
from dcpctl.formats.records import StoredTensor
from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, Grid, TensorDraft
from dcpctl.model.optimizer.source import StateEntry
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.shard_file import rank_and_number
from dcpctl.model.source import Fill, NewValue
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.remedy import DROPPED, FILLED, Remedy
from dcpctl.repair.survey import Lost, Survey

#: Slots that torch's optimizers begin with zeros in; others begin with something else (NAdam's
#: `mu_product` with 1, Rprop's `step_size` with lr).
_FROM_ZERO = frozenset(
    {
        "step",
        "exp_avg",
        "exp_avg_sq",
        "max_exp_avg_sq",
        "exp_inf",
        "square_avg",
        "grad_avg",
        "acc_delta",
        "momentum_buffer",
    }
)


@dataclass(frozen=True, slots=True)
class GivenUp:
    """What was done.

    Attributes:
        remedies: one for each state entry that was dropped or filled.
        warnings: what that means for the run.
        left: what is lost and no optimizer state.
    """

    remedies: tuple[Remedy, ...]
    warnings: tuple[str, ...]
    left: list[Lost]


def give_up_state(
    draft: Draft, survey: Survey, left: Sequence[Lost], options: RepairOptions
) -> tuple[Draft, GivenUp]:
    """Drop or renew all state of every parameter of which some state is lost.

    The whole state of a parameter goes, its step too: moments of which a part is zero, beside a
    step that counts thousands of updates, would make the next updates far too large.

    Args:
        draft: the checkpoint.
        survey: what there was.
        left: what is still lost.
        options: which of the two.

    Raises:
        Refused: to be filled, a slot that does not begin with zeros.
    """
    gone = {lost.fqn for lost in left}
    slots = {
        parameter.name: {
            fqn: slot
            for slot, entry in parameter.slots.items()
            for fqn in _entries_of(entry, draft)
        }
        for parameter in OptimizerView(draft).parameters
    }
    slots = {name: held for name, held in slots.items() if not gone.isdisjoint(held)}
    state = {fqn: slot for held in slots.values() for fqn, slot in held.items()}
    others = [lost for lost in left if lost.fqn not in state]
    if not state:
        return draft, GivenUp((), (), others)
    names = listed(slots)
    if options.drop_broken_state:
        made = _without(draft, set(state))
        warning = (
            f"all optimizer state of {len(slots):,} parameters is dropped ({names}): a load that "
            "asks for it fails; with allow_partial_load they start from zero"
        )
        what = DROPPED
    else:
        odd = sorted({slot for slot in state.values() if slot not in _FROM_ZERO})
        if odd:
            raise Refused(
                f"what a new optimizer has in {listed(odd)} is not known to be zeros",
                hint="--drop-broken-state leaves the state out",
            )
        made = _renewed(draft, survey, set(state))
        warning = (
            f"the optimizer starts over for {len(slots):,} parameters ({names}): zeros, and step 0"
        )
        what = FILLED
    remedies = tuple(Remedy(what, fqn) for fqn in draft.entries if fqn in state)
    return made, GivenUp(remedies, (warning,), others)


def _entries_of(slot: StateEntry, draft: Draft) -> list[str]:
    """The FQNs that hold a slot; a list (LBFGS) has one for each of its members."""
    if slot.parts == 1:
        return [slot.fqn]
    root = slot.fqn.rpartition(".")[0] + "."
    return [fqn for fqn in draft.entries if fqn.startswith(root)]


def _without(draft: Draft, fqns: set[str]) -> Draft:
    planner = draft.planner_data
    if planner is not None:
        planner = {fqn: way for fqn, way in planner.items() if fqn not in fqns}
    kept = [entry for fqn, entry in draft.entries.items() if fqn not in fqns]
    return draft.with_entries(kept, planner)


def _renewed(draft: Draft, survey: Survey, fqns: set[str]) -> Draft:
    entries = [
        _new(entry, survey) if fqn in fqns else entry for fqn, entry in draft.entries.items()
    ]
    return draft.with_entries(entries, draft.planner_data)


def _new(entry: EntryDraft, survey: Survey) -> EntryDraft:
    """An entry of zeros with the chunks that it has, or should have."""
    if isinstance(entry, BytesDraft):
        return BytesDraft(entry.fqn, NewValue(0))
    stored = survey.layout.entries[entry.fqn]
    assert isinstance(stored, StoredTensor)
    chunks = stored.chunks
    rows = np.arange(len(chunks))
    if chunks.offsets.shape[1]:
        rows = np.sort(np.unique(chunks.offsets, axis=0, return_index=True)[1])
    ranks = [rank_and_number(name)[0] or 0 for name in survey.layout.files]
    rank = [ranks[file] if file >= 0 else 0 for file in chunks.file[rows].tolist()]
    grid = Grid(chunks.offsets[rows], chunks.sizes[rows], np.array(rank, dtype=np.int64))
    return TensorDraft(entry.fqn, entry.shape, entry.dtype, Fill(0.0), grid)
