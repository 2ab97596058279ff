"""Steps by the rank whose file holds them: files of different saves put together show in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.table import STEP_SLOT
from dcpctl.model.shard_file import rank_words

# Fewer parameters of a rank than this may be behind for a reason of their own.
_LEAST = 2


@dataclass(frozen=True, slots=True)
class MixedSaves:
    """Ranks whose files are of an older save than the others'.

    Attributes:
        ranks: these ranks, ascending.
        steps: the distinct steps that their files hold, ascending.
        newest: the step that the other ranks' files hold.
        parameters: those whose step lies in the older files.
    """

    ranks: tuple[int, ...]
    steps: tuple[float, ...]
    newest: float
    parameters: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is wrong, a clause."""
        held = ", ".join(f"{step:,g}" for step in self.steps)
        return (
            f"the files of {rank_words(self.ranks)} hold step {held} for all parameters whose step "
            f"they have, those of the other ranks step {self.newest:,g}: they are of another save"
        )


def find_mixed(
    parameters: Iterable[Parameter],
    entries: Mapping[str, Any],
    read_steps: Callable[[], Mapping[str, float]],
) -> MixedSaves | None:
    """Tell whether the steps of one optimizer differ by rank, and in no other way.

    Args:
        parameters: of one optimizer.
        entries: FQN to entry of the whole checkpoint.
        read_steps: reads the step of each parameter; called only where several ranks hold some.
    """
    holders: dict[int, list[str]] = {}
    for parameter in parameters:
        state = parameter.slots.get(STEP_SLOT)
        entry = None if state is None else entries.get(state.fqn)
        ranks: tuple[int, ...] = getattr(entry, "ranks", ())
        if len(ranks) == 1:
            holders.setdefault(ranks[0], []).append(parameter.name)
    if len(holders) < 2 or min(map(len, holders.values())) < _LEAST:
        return None
    step_of = read_steps()
    at: dict[int, float] = {}
    for rank, names in holders.items():
        steps = {step_of[name] for name in names if name in step_of}
        if len(steps) != 1:
            return None
        at[rank] = steps.pop()
    newest = max(at.values())
    behind = tuple(sorted(rank for rank, step in at.items() if step < newest))
    if not behind:
        return None
    return MixedSaves(
        behind,
        tuple(sorted({at[rank] for rank in behind})),
        newest,
        tuple(name for rank in behind for name in holders[rank]),
    )
