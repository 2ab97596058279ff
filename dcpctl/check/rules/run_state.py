"""DCP6xx: is all that the save before held still here?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.history import History, Save
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.source import BUCKETS
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.sections import DATALOADER, MODEL, OPTIMIZER

# What every rank keeps for itself: torchtitan's `dataloader.dp_rank_3`, `rng_state.rank3`.
_RANK = re.compile(r"(?i)(?:^|[._])((?:\w+_)?rank[_.-]?)(\d+)(?=[._]|$)")


@rule("DCP603", ERROR, "optimizer state of the save before is gone")
def state_gone(run: Run) -> Iterator[Hit]:
    """Parameters that had state in the save before and have less here, or none."""
    history = run.since()
    before, after = history.earlier.view, history.later.view
    if before.verdict == ABSENT:
        return
    if after.verdict == ABSENT:
        if not run.runs("DCP501"):  # which says it otherwise
            yield Hit("optimizer", f"no optimizer state here, and {history.earlier.name} has it")
        return
    if before.candidates and after.candidates and not {*before.candidates} & {*after.candidates}:
        yield Hit(
            "optimizer",
            f"the optimizer is {after.kind} here and was {before.kind} in {history.earlier.name}: "
            "it began anew",
            severity=WARNING,
        )
        return
    yield from _lost_slots(history)


@rule("DCP604", WARNING, "keys of the save before are gone")
def keys_gone(run: Run) -> Iterator[Hit]:
    """Keys that one of the saves has and the other has not, the optimizer's and ranks' apart."""
    history = run.since()
    before, after = _keys(history.earlier), _keys(history.later)
    both = [(old, after[name][0]) for name, (old, _) in before.items() if name in after]
    renamed = [(old, new) for old, new in both if old != new]
    if renamed:
        old, new = renamed[0]
        yield Hit(
            new,
            f"{words.count(len(renamed), 'key')} named otherwise: {quote(old)} in "
            f"{history.earlier.name} is {quote(new)} here",
        )
    lost: dict[str, list[str]] = {}
    for name, (old, section) in before.items():
        if name not in after:
            lost.setdefault(section, []).append(old)
    for section, keys in lost.items():
        yield Hit(
            keys[0],
            f"{words.count(len(keys), f'{section} key')} of {history.earlier.name} not here: "
            f"{words.some(keys)}",
            severity=ERROR if section == MODEL else WARNING,
        )
    added = [new for name, (new, _) in after.items() if name not in before]
    if added:
        yield Hit(
            added[0],
            f"{words.count(len(added), 'key')} not in {history.earlier.name}: {words.some(added)}",
            severity=INFO,
        )


@rule("DCP605", ERROR, "a tensor has another shape or dtype than in the save before")
def tensors_changed(run: Run) -> Iterator[Hit]:
    """Shapes of the model's tensors, and dtypes of these and of the optimizer's moments."""
    history = run.since()
    before, after = _tensors(history.earlier), _tensors(history.later)
    dtypes: dict[tuple[str, str], list[str]] = {}
    for name, entry in after.items():
        old = before.get(name)
        if old is None:
            continue
        if old.shape != entry.shape and history.later.view.sections.of[entry.fqn] == MODEL:
            yield Hit(
                entry.fqn,
                f"its shape is {list(entry.shape)} here and {list(old.shape)} in "
                f"{history.earlier.name}",
            )
        if old.dtype != entry.dtype:
            dtypes.setdefault((old.dtype, entry.dtype), []).append(entry.fqn)
    for (old_dtype, new_dtype), fqns in dtypes.items():
        yield Hit(
            fqns[0],
            f"{words.count(len(fqns), 'tensor')} of {new_dtype} here and of {old_dtype} in "
            f"{history.earlier.name}: {words.some(fqns)}",
            severity=WARNING,
        )


@rule("DCP606", WARNING, "the dataloader state of some ranks is gone")
def ranks_gone(run: Run) -> Iterator[Hit]:
    """What every rank keeps for itself, such as `dataloader.dp_rank_3`, in both saves."""
    history = run.since()
    before, after = _per_rank(history.earlier), _per_rank(history.later)
    for name, (section, ranks) in before.items():
        here = after.get(name, (section, frozenset[int]()))[1]
        gone = sorted(ranks - here)
        if not gone or not here:
            continue  # of no rank at all: DCP604
        grave = section == DATALOADER
        yield Hit(
            name.replace("#", str(gone[0])),
            f"the {section} state of {words.count(len(ranks), 'rank')} in {history.earlier.name}, "
            f"of {len(here):,} here: that of {_listed(gone)} is gone"
            + (", and what they had read of the data" if grave else ""),
            severity=WARNING if grave else INFO,
        )


def _lost_slots(history: History) -> Iterator[Hit]:
    earlier = {strip_wrappers(p.name): p for p in history.earlier.view.parameters}
    later = {strip_wrappers(p.name): p for p in history.later.view.parameters}
    model = history.later.view.sections.model
    total = sum(bool(parameter.slots) for parameter in earlier.values())
    lost: dict[str, list[str]] = {}
    frozen: list[str] = []
    for name, old in earlier.items():
        new = later.get(name)
        if new is None and _all_grouped(later) and old.slots and name in model:
            frozen.append(name)
            continue
        for slot in old.slots:
            if slot in (new.missing if new is not None else old.slots if name in model else ()):
                lost.setdefault(slot, []).append(name)
    for slot, names in sorted(lost.items()):
        yield Hit(
            names[0],
            f"{quote(slot)} of {len(names):,} of {words.count(total, 'parameter')} with state in "
            f"{history.earlier.name} is not here: {words.some(names)}",
        )
    if frozen:
        yield Hit(
            frozen[0],
            f"{words.count(len(frozen), 'parameter')} trained in {history.earlier.name} and in no "
            f"param group here: {words.some(frozen)}",
            severity=INFO,
        )


def _all_grouped(parameters: Mapping[str, Parameter]) -> bool:
    return bool(parameters) and all(parameter.has_group for parameter in parameters.values())


def _keys(save: Save) -> dict[str, tuple[str, str]]:
    """Names without wrappers to key and section, of all that is not the optimizer's.

    What every rank keeps for itself counts as one key, as long as any rank has it.
    """
    found = {name: (name, section) for name, (section, _) in _per_rank(save).items()}
    for fqn, section in save.view.sections.of.items():
        if section == MODEL:
            found[_clean(save, fqn)] = fqn, section
        elif section != OPTIMIZER and not _RANK.search(fqn):
            found[fqn] = fqn, section
    return found


def _tensors(save: Save) -> dict[str, TensorEntry]:
    """The model's tensors and the optimizer's, by names without wrappers; buckets left out."""
    found = {}
    of, tensors = save.view.sections.of, save.checkpoint.tensors
    bucketed = {fqn for raw in save.view.optimizers if raw.style == BUCKETS for fqn in raw.fqns}
    for fqn, entry in tensors.items():
        if of[fqn] == MODEL or (of[fqn] == OPTIMIZER and entry.shape and fqn not in bucketed):
            found[_clean(save, fqn)] = entry
    return found


def _clean(save: Save, fqn: str) -> str:
    root = save.view.sections.model_root
    if root and fqn.startswith(root + "."):
        return f"{root}.{strip_wrappers(fqn[len(root) + 1 :])}"
    return strip_wrappers(fqn)


def _per_rank(save: Save) -> dict[str, tuple[str, frozenset[int]]]:
    """Keys of single ranks with `#` for the rank: section, ranks."""
    found: dict[str, tuple[str, frozenset[int]]] = {}
    for fqn, section in save.view.sections.of.items():
        match = _RANK.search(fqn) if section not in (MODEL, OPTIMIZER) else None
        if match:
            name = f"{fqn[: match.start(2)]}#{fqn[match.end(2) :]}"
            ranks = found.get(name, (section, frozenset[int]()))[1]
            found[name] = section, ranks | {int(match[2])}
    return found


def _listed(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"ranks {ranks[0]} to {ranks[-1]}"
    shown = ", ".join(map(str, ranks[:5]))
    return f"ranks {shown}" + (f" and {len(ranks) - 5:,} more" if len(ranks) > 5 else "")
