"""Each of a checkpoint's optimizers by itself: whose it is, what it is, whether it is whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dcpctl.errors import printable
from dcpctl.model.optimizer import verdict as verdicts
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.pairing import Pairing


@dataclass(frozen=True)
class Share:
    """One optimizer.

    Attributes:
        pairing: which model it trains, and by what evidence.
        verdict: `complete`, `partial` or `absent`, of its own state.
        parameters: what it trains.
        read_steps: reads the step of every parameter, of other optimizers too, by name.
    """

    pairing: Pairing
    verdict: str
    parameters: tuple[Parameter, ...]
    read_steps: Callable[[], Mapping[str, float]] = field(repr=False)

    @property
    def root(self) -> str:
        """What its FQNs begin with."""
        return self.pairing.optimizer

    @cached_property
    def kind(self) -> str | None:
        """Which optimizer it is; several joined with ` + `; None when it cannot be told."""
        kinds = dict.fromkeys(p.kind.name for p in self.parameters if p.kind.name is not None)
        return " + ".join(kinds) or None

    @cached_property
    def step_of(self) -> Mapping[str, float]:
        """Parameter name to its step, of those that have one."""
        every = self.read_steps()
        return {p.name: every[p.name] for p in self.parameters if p.name in every}

    @cached_property
    def steps(self) -> dict[float | int, int]:
        """Distinct steps in order, each with the number of parameters that have it."""
        return verdicts.count_steps(self.step_of.values())

    @property
    def behind(self) -> tuple[str, ...]:
        """The parameters that are not at its last step."""
        last = max(self.steps, default=0)
        return tuple(name for name, step in self.step_of.items() if not step >= last)  # or NaN

    @property
    def words(self) -> str:
        """What there is to say of it beside others: `Adam of 'generator', complete, at step 4`."""
        clauses = [self.kind or "of unknown kind"]
        if self.pairing.model is not None:
            clauses[0] += f" of {printable(self.pairing.model or 'the model')}"
            if self.pairing.evidence:
                clauses[0] += f" ({self.pairing.evidence})"
        count = len(self.parameters)
        clauses.append(f"{self.verdict} for {count:,} parameter{'' if count == 1 else 's'}")
        steps = list(self.steps)
        if len(steps) == 1:
            clauses.append(f"at step {steps[0]:,}")
        elif steps:
            clauses.append(f"at steps {steps[0]:,} to {steps[-1]:,}")
        return ", ".join(clauses)


def worst(shares: Sequence[Share]) -> str:
    """The verdict on several optimizers: that of all, else partial."""
    found = {share.verdict for share in shares}
    return found.pop() if len(found) == 1 else verdicts.PARTIAL


def steps_in_words(shares: Sequence[Share]) -> str:
    """`, at step 4 (optim_g) and 2 (optim_d)`; empty where all optimizers are at one step."""
    if len(shares) < 2:
        return ""
    told = [(share.root, list(share.steps)) for share in shares if share.steps]
    if len({tuple(steps) for _, steps in told}) < 2 or any(len(steps) > 1 for _, steps in told):
        return ""
    clauses = [f"{steps[0]:,} ({root})" for root, steps in told]
    return printable(f", at step {', '.join(clauses[:-1])} and {clauses[-1]}")
