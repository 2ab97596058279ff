"""What lies between two saves of a run: how far the run went on, and how far its optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dcpctl.errors import quote
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.contents import is_export
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.verdict import number
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.positions import NUMBER, STEPS, Position, position_of
from dcpctl.model.saves import save_around
from dcpctl.model.witnesses import COUNT

# A loss scaler skips steps of the optimizer that the job counts: a few.
_FEW_SHARE, _FEW = 0.02, 2
#: Fewest tensors of other shapes that make another model.
_FEWEST = 4
_MOST_STEPS = 1e15


def _is_step(value: float) -> bool:
    """Whether a stored number may be a count of steps; NaN is none."""
    return 0 <= value < _MOST_STEPS


def _shape(entry: Entry) -> tuple[int, ...] | None:
    return tuple(entry.shape) if isinstance(entry, TensorEntry) else None


class Save:
    """One of the two saves.

    Args:
        checkpoint: opened.
        view: what it says of its optimizer.
    """

    def __init__(self, checkpoint: Checkpoint, view: OptimizerView) -> None:
        self.checkpoint = checkpoint
        self.view = view
        self._named = save_around(checkpoint.path)
        self.position: Position | None = position_of(self._named.name)

    @property
    def name(self) -> str:
        """What a message calls it: its directory's name, quoted."""
        return quote(self._named.name)

    @property
    def directory_step(self) -> int | None:
        """The number in the directory's name, if it may be one of steps; a date's is not."""
        at = self.position
        return at.value if at is not None and at.unit in (*STEPS, NUMBER) else None

    @property
    def says_steps(self) -> bool:
        """Whether that number is one of steps for certain."""
        return self.position is not None and self.position.step is not None

    @cached_property
    def step(self) -> int | float | None:
        """The step that the optimizer is at; the highest of its parameters'."""
        return max((number(step) for step in self.view.steps if _is_step(step)), default=None)

    @cached_property
    def is_export(self) -> bool:
        """Whether it holds a model and nothing of the job."""
        return is_export(self.view)

    @cached_property
    def counts(self) -> dict[str, float]:
        """The steps that the job itself counted, by where they are kept."""
        return {w.source: w.step for w in self.view.witnesses.sure if w.kind == COUNT}


@dataclass(frozen=True, slots=True)
class History:
    """Two saves of one run.

    Attributes:
        earlier: the one that came before.
        later: the one that is checked.
        newest: it is the newest save of its run.
    """

    earlier: Save
    later: Save
    newest: bool = False

    @property
    def other_shapes(self) -> tuple[str, ...]:
        """The model's tensors that have another shape here, where these are most of them.

        Empty where a few are, as after a vocabulary was enlarged: that is one model still.
        """
        before, after = (
            {name: save.checkpoint.entries[fqn] for name, fqn in save.view.sections.model.items()}
            for save in (self.earlier, self.later)
        )
        shapes = [
            (name, _shape(before[name]), _shape(after[name])) for name in before.keys() & after
        ]
        others = sorted(name for name, old, new in shapes if old != new)
        return tuple(others) if len(others) >= max(_FEWEST, len(shapes) / 2) else ()

    @property
    def exported(self) -> bool:
        """Whether the later save was meant as an export, which has the model alone.

        Jobs write the last save so, or another in the form that others read. A save between
        others that has lost all but the model is no export.
        """
        meant = self.newest or any(form.safetensors for form in self.later.checkpoint.forms)
        return meant and self.later.is_export

    @property
    def counted(self) -> tuple[float, float] | None:
        """The run's own steps at both saves: by the directories' names, else by the job's count.

        None where nothing counts them. A number in a name that may count something else is
        believed where the earlier save's optimizer is at that step.
        """
        earlier, later = self.earlier, self.later
        named = None
        if earlier.directory_step is not None and later.directory_step is not None:
            named = (earlier.directory_step, later.directory_step)
            if earlier.says_steps and later.says_steps:
                return named
        both = [source for source in earlier.counts if source in later.counts]
        # A count that went with the optimizer counts its steps; another may count anything.
        both.sort(key=lambda source: earlier.counts[source] != earlier.step)
        if both:
            return earlier.counts[both[0]], later.counts[both[0]]
        return named if earlier.step == earlier.directory_step else None

    @property
    def went_on(self) -> int | float | None:
        """Steps of the run between the saves; None where nothing counts them."""
        counted = self.counted
        return None if counted is None else number(counted[1] - counted[0])

    @property
    def advanced(self) -> int | float | None:
        """Steps that the optimizer counted between the saves; negative where it fell."""
        before, after = self.earlier.step, self.later.step
        return None if before is None or after is None else number(after - before)

    @property
    def proportional(self) -> bool:
        """Whether the optimizer's count and the run's have one ratio at both saves.

        It is not 1 where the run counts micro-batches of accumulated gradients.
        """
        counted, before, after = self.counted, self.earlier.step, self.later.step
        if counted is None or before is None or after is None or min(before, *counted) <= 0:
            return False
        return abs(after / counted[1] - before / counted[0]) <= _FEW_SHARE * before / counted[0]

    @property
    def steps(self) -> int | None:
        """Updates of the moments between the saves, rather too many than too few.

        None where neither the run nor the optimizer says.
        """
        advanced, went_on = self.advanced, self.went_on
        if advanced is not None and advanced > 0 and (went_on is None or self.proportional):
            return round(advanced)
        most = max(advanced or 0, went_on or 0)
        return round(most) if most > 0 else None

    @property
    def restarted_at(self) -> int | float | None:
        """The run's step at which the optimizer began to count again from zero; None if it did not.

        The optimizer's count is then the number of steps since, which is at most as many as lie
        between the saves.
        """
        counted, went_on, advanced = self.counted, self.went_on, self.advanced
        before, after = self.earlier.step, self.later.step
        if counted is None or went_on is None or advanced is None:
            return None
        if before is None or after is None or went_on <= 0:
            return None
        fell = advanced < 0 and after <= went_on + _FEW
        exact = advanced != went_on and after == went_on and before > _FEW
        return number(max(counted[1] - after, counted[0])) if fell or exact else None
