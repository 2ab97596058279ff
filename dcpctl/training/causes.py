"""What is likely to have happened where a run asks for other keys than a checkpoint has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dcpctl.errors import quote
from dcpctl.model.fqn import WRAPPERS, Path, is_index
from dcpctl.model.optimizer import naming
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.sections import DATALOADER, MODEL, OPTIMIZER
from dcpctl.training.reports import Together, shapes
from dcpctl.training.stored import StoredKeys, StoredObject

_GET_STATE_DICT = "torch.distributed.checkpoint.state_dict.get_state_dict(model, optimizer)"


class Cause(NamedTuple):
    """A likely cause.

    Attributes:
        text: what has happened, a clause.
        fix: what to do, a clause.
        meant: it may be meant so, and then the keys may stay on disk.
    """

    text: str
    fix: str
    meant: bool = False


def causes(
    found: Together,
    stored: StoredKeys,
    missing: Sequence[str],
    left: dict[str, list[str]],
) -> Iterator[Cause]:
    """Yield the likely causes, the most telling first.

    Args:
        found: what all ranks ask for.
        stored: the checkpoint's keys.
        missing: keys that are asked for and not stored.
        left: section to the keys on disk that are not asked for.
    """
    kinds = [one for one in found.clashes if not shapes([one])]
    if kinds:
        yield Cause(
            "the run's tensors cannot hold what was saved: floats would be cut to ints, or an "
            "object would take the place of a tensor",
            "make the state dict with the types that were saved, and convert after the load",
        )
    if found.clashes:
        if len(kinds) == len(found.clashes):
            return
        yield Cause(
            "the model or its optimizer is not the one that was saved",
            "build it with the checkpoint's sizes: dcpctl inspect CHECKPOINT --keys shows them",
        )
        return
    news = {*found.fillable, *found.doubts}
    strange = [fqn for fqn in missing if fqn not in news]
    renamed = _in_one_piece(strange, stored) or _renamed(strange, left, stored)
    if renamed is not None:
        yield renamed
    else:
        if strange:
            yield Cause(
                "the run asks for what was not saved",
                "build what was saved, or StrictLoadPlanner(allow_partial_load=True) lets it begin "
                "anew",
            )
        yield from _optimizer(found, stored, missing, left.get(OPTIMIZER, []))
        yield from _others(left, missing, stored)
    if found.fillable:
        keys = sorted({fqn.rpartition(".")[2] for fqn in found.fillable})
        yield Cause(
            f"this torch asks for {', '.join(map(quote, keys))} of each param group, which the "
            "release that saved did not have",
            "StrictLoadPlanner(upgrade=True) fills it, or dcpctl upgrade CHECKPOINT NEW for good",
        )
    for why in dict.fromkeys(found.doubts.values()):
        first = next(fqn for fqn, said in found.doubts.items() if said == why)
        yield Cause(
            f"{quote(first)} is not filled: {why}",
            "say what the optimizer was: dcpctl upgrade CHECKPOINT NEW --optimizer NAME",
        )
    if found.torn:
        yield Cause(
            "the ranks give different state dicts: some would continue with what they have",
            "make the same state dict on every rank",
        )


def _optimizer(
    found: Together, stored: StoredKeys, missing: Sequence[str], left: Sequence[str]
) -> Iterator[Cause]:
    """Why optimizer state stays on disk."""
    if not left:
        return
    states, others = optimizer_keys(stored)
    asked = set(found.loaded)
    places = [naming.locate(fqn, None) for fqn in missing]
    if not asked & (states | others) and not any(places):
        yield Cause(
            "the state dict has no optimizer: training would continue from zero moments, unnoticed",
            f"give dcp.load the optimizer's state dict too, as {quote(top_key(left[0], stored))}, "
            f"from {_GET_STATE_DICT}",
            meant=True,
        )
    elif states & set(left) and not asked & states:
        yield Cause(
            "the optimizer's state dict is empty, as that of a new optimizer is before its first "
            "step, that of FSDP.optim_state_dict too: there is nowhere to load the state to",
            f"take it from {_GET_STATE_DICT}, which makes the state first",
            meant=True,
        )
    elif states & set(left):
        yield Cause(
            f"the run's optimizer asks for {len(states & asked):,} of the {len(states):,} entries "
            "of state on disk: it has fewer parameters, or another kind of state",
            "give the optimizer the parameters that it had (are some frozen now?)",
            meant=True,
        )
    else:
        yield Cause(
            "the run's optimizer does not have these keys (a key of an older or newer torch, or of "
            "a scheduler that is made later)",
            "make the scheduler before the state dict, or let the keys stay on disk",
            meant=True,
        )


def _others(
    left: dict[str, list[str]], missing: Sequence[str], stored: StoredKeys
) -> Iterator[Cause]:
    """Why entries that are not the optimizer's stay on disk."""
    if MODEL in left and not missing:
        yield Cause(
            "the run's model has fewer parameters or buffers than the one that was saved",
            "ask for all that was trained: the whole model's state_dict(), or get_state_dict",
            meant=True,
        )
    if DATALOADER in left:
        yield Cause(
            "the state of data loaders has no taker: did the run have more ranks?",
            "restore it, or the data starts over",
            meant=True,
        )
    rest = [section for section in left if section not in (MODEL, OPTIMIZER, DATALOADER)]
    if rest:
        tops = dict.fromkeys(top_key(fqn, stored) for section in rest for fqn in left[section])
        yield Cause(
            f"the state dict leaves out what was saved as {', '.join(map(quote, tops))}",
            f"give {'it' if len(tops) == 1 else 'them'} to dcp.load too",
            meant=True,
        )


