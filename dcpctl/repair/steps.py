"""Are all files of one save? The optimizer's step is in each of them."""

from __future__ import annotations

from collections import defaultdict

from dcpctl.errors import DcpctlError, Refused, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.repair.survey import Survey
from dcpctl.repair.wording import listed


def check_one_save(survey: Survey, mine: Checkpoint, sibling: Checkpoint) -> None:
    """Refuse files that stop at different steps where the sibling's parameters share one.

    A save that begins to overwrite another one and does not finish leaves files of both.

    Args:
        survey: of the broken checkpoint.
        mine: the broken checkpoint, with its good chunks in place.
        sibling: another save.

    Raises:
        Refused: the steps differ.
    """
    try:
        expected = OptimizerView(sibling)
        if len(expected.steps) != 1:
            return
        slots = {p.name: p.slots["step"].fqn for p in expected.parameters if "step" in p.slots}
    except DcpctlError:  # the sibling is only asked for what it says of its own accord
        return
    files: dict[float, set[str]] = defaultdict(set)
    for fqn in slots.values():
        step = _step(mine, fqn)
        if step is not None:
            file = mine.tensors[fqn].chunks.file[0] if fqn in mine.tensors else 0
            files[step].add(survey.layout.files[int(file)])
    if len(files) > 1:
        said = [f"step {step:g} in {', '.join(sorted(files[step])[:3])}" for step in sorted(files)]
        raise Refused(
            f"the files of {quote(survey.storage.root)} are of different saves: "
            f"{listed(said, quoted=False)}",
            hint="a save that overwrote another one did not finish; neither can be rebuilt",
        )


def _step(mine: Checkpoint, fqn: str) -> float | None:
    entry = mine.entries.get(fqn)
    if entry is None or entry.kind != "tensor":
        return None
    try:
        return float(mine.tensors[fqn].numpy().reshape(-1)[0])
    except (DcpctlError, IndexError):  # it is lost, which the survey says
        return None
