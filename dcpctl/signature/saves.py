"""What the saves of a run say of the resumes in its log: they hold what the log only hints at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf
from pathlib import Path

from dcpctl.errors import NothingSelected, quote
from dcpctl.signature.engine import Diagnosis, Result, look_at
from dcpctl.signature.log import BY_STEP
from dcpctl.signature.resumes import Resume, resume_at
from dcpctl.signature.verdict import (
    DIVERGENCE,
    HEALTHY,
    HIGH,
    INCONCLUSIVE,
    LOST_OPTIMIZER,
    MEDIUM,
    Verdict,
)

LOST, WENT_ON, UNKNOWN = "lost", "went-on", "unknown"

#: Rules of `dcpctl check` on one save that say that its optimizer's state is not there, or not that
#: of its step.
ALONE = ("DCP501", "DCP506", "DCP508")
#: Rules that compare a save with the one before: its step, its moments, its state.
SINCE = ("DCP601", "DCP602", "DCP603")


@dataclass(frozen=True)
class Saved:
    """A save of the run, checked and compared with the one before it.

    Attributes:
        path: its directory.
        step: of the run.
        errors: rule -> what it found.
        skipped: rule -> why it could not run.
        unread: why the save cannot be read; empty where it can.
    """

    path: Path
    step: float
    errors: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    unread: str = ""

    def found(self, rules: Sequence[str]) -> tuple[str, ...]:
        """What some rules found, in words."""
        return tuple(
            f"{quote(self.path.name)}: {message} ({rule})"
            for rule, message in self.errors.items()
            if rule in rules
        )


@dataclass(frozen=True)
class Witness:
    """What the saves say of one resume.

    Attributes:
        resumed_from: the newest save that is not after the resume; None without.
        after: the oldest save that was written after it; None without.
        optimizer: `lost`, `went-on` or `unknown`.
        because: what the rules found or could not see, in words.
    """

    resumed_from: Path | None
    after: Path | None
    optimizer: str
    because: tuple[str, ...]


def ask_saves(result: Result, saves: Sequence[Saved]) -> Result:
    """Let the saves of a run decide what happened at each resume of its log.

    Where the log shows no resume between two saves of which the later lost the optimizer, one is
    looked at there.

    Args:
        result: what the log alone says.
        saves: of the run, in any order.

    Raises:
        NothingSelected: there is no save with a step, or the log tells no steps.
    """
    if result.log.placed != BY_STEP:
        raise NothingSelected(
            f"{quote(result.log.name)} tells no steps, by which saves and rows belong together",
            hint="--map step=COLUMN says where they are",
        )
    if not saves:
        raise NothingSelected("no save of the run has a step", hint="dcpctl inspect RUN lists them")
    saves = sorted(saves, key=lambda one: one.step)
    diagnoses = sorted([*result.diagnoses, *_hidden(result, saves)], key=lambda one: one.resume.row)
    # The last process may have gone on after what is known of the log.
    lasts = [*(result.log.steps[one.resume.row - 1] for one in diagnoses), inf][1:]
    decided = tuple(
        _decide(one, _witness(one.resume, last, saves))
        for one, last in zip(diagnoses, lasts, strict=True)
    )
    return replace(result, diagnoses=decided, suspect=None if decided else result.suspect)


def _hidden(result: Result, saves: Sequence[Saved]) -> list[Diagnosis]:
    """Resumes that the log does not show, between a save and the next, which lost the optimizer."""
    first, last = min(result.log.steps), max(result.log.steps)
    made = []
    for before, after in pairwise(saves):
        lost = after.found(SINCE)
        shown = any(before.step <= one.resume.step <= after.step for one in result.diagnoses)
        if not lost or shown:
            continue
        if first <= before.step < last:
            resume = resume_at(result.log, int(before.step))
            made.append(look_at(result, replace(resume, why=("the saves show it",))))
        else:
            result.log.notes.append(f"outside of the log's steps: {lost[0]}")
    return made


def _witness(resume: Resume, last: float, saves: Sequence[Saved]) -> Witness:
    """What the saves before and after a resume say, the later one written by the new process."""
    before = next((one for one in reversed(saves) if one.step <= resume.step), None)
    after = next((one for one in saves if resume.step < one.step <= last + 1), None)
    lost: tuple[str, ...] = ()
    if before is not None:
        lost = before.found(ALONE)
        if after is not None and not lost:
            lost = after.found((*ALONE, *SINCE))
    return Witness(
        None if before is None else before.path,
        None if after is None else after.path,
        *((LOST, lost) if lost else _went_on(before, after)),
    )


def _went_on(before: Saved | None, after: Saved | None) -> tuple[str, tuple[str, ...]]:
    """Whether the rules that would have found a reset could run."""
    if before is None or after is None:
        return UNKNOWN, (f"there is no save from {'before' if before is None else 'after'} it",)
    for save in (before, after):
        if save.unread:
            return UNKNOWN, (f"{quote(save.path.name)} cannot be read: {save.unread}",)
    ran = [rule for rule in SINCE[:2] if rule not in after.skipped]
    if not ran:
        return UNKNOWN, tuple(f"{rule} could not run: {why}" for rule, why in after.skipped.items())
    names = f"{quote(before.path.name)} to {quote(after.path.name)}"
    return WENT_ON, (f"step and moments continue from {names} ({', '.join(ran)} found nothing)",)


def _decide(one: Diagnosis, witness: Witness) -> Diagnosis:
    """The log's verdict, or that of the saves where they tell."""
    verdict = one.verdict
    said = "; ".join(witness.because)
    reasons = verdict.reasons
    if witness.optimizer == LOST:
        fell = f"the log alone: {verdict.sentence.rstrip('.')}"
        verdict = Verdict(
            LOST_OPTIMIZER, HIGH, f"Lost optimizer state: the saves say so: {said}.",
            (fell, *reasons),
        )  # fmt: skip
    elif witness.optimizer == UNKNOWN:
        verdict = replace(verdict, reasons=(f"the saves do not tell: {said}", *reasons))
    elif verdict.name == LOST_OPTIMIZER:
        verdict = Verdict(
            DIVERGENCE, MEDIUM,
            f"Not the optimizer's state: {said}. The loss rose for another cause, such as an lr "
            "that the log does not tell, or other data.",
            reasons,
        )  # fmt: skip
    elif verdict.name in (HEALTHY, INCONCLUSIVE):
        verdict = Verdict(HEALTHY, HIGH, f"Healthy: the saves say so: {said}.", reasons)
    else:
        verdict = replace(verdict, reasons=(f"the saves: {said}", *reasons))
    return replace(one, verdict=verdict, witness=witness)