def _in_one_piece(missing: Sequence[str], stored: StoredKeys) -> Cause | None:
    """The cause where parts are asked for of what the checkpoint has as one object."""
    for fqn in missing:
        whole = fqn
        while whole := whole.rpartition(".")[0]:
            if isinstance(stored.entries.get(whole), StoredObject):
                return Cause(
                    f"torch 2.3 and before save {quote(whole)} in one piece, and this one asks for "
                    "its parts",
                    "dcpctl upgrade CHECKPOINT NEW",
                )
    return None


def _renamed(
    missing: Sequence[str], left: dict[str, list[str]], stored: StoredKeys
) -> Cause | None:
    """The cause where the run and the checkpoint name the same things differently."""
    skipped = [fqn for names in left.values() for fqn in names]
    if not missing or not skipped:
        return None
    bare = {_bare(fqn): fqn for fqn in skipped}
    for fqn in missing:
        there = bare.get(_bare(fqn))
        if there is not None:
            return Cause(
                f"a wrapper's name is in the keys: {quote(there)} on disk, {quote(fqn)} in the run",
                "dcpctl upgrade CHECKPOINT NEW takes such names out on disk, get_state_dict does "
                "in the run",
            )
    by_name = {_state_style(fqn, None) for fqn in missing}
    by_index = {_state_style(fqn, (stored.planner_data or {}).get(fqn)) for fqn in skipped}
    for run, disk, keys in (("name", "index", "fqn"), ("index", "name", "index")):
        if run in by_name and disk in by_index and run not in by_index:
            return Cause(
                f"the optimizer's parameters have an {disk} each on disk and a {run} in the run"
                if disk == "index"
                else f"the optimizer's parameters have a {disk} each on disk and an {run} in the "
                "run",
                f"dcpctl upgrade CHECKPOINT NEW --optimizer-keys {keys}",
            )
    tails = {fqn.partition(".")[2]: fqn for fqn in skipped} | {fqn: fqn for fqn in skipped}
    for fqn in missing:
        there = tails.get(fqn) or tails.get(fqn.partition(".")[2])
        if there is not None:
            return Cause(
                f"the names begin differently: {quote(there)} on disk, {quote(fqn)} in the run",
                "nest the state dict as the save did, or dcpctl rename CHECKPOINT NEW "
                "--prefix OLD=NEW",
            )
    if any(_is_models(fqn) for fqn in missing) and MODEL in left:
        return Cause(
            "the run has parameters that the checkpoint lacks, and the other way round",
            "build the model that was saved, or dcpctl rename CHECKPOINT NEW if only names differ",
        )
    return None


def _bare(fqn: str) -> str:
    return ".".join(part for part in fqn.split(".") if part != "module" and part not in WRAPPERS)


def _is_models(fqn: str) -> bool:
    return naming.locate(fqn, None) is None


def _state_style(fqn: str, path: Path | None) -> str:
    """How an entry of optimizer state names its parameter: `index`, `name`, or empty for others."""
    place = naming.locate(fqn, path)
    if place is None or place.what != naming.STATE or len(place.rest) < 2:
        return ""
    return "index" if is_index(place.rest[0]) and len(place.rest) == 2 else "name"


def optimizer_keys(stored: StoredKeys) -> tuple[set[str], set[str]]:
    """Return the FQNs of optimizer state, and of all else that is an optimizer's."""
    states: set[str] = set()
    every: set[str] = set()
    places: dict[str, naming.Place] = {}
    for raw in collect(stored):
        every.update(raw.fqns)
        places.update(raw.places)
        states.update(slot.fqn for slots in raw.state.values() for slot in slots.values())
    for fqn in every - states:  # a slot that is a list names only the first of its entries
        if fqn in places and places[fqn].what == naming.STATE:
            states.add(fqn)
    return states, every - states


def top_key(fqn: str, stored: StoredKeys) -> str:
    """Return the key of the state dict that an entry stands under."""
    path = (stored.planner_data or {}).get(fqn)
    return str(path[0]) if path else fqn.partition(".")[0]
