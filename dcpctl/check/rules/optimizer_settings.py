"""DCP5xx: hyperparameters and steps that no optimizer can have had."""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.model.optimizer.ranges import impossible, impossible_step


@rule("DCP518", ERROR, "a hyperparameter that cannot be")
def hyperparameters(run: Run) -> Iterator[Hit]:
    """What the groups hold, against what the optimizer's constructor accepts."""
    if not any(parameter.has_group for parameter in run.optimizer.parameters):
        raise CannotRun("there are no param groups")
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for group in run.optimizer.param_groups:
        for wrong in impossible(group.values, group.kind.candidates):
            what = (group.root, wrong.key, repr(wrong.value), wrong.why)
            found.setdefault(what, []).extend(group.params)
    for (_, key, value, why), names in found.items():
        yield Hit(
            f"param_groups.{key}",
            f"{key} is {value} for {words.count(len(names), 'parameter')} ({words.some(names)}); "
            + why,
        )


@rule("DCP519", ERROR, "a step that cannot be")
def steps(run: Run) -> Iterator[Hit]:
    """Steps that are negative, no integers or not finite."""
    every = run.optimizer.step_of
    if not every:
        raise CannotRun("the optimizer keeps no step, or it could not be read")
    wrong: dict[str, list[str]] = {}
    for name, step in every.items():
        if impossible_step(step):
            wrong.setdefault(f"{step:g}", []).append(name)
    if not wrong:
        return
    names = [name for members in wrong.values() for name in members]
    yield Hit(
        names[0],
        f"step is {' and '.join([*wrong][:3])} for {words.count(len(names), 'parameter')} "
        f"({words.some(names)}): it counts updates, from 0",
    )
