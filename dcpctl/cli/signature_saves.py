"""`dcpctl signature --run`: the saves of a run, checked for what they say of its log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dcpctl.check.finding import ERROR, CheckResult
from dcpctl.check.many import Target, check_many
from dcpctl.check.options import CheckOptions
from dcpctl.inspect.runs import list_run
from dcpctl.signature.saves import ALONE, SINCE, Saved


def checked_saves(run: Path, advance: Callable[[int, int], None]) -> list[Saved]:
    """Check every save of a run that has a step, each against those before it.

    Args:
        run: the directory of the saves.
        advance: told how many saves are checked, and how many there are.
    """
    found = sorted((save.step, save.path) for save in list_run(run) if save.step is not None)
    paths = [path for _, path in found]
    targets = [Target(path, tuple(reversed(paths[:place]))) for place, path in enumerate(paths)]
    checked = check_many(targets, CheckOptions(select=(*ALONE, *SINCE)), advance=advance)
    results = {one.path: one for one in checked.results}
    unread = {one.path: one.error.message for one in checked.unreadable}
    return [
        _saved(path, step, results[path])
        if path in results
        else Saved(path, step, unread=unread.get(path, "it was not checked"))
        for step, path in found
    ]


def _saved(path: Path, step: float, result: CheckResult) -> Saved:
    errors: dict[str, str] = {}
    for one in result.findings:
        if one.severity == ERROR:
            errors.setdefault(one.rule, one.message)
    return Saved(path, step, errors, {one.rule: one.because for one in result.skipped})
