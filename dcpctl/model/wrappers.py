"""Which wrapper names leaked into the names of parameters, and by what evidence.

`_orig_mod`, `_checkpoint_wrapped_module` and the like are names that only torch's wrappers give.
`module` is DDP's attribute, and also what frameworks (Megatron) and people call parts of models: it
leaked only where a model and its optimizer name one parameter with it and without it.
"""

from __future__ import annotations

from dcpctl.model.fqn import DDP_WRAPPER, WRAPPERS, is_index
from dcpctl.model.models import below
from dcpctl.model.sections import MODEL, Sections

_DDP = f"{DDP_WRAPPER}."


def without_wrappers(name: str, *, ddp: bool) -> str:
    """Return a parameter's name without the names that wrappers leave in it.

    Args:
        name: relative to its model.
        ddp: whether `module` at its beginning is DDP's.
    """
    kept = [component for component in name.split(".") if component not in WRAPPERS]
    while ddp and len(kept) > 1 and kept[0] == DDP_WRAPPER:
        kept = kept[1:]
    return ".".join(kept)


def ddp_leaked(sections: Sections) -> bool:
    """Say whether `module` in names is DDP's: one of model and optimizer has it, one has not."""
    for pairing in sections.pairings:
        model = sections.model_of(pairing.optimizer)
        if model is None:
            continue
        entries = (below(fqn, model.root) for fqn in sections.members(MODEL))
        ours = {without_wrappers(name, ddp=False) for name in entries if name}
        raw = next(raw for raw in sections.optimizers if raw.root == pairing.optimizer)
        named = {*raw.state, *(name for group in raw.groups for name in group.params)}
        theirs = {without_wrappers(name, ddp=False) for name in named if not is_index(name)}
        if _bare(ours) & theirs or _bare(theirs) & ours:
            return True
    return False


def _bare(names: set[str]) -> set[str]:
    """The names that begin with DDP's, without it."""
    return {name[len(_DDP) :] for name in names if name.startswith(_DDP)}
