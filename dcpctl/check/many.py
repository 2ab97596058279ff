"""Checks several checkpoints, and the saves of a run, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from dcpctl.check.engine import check_opened
from dcpctl.check.finding import ERROR, Checked, CheckedRun, CheckResult, Unreadable
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import rules_of
from dcpctl.errors import DcpctlError
from dcpctl.model import saves
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint

Outcome = CheckResult | Unreadable

#: Rules without which nothing is said of which save to resume from, and those that find a reset.
_RESETS = frozenset({"DCP506", "DCP601", "DCP602"})
_TELLING = frozenset({"DCP501", "DCP502"}) | _RESETS
_BELONGS = "it belongs to the save around it"


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint to check.

    Attributes:
        path: where it is.
        before: saves of its run that came before it, the nearest first; it is compared with the
            first of these that can be read.
        run: the directory of its run; None of what was named itself.
        newest: it is the newest save of its run.
        belonging: checkpoints that belong to it and are not looked at, such as exports in it.
    """

    path: Path
    before: tuple[Path, ...] = ()
    run: Path | None = None
    newest: bool = False
    belonging: tuple[Path, ...] = ()


def find_targets(path: str | os.PathLike[str]) -> tuple[Target, ...]:
    """Return what there is to check at a path; `look_for` says also where was not looked."""
    return look_for(path)[0]


def look_for(path: str | os.PathLike[str]) -> tuple[tuple[Target, ...], dict[Path, str]]:
    """Return what there is to check at a path, and the directories below it not looked into.

    Of a directory of runs these are the saves of each run, the oldest first, each with those of its
    run before it. Everything else is itself, be it a checkpoint or not.
    """
    where = Path(path)
    try:
        found = saves.look(where)
    except (DcpctlError, OSError, ValueError):  # whoever opens it says why
        return (Target(where),), {}
    targets = [
        Target(save.path, _before(save, run.saves), run.path, save is run.saves[0], save.inside)
        for run in found.runs
        for save in reversed(run.saves)
    ]
    if targets:
        return tuple(targets), found.unread
    belonging = () if found.save is None else found.save.inside
    return (Target(where, belonging=belonging),), {}


def _before(save: saves.SaveDirectory, run: Sequence[saves.SaveDirectory]) -> tuple[Path, ...]:
    """The whole saves that came before one, the nearest first; none where its place is unknown."""
    if save.order is None or save.state != saves.COMPLETE:
        return ()
    return tuple(
        other.path
        for other in run
        if other.state == saves.COMPLETE and other.order is not None and other.order < save.order
    )


def check_many(
    targets: Sequence[Target],
    options: CheckOptions | None = None,
    *,
    unread: Mapping[Path, str] = MappingProxyType({}),
    advance: Callable[[int, int], None] | None = None,
) -> Checked:
    """Check several checkpoints; one that cannot be read does not end the check of the others.

    As many are checked at once as there are processors (`options.jobs`), each in a process of its
    own where the system can fork: rules are Python, which threads do not run side by side.

    Args:
        targets: as `find_targets` gives them; results come in the same order.
        options: as `run_checks` takes them. `against` is what comes before a target that has
            nothing before it, such as the first save of a run that went on from another run's.
        unread: directories that were not looked into, and why, for the reader to know.
        advance: told how many checkpoints are done, and how many there are.

    Raises:
        NothingSelected: as `run_checks`.
        InputError: what `options.against` names cannot be read.
    """
    from dcpctl.processes import run_each

    options = options or CheckOptions()
    rules_of(options)  # before anything is read
    if options.against is not None:
        open_checkpoint(options.against).close()
    at_once = max(1, min(options.threads, len(targets)))
    each = replace(options, jobs=max(1, options.threads // at_once), progress=None)
    outcomes: list[Outcome] = run_each(
        [partial(_check, target, each) for target in targets],
        at_once,
        lost=[partial(Unreadable, target.path) for target in targets],
        advance=advance,
    )
    return Checked(
        tuple(one for one in outcomes if isinstance(one, CheckResult)),
        tuple(one for one in outcomes if isinstance(one, Unreadable)),
        tuple(target.path for target in targets),
        tuple(_runs(targets, outcomes, {rule.id for rule in rules_of(options)})),
        (*unread.items(), *((p, _BELONGS) for target in targets for p in target.belonging)),
    )


def _runs(
    targets: Sequence[Target], outcomes: Sequence[Outcome], rules: set[str]
) -> Iterator[CheckedRun]:
    """Sort what was found by runs, and tell which save of each to resume from."""
    by_run: dict[Path, list[Outcome]] = {}
    for target, outcome in zip(targets, outcomes, strict=True):
        if target.run is not None:
            by_run.setdefault(target.run, []).append(outcome)
    for path, found in by_run.items():
        good, why = None, "the rules that tell it were left out"
        if rules >= _TELLING:
            good, why = _good_save(found)
        yield CheckedRun(path, tuple(one.path for one in found), good, why)


def _good_save(found: Sequence[Outcome]) -> tuple[Path | None, str]:
    """The newest save to resume from, or why none will do; `found` has the oldest first."""
    good, reset = None, False
    for one in found:
        if isinstance(one, Unreadable):
            continue
        failed = {each.rule for each in one.findings if each.severity == ERROR}
        # Every save after a reset goes on with moments that began again.
        reset = reset or bool(failed & _RESETS)
        stateless = any(each.rule == "DCP501" for each in one.findings)
        if not reset and not stateless and not one.errors:
            good = one.path
    if good is not None:
        return good, ""
    return None, "every save has errors, cannot be read, or has no optimizer state"


def _check(target: Target, options: CheckOptions) -> Outcome:
    with ExitStack() as opened:
        try:
            checkpoint = opened.enter_context(open_checkpoint(target.path))
            before = _first_readable(target.before, opened)
            if before is None and options.against is not None:
                before = opened.enter_context(open_checkpoint(options.against))
            return check_opened(checkpoint, options, before, newest=target.newest)
        except DcpctlError as error:
            return Unreadable(target.path, error)


def _first_readable(paths: Sequence[Path], opened: ExitStack) -> Checkpoint | None:
    checkpoint = next((found for found in map(_opened_or_none, paths) if found is not None), None)
    return None if checkpoint is None else opened.enter_context(checkpoint)


def _opened_or_none(path: Path) -> Checkpoint | None:
    try:
        return open_checkpoint(path)
    except DcpctlError:
        return None
