"""What happened at a resume, decided from the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field

from dcpctl.signature.columns import GRAD_NORM, LOSS, LR, THROUGHPUT
from dcpctl.signature.evidence import EARLY, LATE, MID, NOTABLE_REPLAYED, RISE, Change, Evidence
from dcpctl.signature.power import GREATEST_RISE, Power, leaves_its_twins, power_of, twins_of
from dcpctl.signature.robust import LEAST
from dcpctl.signature.shape import AFTER_UPDATES, AT_ONCE, LATER, Shape, shape_of

LOST_OPTIMIZER, DIVERGENCE, DATA_CHANGE = "lost-optimizer", "divergence", "data-change"
LR_CHANGE, SPIKE, RECOVERED = "lr-change", "spike", "recovered"
HEALTHY, INCONCLUSIVE = "healthy", "inconclusive"
#: From the gravest on; what cannot be told is graver than what is known to be well.
VERDICTS = (
    LOST_OPTIMIZER, DIVERGENCE, DATA_CHANGE, LR_CHANGE, SPIKE, RECOVERED, INCONCLUSIVE, HEALTHY,
)  # fmt: skip

HIGH, MEDIUM, LOW = "high", "medium", "low"

_COLLAPSED = -0.3
#: Standard deviations at which the very first loss is another than that of the process before.
_OUTSTANDING = 5.0
#: Chance below which differences from the process before are too one-sided to call them none.
_HINT = 0.05


@dataclass(frozen=True)
class Verdict:
    """The answer about one resume.

    Attributes:
        name: one of `VERDICTS`.
        confidence: `high`, `medium` or `low`.
        sentence: the answer in words.
        reasons: what speaks for it and against it.
    """

    name: str
    confidence: str
    sentence: str
    reasons: tuple[str, ...] = field(default=())


def decide(evidence: Evidence) -> tuple[Verdict, Shape | None]:
    """Say what happened at a resume, and what the loss did after it."""
    loss = evidence.changes.get(LOSS)
    too_few = ""
    if loss is None:
        too_few = f"{len(evidence.before)} rows stand before it, and a regime takes {LEAST}"
    elif len(evidence.steps) < evidence.first:
        too_few = f"{len(evidence.steps)} of the first {evidence.first} rows after it are there"
    if loss is None or too_few:
        return Verdict(INCONCLUSIVE, HIGH, f"Inconclusive: {too_few}."), None
    found = _Facts(evidence, loss, shape_of(loss, evidence))
    for rule in (_broken, _lr_change, _spike, _nothing, _lasting, _passing):
        verdict = rule(found)
        if verdict is not None:
            return verdict, found.shape
    raise AssertionError("the last rule always answers")


class _Facts:
    """The evidence with names for what rules ask."""

    def __init__(self, evidence: Evidence, loss: Change, shape: Shape) -> None:
        self.evidence, self.loss, self.shape = evidence, loss, shape
        self.power, self.twins = power_of(evidence), twins_of(evidence)
        self.norm = evidence.changes.get(GRAD_NORM)
        self.norm_at = {
            part: self.norm.direction(part) if self.norm else 0 for part in (EARLY, MID, LATE)
        }
        #: Grad norm is down while the loss is up: the signature itself.
        self.signature = any(
            self.norm_at[part] < 0 < loss.direction(part) for part in (EARLY, MID, LATE)
        )
        self.norm_down = self.norm_at[MID] < 0 or self.norm_at[LATE] < 0
        #: Grad norm falls so far, and at once, as harder data do not make it fall.
        self.norm_collapsed = (
            self.norm is not None and self.norm_down and self.norm.relative(EARLY) < _COLLAPSED
        )
        self.norm_up = self.norm_at[MID] > 0 or self.norm_at[LATE] > 0

    def moved(self, quantity: str) -> float:
        """The largest relative change of a quantity that is one; 0 without."""
        change = self.evidence.changes.get(quantity)
        shifts = [] if change is None else change.shifts.values()
        return max((s.relative for s in shifts if s.direction), key=abs, default=0.0)

    @property
    def pairs(self) -> tuple[str, ...]:
        """How many losses are higher than those of the process before, in words."""
        if self.twins is None or not self.twins.count:
            return ()
        return (
            f"{self.twins.higher} of {self.twins.count} losses after the first are higher than "
            "those of the process before at the same steps (signed-rank test: p = "
            f"{self.twins.chance:.2g})",
        )

    @property
    def steadiness(self) -> tuple[str, ...]:
        """Whether lr and throughput went on as before, in words."""
        said = []
        for quantity, name in ((LR, "lr"), (THROUGHPUT, "throughput")):
            if quantity not in self.evidence.changes:
                said.append(f"{name} is not in the log")
            elif moved := self.moved(quantity):
                said.append(f"{name} changed by {moved:+.0%}")
            else:
                said.append(f"{name} is unchanged")
        return tuple(said)


def _broken(found: _Facts) -> Verdict | None:
    if not found.shape.broken:
        return None
    return Verdict(
        DIVERGENCE, HIGH, "Divergence: the loss becomes NaN or infinite.", found.steadiness
    )


def _lr_change(found: _Facts) -> Verdict | None:
    moved = found.moved(LR)
    if not moved:
        return None
    what = "and the loss with it" if found.shape.up or found.shape.down else "the loss did not"
    return Verdict(
        LR_CHANGE, HIGH,
        f"The learning rate left its course by {moved:+.0%}, {what}.",
        found.steadiness[1:],
    )  # fmt: skip


def _spike(found: _Facts) -> Verdict | None:
    rows = found.shape.spike
    if not rows or found.shape.lasting or found.shape.broken:
        return None
    if found.shape.onset == AFTER_UPDATES and rows[0] <= 2:
        return None
    step = found.evidence.steps[rows[0]]
    return Verdict(
        SPIKE, HIGH if len(rows) <= 3 else MEDIUM,
        f"A spike: {len(rows)} {'row stands' if len(rows) == 1 else 'rows stand'} out from "
        f"{found.evidence.unit} {step:,.0f} on, and the loss is back after it.",
        found.steadiness,
    )  # fmt: skip


def _nothing(found: _Facts) -> Verdict | None:
    if found.shape.up:
        return None
    if found.shape.down and leaves_its_twins(found.evidence, found.twins):
        fell = -found.loss.relative(RISE)
        return Verdict(
            LOST_OPTIMIZER, MEDIUM,
            f"Lost optimizer state: from the first update on the loss is {fell:.1%} lower than "
            "that of the process before, on the same data; lost first moments do that.",
            (*found.pairs, *found.steadiness),
        )  # fmt: skip
    if found.shape.down and found.loss.direction(LATE) < 0 and found.loss.direction(EARLY) < 0:
        return Verdict(
            DATA_CHANGE, LOW,
            "The loss fell at the resume: other data, or data that were seen before?",
            found.steadiness,
        )  # fmt: skip
    return _other_weights(found) or _unseen(found)


def _other_weights(found: _Facts) -> Verdict | None:
    """The very first loss is another than before, on the same data."""
    twins, power = found.twins, found.power
    if twins is None or twins.first is None or power is None or not power.paired:
        return None
    if twins.first <= max(_OUTSTANDING * power.scatter, NOTABLE_REPLAYED):
        return None
    return Verdict(
        RECOVERED, LOW,
        f"Recovered: the first loss is {twins.first:.1%} higher than that of the process before, "
        "on the same data, as weights that are not those that were saved would have it.",
        (*found.pairs, *found.steadiness),
    )  # fmt: skip


def _unseen(found: _Facts) -> Verdict:
    """Nothing rose or fell: that says something where a reset would have shown."""
    power, twins = found.power, found.twins
    reasons = (*found.pairs, *found.steadiness)
    norm = found.moved(GRAD_NORM)
    if norm:
        reasons = (f"grad norm changed by {norm:+.0%}, the loss did not", *reasons)
    if power is None or not power.enough:
        return Verdict(INCONCLUSIVE, HIGH, f"Nothing visible in the log: {_weak(power)}", reasons)
    if twins is not None and twins.chance < _HINT:
        return Verdict(
            INCONCLUSIVE, MEDIUM,
            "Nothing sure in the log: the losses differ from those of the process before by "
            "little, and to one side; ask the checkpoint.",
            reasons,
        )  # fmt: skip
    return Verdict(
        HEALTHY, HIGH if not norm else MEDIUM,
        f"Healthy: the run continues as before; {_strong(power)}.", reasons,
    )  # fmt: skip


def _weak(power: Power | None) -> str:
    """Why nothing was to be seen, in words."""
    ask = "ask the checkpoint."
    if power is None:
        return f"too few rows to say what would be; {ask}"
    shows = f"a rise of {power.shows:.1%} or more would show"
    if power.moves is None:
        return f"{shows} in the mean of {power.rows} rows, which are of unknown steps; {ask}"
    return (
        f"a reset of the optimizer may move the loss by as little as {power.moves:.1%} or as much "
        f"as {GREATEST_RISE:.0%} over {power.steps:,.0f} steps; rows scatter by "
        f"{power.scatter:.1%}, so that only {shows}; {ask}"
    )


def _strong(power: Power) -> str:
    """What would have been to be seen, in words."""
    rows = "differences from the process before" if power.paired else "rows"
    return (
        f"a reset of the optimizer would move the loss by at least {power.moves:.1%} over "
        f"{power.steps:,.0f} steps; {rows} scatter by {power.scatter:.1%}, so that "
        f"{power.shows:.1%} would show"
    )


def _lasting(found: _Facts) -> Verdict | None:
    shape = found.shape
    if not shape.lasting:
        return None
    if shape.onset == LATER and found.norm_down and not found.norm_up:
        step = found.evidence.steps[shape.peak]
        return Verdict(
            INCONCLUSIVE, MEDIUM,
            "Inconclusive: the loss rose while grad norm fell, and the first steps were as before: "
            f"something happened before {found.evidence.unit} {step:,.0f}, and not at the resume.",
            found.steadiness,
        )  # fmt: skip
    if shape.onset == LATER:
        return Verdict(
            DIVERGENCE, MEDIUM if found.norm_up else LOW,
            "Divergence: the loss rose after the first steps, which were as before.",
            found.steadiness,
        )  # fmt: skip
    if shape.growing:
        both = found.norm_up and not found.signature
        return Verdict(
            DIVERGENCE, HIGH if both else MEDIUM,
            f"Divergence: the loss keeps rising{' and grad norm with it' if both else ''}.",
            found.steadiness,
        )  # fmt: skip
    if shape.onset == AT_ONCE and found.norm_collapsed:
        return _lost(found, LOW)
    if shape.onset == AT_ONCE:
        return Verdict(
            DATA_CHANGE, HIGH if not found.norm_down else MEDIUM,
            "A data change: the loss is up from the first step on, before any update was made.",
            found.steadiness,
        )  # fmt: skip
    if shape.onset == AFTER_UPDATES:
        return _lost(found, HIGH if found.signature else MEDIUM if found.norm_up else LOW)
    if found.norm_down:
        return _lost(found, HIGH if found.norm_collapsed else MEDIUM)
    if found.norm_up:
        return Verdict(
            DIVERGENCE, LOW, "Divergence: loss and grad norm are both up.", found.steadiness
        )
    return Verdict(
        INCONCLUSIVE, MEDIUM,
        "Inconclusive: the loss is up, and grad norm "
        + ("is not in the log." if found.norm is None else "is not."),
        found.steadiness,
    )  # fmt: skip


def _passing(found: _Facts) -> Verdict:
    shape = found.shape
    if shape.onset == AFTER_UPDATES:
        return _lost(found, HIGH if shape.plain else MEDIUM)
    if not shape.onset and (found.signature or found.norm_down):
        return _lost(found, MEDIUM if found.signature else LOW)
    back = shape.back if shape.back is not None else shape.peak
    until = found.evidence.steps[min(back, len(found.evidence.steps) - 1)]
    return Verdict(
        RECOVERED, HIGH if shape.onset == AT_ONCE and shape.plain else LOW,
        f"Recovered: the loss was up and is back from {found.evidence.unit} {until:,.0f} on.",
        found.steadiness,
    )  # fmt: skip


def _lost(found: _Facts, confidence: str) -> Verdict:
    shape = found.shape
    back = ""
    if not shape.lasting and shape.back is not None:
        step = found.evidence.steps[min(shape.back, len(found.evidence.steps) - 1)]
        back = f"; the loss is back from {found.evidence.unit} {step:,.0f} on"
    reasons = list(found.pairs)
    if shape.onset == AFTER_UPDATES:
        reasons.append("the first loss is as before: the weights were restored")
    if shape.onset == AT_ONCE:
        reasons.append("the very first loss is up already, as other data would have it too")
    if found.norm is None:
        reasons.append("grad norm is not in the log")
    elif found.norm_at[EARLY] > 0:
        reasons.append(
            "grad norm rose too in the first steps" + (", and then fell" if found.norm_down else "")
        )
    if shape.lasting and shape.onset == AFTER_UPDATES:
        reasons.append("an lr that is higher than the log says would show the same")
    unsure = found.norm is None or LR not in found.evidence.changes or found.moved(THROUGHPUT)
    if confidence == HIGH and unsure:
        confidence = MEDIUM
    rose = found.loss.top()
    fell = ""
    if found.norm is not None and found.norm_down:
        fell = f" while grad norm fell by {-found.norm.bottom():.0%}"
    return Verdict(
        LOST_OPTIMIZER, confidence,
        f"Lost optimizer state: the loss rose by {rose:.0%}{fell}{back}.",
        (*reasons, *found.steadiness),
    )  # fmt: skip
