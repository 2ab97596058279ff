"""DCP5xx: is the optimizer's state all there, and does it belong to this model?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import printable, quote
from dcpctl.formats import dtypes
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer import coverage
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.faults import SHAPE, SHARE, listed_faults
from dcpctl.model.optimizer.verdict import ABSENT
from dcpctl.model.saves import optimizer_beside
from dcpctl.model.sections import DATALOADER, OTHER, RNG, SCHEDULER
from dcpctl.model.witnesses import COUNT

# What a job counts besides its steps: epochs, samples or tokens that it consumed, and what
# torch.amp.GradScaler counts in its state dict.
# What follows the last dot or underscore has neither, so that a name is parted in one way only.
_PROGRESS = re.compile(r"(?i)(?:.*[._])?(?:epochs?|consumed\w*|[^\W_]*_seen|_growth_tracker)")

#: Characters of a key, from its end, that its last name may have.
_LAST_NAME = 256

_NEVER = "never had state"


@rule("DCP501", ERROR, "there is no optimizer state")
def absent(run: Run) -> Iterator[Hit]:
    """No state at all: an error where a training job saved, a warning for mere weights."""
    view = run.optimizer
    if view.verdict != ABSENT:
        return
    trace = _training_trace(run)
    elsewhere = optimizer_beside(run.checkpoint.path)
    if run.history is not None and run.history.exported:
        before = run.history.earlier
        instead = "" if before.is_export else f"; to resume, use {before.name}"
        form = " (safetensors)" if any(form.safetensors for form in run.checkpoint.forms) else ""
        yield Hit(
            "optimizer",
            f"an export: the model alone{form}, from which training cannot be resumed{instead}",
            severity=WARNING,
        )
    elif elsewhere:
        yield Hit(
            "optimizer",
            f"no optimizer state here; it lies in {quote(elsewhere)} beside this directory, so "
            f"check {quote(run.checkpoint.path.resolve().parent)}",
            severity=INFO,
        )
    elif trace:
        yield Hit(
            "optimizer",
            f"no optimizer state, and {trace}: a resume restarts the optimizer from zero moments",
        )
    else:
        yield Hit(
            "optimizer",
            "no optimizer state: these are weights, from which training cannot be resumed",
            severity=WARNING,
        )


@rule("DCP502", ERROR, "parameters without any optimizer state")
def partial(run: Run) -> Iterator[Hit]:
    """Trained parameters whose whole state is missing while others have theirs."""
    bare: dict[str, list[Parameter]] = {}
    never = _never_had_state(run)
    for parameter in _with_state(run):
        if parameter.missing and not parameter.slots:
            status = _NEVER if parameter.name in never else parameter.status
            bare.setdefault(status, []).append(parameter)
    total = len(run.optimizer.parameters)
    if _NEVER in bare and run.history is not None:
        names = [parameter.name for parameter in bare.pop(_NEVER)]
        yield Hit(
            names[0],
            f"{len(names):,} of {words.count(total, 'trained parameter')} without optimizer state "
            f"({words.some(names)}) have none in {run.history.earlier.name} either: they never got "
            "a gradient; dcpctl upgrade --fill-missing-state zeros adds it for a load that asks",
            severity=INFO,
        )
    for status, parameters in bare.items():
        lost = status == coverage.LOST
        yield Hit(
            parameters[0].name,
            f"{len(parameters):,} of {words.count(total, 'trained parameter')} without optimizer "
            f"state ({words.some(p.name for p in parameters)}): "
            + ("lost" if lost else "never got a gradient, or lost")
            + f"; {printable(parameters[0].why)}"
            + ("" if lost else "; dcpctl upgrade --fill-missing-state zeros adds it"),
            severity=ERROR if lost else WARNING,
        )


@rule("DCP503", ERROR, "a state slot is missing")
def slot_missing(run: Run) -> Iterator[Hit]:
    """Parameters that have some of their state and not all."""
    without: dict[str, list[str]] = {}
    for parameter in _with_state(run):
        if parameter.slots:
            for slot in parameter.missing:
                without.setdefault(slot, []).append(parameter.name)
    for slot, names in without.items():
        yield Hit(
            names[0],
            f"{quote(slot)} is missing from {words.count(len(names), 'parameter')} with other "
            f"state: {words.some(names)}",
        )


@rule("DCP504", ERROR, "optimizer state of another shape than its parameter")
def other_shape(run: Run) -> Iterator[Hit]:
    """State that belongs to another model, or to another version of this one."""
    for parameter in _with_state(run):
        for fault in parameter.faults:
            if fault.kind == SHAPE:
                yield Hit(fault.fqn, f"{fault.slot} is {fault.why}")


@rule("DCP509", WARNING, "optimizer state of the wrong dtype")
def other_dtype(run: Run) -> Iterator[Hit]:
    """Moments that are no floats, or hold less than their parameter, or differ among themselves."""
    by_slot: dict[str, dict[str, str]] = {}
    for parameter in _with_state(run):
        for slot, state in parameter.slots.items():
            known = parameter.rule(slot)
            if known is None or known.shape != "param" or state.dtype is None:
                continue
            if known.scale and dtypes.info(state.dtype).kind in ("int", "uint"):
                if known.scale not in parameter.slots:
                    yield Hit(
                        state.fqn,
                        f"{slot} is {state.dtype} codes, and {known.scale}, which scales them, is "
                        "missing",
                        severity=ERROR,
                    )
                continue
            by_slot.setdefault(slot, {}).setdefault(state.dtype, state.fqn)
            if dtypes.info(state.dtype).kind not in ("float", "complex"):
                yield Hit(state.fqn, f"{slot} is {state.dtype}, which is no float", severity=ERROR)
                continue
            entry = run.checkpoint.entries.get(parameter.fqn or "")
            if isinstance(entry, TensorEntry) and dtypes.itemsize(state.dtype) < entry.itemsize:
                yield Hit(
                    state.fqn,
                    f"{slot} is {state.dtype}, its parameter is {entry.dtype}: training from it "
                    "is not what it was",
                )
    for slot, kinds in by_slot.items():
        if len(kinds) > 1:
            shown = ", ".join(f"{dtype} ({quote(fqn)})" for dtype, fqn in kinds.items())
            yield Hit("optimizer", f"{slot} has several dtypes: {shown}")


@rule("DCP510", WARNING, "optimizer state without a parameter")
def state_without_parameter(run: Run) -> Iterator[Hit]:
    """State that no param group names, and names that the model does not have."""
    _with_state(run)
    view = run.optimizer
    if view.extra_state and not view.overwritten:
        yield Hit(
            view.extra_state[0],
            f"{words.count(len(view.extra_state), 'parameter')} with state and in no param group: "
            f"{words.some(view.extra_state)}",
        )
    if view.not_in_model:
        yield Hit(
            view.not_in_model[0],
            f"the optimizer names {words.count(len(view.not_in_model), 'parameter')} that the "
            f"checkpoint's model does not have: {words.some(view.not_in_model)}",
        )


@rule("DCP511", ERROR, "hyperparameters are lost")
def groups_lost(run: Run) -> Iterator[Hit]:
    """Param group entries that the planner data name and no entry holds."""
    lost = run.optimizer.groups_lost
    if lost:
        yield Hit(
            "optimizer.param_groups",
            f"the hyperparameters of {words.count(len(lost), 'parameter')} were lost when they "
            f"were saved: {words.some(lost)}",
        )


@rule("DCP515", ERROR, "optimizer state of one rank alone")
def share(run: Run) -> Iterator[Hit]:
    """State that is whole and one rank's share of a parameter that several ranks hold."""
    parameters = _with_state(run)
    faults = [(p.name, f) for p in parameters for f in p.faults if f.kind == SHARE]
    total = len(parameters)
    for slots, names in listed_faults(faults).items():
        first = next(fault for name, fault in faults if name == names[0])
        of = f"of {len(names):,} of {words.count(total, 'parameter')} ({words.some(names)})"
        yield Hit(
            first.fqn,
            f"{', '.join(slots)} {of} {'is' if len(slots) == 1 else 'are'} the share of one rank "
            f"({first.why}), saved as if it were all: the state of the other ranks is not in the "
            "checkpoint",
        )


