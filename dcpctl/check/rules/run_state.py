"""DCP6xx: is all that the save before held still here?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.history import History, Save
from dcpctl.check.registry import Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.rank_keys import rank_in
from dcpctl.model.sections import DATALOADER, MODEL, OPTIMIZER


@rule("DCP603", ERROR, "optimizer state of the save before is gone")
def state_gone(run: Run) -> Iterator[Hit]:
    """Parameters that had state in the save before and have less here, or none."""
    history = run.since()
    before, after = history.earlier.view, history.later.view
    if before.verdict == ABSENT:
        return
    if history.exported:
        return
    if after.verdict == ABSENT:
        if not run.runs("DCP501"):  # which says it otherwise
            yield Hit("optimizer", f"no optimizer state here, and {history.earlier.name} has it")
        return
    if before.candidates and after.candidates and not {*before.candidates} & {*after.candidates}:
        yield Hit(
            "optimizer",
            f"the optimizer is {after.kind} here and was {before.kind} in {history.earlier.name}: "
            "it started over",
            severity=WARNING,
        )
        return
    yield from _lost_slots(history)


@rule("DCP606", WARNING, "the dataloader state of some ranks is gone")
def ranks_gone(run: Run) -> Iterator[Hit]:
    """What every rank keeps for itself, such as `dataloader.dp_rank_3`, in both saves."""
    history = run.since()
    if history.exported:
        return
    before, after = per_rank(history.earlier), per_rank(history.later)
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


def per_rank(save: Save) -> dict[str, tuple[str, frozenset[int]]]:
    """Return the keys of single ranks, with `#` for the rank: section, ranks."""
    found: dict[str, tuple[str, frozenset[int]]] = {}
    for fqn, section in save.view.sections.of.items():
        match = rank_in(fqn) if section not in (MODEL, OPTIMIZER) else None
        if match:
            name = f"{fqn[: match.start(1)]}#{fqn[match.end(1) :]}"
            ranks = found.get(name, (section, frozenset[int]()))[1]
            found[name] = section, ranks | {int(match[1])}
    return found


def _listed(ranks: list[int]) -> str:
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    if ranks[-1] - ranks[0] == len(ranks) - 1:
        return f"ranks {ranks[0]} to {ranks[-1]}"
    shown = ", ".join(map(str, ranks[:5]))
    return f"ranks {shown}" + (f" and {len(ranks) - 5:,} more" if len(ranks) > 5 else "")
