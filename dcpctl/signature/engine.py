"""A log in, a verdict about each of its resumes out."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dcpctl.errors import NoSteps, quote
from dcpctl.signature.columns import named_columns
from dcpctl.signature.evidence import Evidence, gather
from dcpctl.signature.log import BY_STEP, Log
from dcpctl.signature.match import Match, match
from dcpctl.signature.resumes import Resume, find_resumes, in_order, resume_at
from dcpctl.signature.shape import Shape
from dcpctl.signature.suspects import suspect
from dcpctl.signature.verdict import LOST_OPTIMIZER, VERDICTS, Verdict, decide

if TYPE_CHECKING:
    from dcpctl.signature.saves import Witness

#: Rows on each side of a resume, and rows that are its first steps.
WINDOW, FIRST = 100, 10
#: Resumes of one log that are looked at.
_MOST = 200


@dataclass(frozen=True)
class Diagnosis:
    """What is known about one resume.

    Attributes:
        evidence: before and after.
        shape: of the loss after it; None where there are too few rows to say.
        verdict: what happened.
        match: whether the first steps match the regime before.
        witness: what the saves say; None where they were not asked.
    """

    evidence: Evidence
    shape: Shape | None
    verdict: Verdict
    match: Match
    witness: Witness | None = None

    @property
    def resume(self) -> Resume:
        """The place."""
        return self.evidence.resume


@dataclass(frozen=True)
class Result:
    """What a log says.

    Attributes:
        log: the log.
        window: rows that were compared on each side.
        first: rows that are the first steps.
        diagnoses: one for each resume, in the order of the log.
        suspect: in a log without a resume, the step at which the signature shows nevertheless.
    """

    log: Log
    window: int
    first: int
    diagnoses: tuple[Diagnosis, ...]
    suspect: float | None = None

    @property
    def lost(self) -> bool:
        """Whether any resume lost the optimizer's state."""
        return any(one.verdict.name == LOST_OPTIMIZER for one in self.diagnoses)

    @property
    def matches(self) -> bool:
        """Whether there is a resume, and the first steps after each match."""
        return bool(self.diagnoses) and all(one.match.ok for one in self.diagnoses)

    @property
    def worst(self) -> Diagnosis | None:
        """The resume with the gravest verdict, the latest of several; None without a resume."""
        return min(
            reversed(self.diagnoses),
            key=lambda one: VERDICTS.index(one.verdict.name),
            default=None,
        )


def diagnose(
    log: Log, *, resume_step: int | None = None, window: int = WINDOW, first: int = FIRST
) -> Result:
    """Find the resumes of a log and say what happened at each.

    Args:
        log: rows in the order in which they were written; put in order where they are in none.
        resume_step: look at this resume only, given by the step that it went on from.
        window: rows to compare on each side.
        first: rows that are the first steps after a resume.

    Raises:
        NoSteps: the log tells no steps, and nothing else shows where a process took over.
        NothingSelected: the log has no rows on both sides of `resume_step`.
    """
    in_order(log)
    shown = find_resumes(log)
    asked = resume_step is not None and log.placed != BY_STEP
    if asked or (log.vague and not shown):
        raise NoSteps(
            f"no column of {quote(log.name)} holds steps"
            + ("" if asked else ", so that a resume would not show"),
            hint="--map step=COLUMN says where they are; "
            + named_columns(name for one in log.sources for name in one.names),
        )
    resumes = shown if resume_step is None else [resume_at(log, resume_step)]
    if len(resumes) > _MOST:
        log.notes.append(f"{len(resumes):,} resumes; the last {_MOST} are looked at")
        resumes = resumes[-_MOST:]
    ends = [one.row for one in shown]
    made = []
    for resume in resumes:
        after = bisect_right(ends, resume.row)
        end = ends[after] if after < len(ends) else len(log)
        made.append(_diagnosis(log, resume, end, window, first))
    return Result(log, window, first, tuple(made), None if made else suspect(log))


def look_at(result: Result, resume: Resume) -> Diagnosis:
    """Look at one more resume of a log that was diagnosed."""
    later = (one.resume.row for one in result.diagnoses if one.resume.row > resume.row)
    end = min(later, default=len(result.log))
    return _diagnosis(result.log, resume, end, result.window, result.first)


def _diagnosis(log: Log, resume: Resume, end: int, window: int, first: int) -> Diagnosis:
    evidence = gather(log, resume, end, window=window, first=first)
    verdict, shape = decide(evidence)
    return Diagnosis(evidence, shape, verdict, match(evidence))