@rule("DCP516", ERROR, "optimizer state of several ranks under the same indices")
def overwritten(run: Run) -> Iterator[Hit]:
    """Index-keyed state that ranks with parameters of their own wrote over each other's."""
    _with_state(run)
    if run.optimizer.overwritten:
        yield Hit(
            run.optimizer.optimizers[0].fqns[0],
            f"{printable(run.optimizer.overwritten)}: of each index one rank's state is left",
        )


def _with_state(run: Run) -> tuple[Parameter, ...]:
    """The trained parameters; the rule cannot run where there is no state at all."""
    if run.optimizer.verdict == ABSENT:
        raise CannotRun("there is no optimizer state")
    return run.optimizer.parameters


def _never_had_state(run: Run) -> frozenset[str]:
    """Parameters without state in the save before, though others have theirs there."""
    if run.history is None:
        return frozenset()
    before = run.history.earlier.view.parameters
    if not any(parameter.slots for parameter in before):
        return frozenset()
    return frozenset(p.name for p in before if p.missing and not p.slots)


def _is_progress(fqn: str) -> bool:
    # Of a long key the end, behind what ends no name: the time is one with its square.
    end = fqn if len(fqn) <= _LAST_NAME else f"-{fqn[-_LAST_NAME:]}"
    return _PROGRESS.fullmatch(end) is not None


def _training_trace(run: Run) -> str:
    """What shows that a training job saved this, a clause; empty for mere weights."""
    view = run.optimizer
    if run.history is not None and run.history.earlier.view.verdict != ABSENT:
        return f"{run.history.earlier.name} before it has one"
    if view.optimizers:
        return f"param groups are here ({quote(view.optimizers[0].fqns[0])})"
    of = view.sections.of
    # A version or a config lies beside exported weights too; what only a job has is evidence.
    traces = [fqn for fqn in of if of[fqn] in (SCHEDULER, DATALOADER, RNG)]
    traces += [fqn for fqn in of if of[fqn] == OTHER and _is_progress(fqn)]
    traces += [one.source for one in view.witnesses.sure if one.kind == COUNT]
    if traces:
        return f"a training job saved it ({quote(traces[0])} is here)"
    at = run.position
    if at is not None and at.step is not None and any(form.placed for form in run.checkpoint.forms):
        return f"the directory is that of {at.words}"
    return ""
