"""Step `state-keys`: name parameters in the optimizer by FQN, by index, or flattened."""

from __future__ import annotations

from dcpctl.errors import Refused, listed, quote
from dcpctl.model.draft import Draft
from dcpctl.model.fqn import is_index
from dcpctl.model.optimizer.source import RawOptimizer
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.names.survey import ambiguous
from dcpctl.surgery.upgrade.engine import Context, Done, step
from dcpctl.surgery.upgrade.renaming import (
    BY_PARAMETER,
    FLATTENED,
    INDEX,
    Taken,
    by_group,
    put_back,
    renamed_state,
    take_apart,
)


@step("state-keys", 40)
def state_keys(draft: Draft, context: Context) -> Done:
    """Rename what `--optimizer-keys` asks for; nothing without it.

    Raises:
        Refused: an index cannot be told to be one parameter, state belongs to no param group, or
            the optimizer is kept in a form without names.
    """
    wanted = context.optimizer_keys
    if wanted is None:
        return Done(draft)
    view = context.view(draft)
    changed, notes = 0, []
    for raw in view.optimizers:
        taken = take_apart(draft, raw)
        if taken.style == wanted or not (taken.state or taken.groups):
            continue
        before = taken.style
        if before in (FLATTENED, BY_PARAMETER):
            taken = by_group(taken)
            count = len(taken.groups)
            groups = "one param group" if count == 1 else f"{count:,} param groups"
            notes.append(f"parameters with equal hyperparameters make {groups}")
        taken = _named(taken, wanted, raw, view)
        draft = put_back(draft, taken)
        changed += len(taken.fqns)
        notes.insert(0, f"{quote(raw.root)} from {before} to {wanted}")
    return Done(draft, changed, "; ".join(notes))


def _named(taken: Taken, wanted: str, raw: RawOptimizer, view: OptimizerView) -> Taken:
    mentioned = [name for group in taken.groups for name in group.params]
    new = {name: name for name in (*taken.state, *mentioned)}
    if taken.style == INDEX:
        new = _names_of_indices(list(new), raw, view)
    if wanted == INDEX:
        new = {name: str(number) for number, name in enumerate(mentioned)}
        loose = [name for name in taken.state if name not in new]
        if loose:
            raise Refused(f"state of {listed(loose)} belongs to no param group, so it has no index")
    return renamed_state(taken, new, wanted)


def _names_of_indices(indices: list[str], raw: RawOptimizer, view: OptimizerView) -> dict[str, str]:
    model = view.sections.model_of(raw.root)
    if model is None and (candidates := view.sections.pairing_of[raw.root].candidates):
        raise ambiguous(raw.root, candidates)
    own = {p.fqn: p.name for p in model.parameters} if model else {}
    names = {p.key: own.get(p.fqn or "", p.key) for p in view.by_optimizer[raw.root]}
    for group in raw.groups:
        names.update(zip(group.params, group.names, strict=False))
    unsure = [index for index in indices if is_index(names.get(index, index))]
    if unsure:
        raise Refused(
            f"which parameters {listed(unsure)} of {quote(raw.root)} are cannot be told: the "
            "shapes in the checkpoint's model leave several ways, or there is no model",
            hint="merge the model's checkpoint in, or save with names "
            "(torch.distributed.checkpoint.state_dict.get_state_dict)",
        )
    return {index: names[index] for index in indices}
