"""Are all files of one save? The optimizer's step is in each of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from dcpctl.errors import DcpctlError, Refused, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.repair.survey import Survey
from dcpctl.repair.wording import clauses

#: Parameters of a file that have to share a step for it to be the file's.
_FEWEST = 3


def check_one_save(survey: Survey, mine: Checkpoint, sibling: Checkpoint | None) -> None:
    """Refuse files that stop at different steps.

    A save that begins to overwrite another one and does not finish leaves files of both. Parameters
    may have different steps in one save; not so that each file has one of its own, and not where
    all of the sibling's share one.

    Args:
        survey: of the broken checkpoint.
        mine: the broken checkpoint, with its good chunks in place.
        sibling: another save.

    Raises:
        Refused: the steps differ.
    """
    for share in OptimizerView(mine).shares:
        _refuse_steps_of(share.parameters, survey, mine, sibling)


def _refuse_steps_of(
    parameters: Sequence[Parameter], survey: Survey, mine: Checkpoint, sibling: Checkpoint | None
) -> None:
    """The same for the parameters of one optimizer: others may be at other steps."""
    by_file: dict[str, list[float]] = defaultdict(list)
    for parameter in parameters:
        slot = parameter.slots.get("step")
        entry = None if slot is None else mine.tensors.get(slot.fqn)
        step = None if entry is None else _step(entry)
        if entry is not None and step is not None:
            by_file[survey.layout.files[int(entry.chunks.file[0])]].append(step)
    each = {file: set(steps) for file, steps in by_file.items()}
    if len(set().union(*each.values())) < 2:
        return
    uniform = all(len(steps) == 1 for steps in each.values())
    if not (uniform and min(map(len, by_file.values())) >= _FEWEST) and not _share(sibling):
        return
    files: dict[float, list[str]] = defaultdict(list)
    for file, steps in sorted(each.items()):
        for step in steps:
            files[step].append(file)
    said = [f"step {step:g} in {', '.join(files[step][:3])}" for step in sorted(files)]
    raise Refused(
        f"the files of {quote(survey.storage.root)} are of different saves: {clauses(said)}",
        hint="a save that overwrote another one did not finish; take the one before both",
    )


def _share(sibling: Checkpoint | None) -> bool:
    """Whether all parameters of a checkpoint have the same step, as far as it can be read."""
    try:
        shares = () if sibling is None else OptimizerView(sibling).shares
        return bool(shares) and all(len(share.steps) == 1 for share in shares)
    except DcpctlError:  # it is only asked for what it says of its own accord
        return False


def _step(entry: TensorEntry) -> float | None:
    try:
        return float(entry.numpy().reshape(-1)[0])
    except (DcpctlError, IndexError):  # it is lost, which the survey says
        return None
