"""Step `wrappers`: take the names that wrappers left in keys out of all places at once."""

from __future__ import annotations

from typing import Any

from dcpctl.errors import Refused
from dcpctl.model.draft import Draft
from dcpctl.model.fqn import DDP_WRAPPER, WRAPPERS, strip_wrappers, wrappers_in
from dcpctl.surgery.names import Names, every_name, survey
from dcpctl.surgery.rename import Mapped, renamed
from dcpctl.surgery.upgrade.context import Context
from dcpctl.surgery.upgrade.registry import Done, step

_MARKERS = (*WRAPPERS, f"{DDP_WRAPPER}.")


@step("wrappers", 20)
def wrappers(draft: Draft, context: Context) -> Done:
    """Strip wrapper names from model keys, optimizer state, `params` lists and object paths.

    Raises:
        Refused: two names would become one.
    """
    if not context.wrappers or not _any_wrapped(draft, context):
        return Done(draft)
    changed = 0
    try:
        names = survey(draft)
        new = {fqn: site.under(strip_wrappers(site.name)) for fqn, site in names.sites.items()}
        outcome = renamed(draft, names, new, _stripped(names))
        if outcome.changes:
            draft, changed = outcome.draft, len(outcome.changes)
        left = {fqn: to for fqn, path in every_name(draft) if (to := _bare(fqn, path)) != fqn}
        if left:
            outcome = renamed(draft, survey(draft), left, {})
            draft, changed = outcome.draft, changed + len(outcome.changes)
    except Refused as error:
        raise Refused(
            f"wrapper names cannot be stripped: {error}",
            hint="drop one of the two first, with dcpctl drop",
        ) from None
    if not changed:
        return Done(draft)
    return Done(draft, changed, f"wrapper names taken out of {_count(changed)}")


def _any_wrapped(draft: Draft, context: Context) -> bool:
    """Whether a name anywhere is a wrapped one: in FQNs, or in the lists of param groups."""
    fqns = (fqn for fqn, _ in every_name(draft))
    if any(marker in fqn for fqn in fqns for marker in _MARKERS):
        return True
    for raw in context.view(draft).optimizers:
        listed = (name for group in raw.groups for name in (*group.params, *group.names))
        if any(strip_wrappers(name) != name for name in (*raw.state, *raw.absent, *listed)):
            return True
    return False


def _stripped(names: Names) -> Mapped:
    """The names that each optimizer has for parameters, to those without wrappers.

    One may have them with wrappers that another, or the model, does not leak.
    """
    mapped: Mapped = {}
    for raw in names.owners:
        known = mapped.setdefault(raw.root, {})
        for name in names.of(raw.root):
            known[name] = strip_wrappers(name)
    return mapped


def _bare(fqn: str, path: tuple[Any, ...] | None) -> str:
    """The FQN of what is no parameter without wrapper names.

    `module` as a key of its own in the state dict is what the job called its model, no wrapper.
    """
    found = wrappers_in(fqn)
    if not found:
        return fqn
    tokens = [token for token in fqn.split(".") if token not in WRAPPERS]
    if DDP_WRAPPER in found and (path is None or DDP_WRAPPER not in path):
        place = tokens.index(DDP_WRAPPER) if DDP_WRAPPER in tokens else -1
        while 0 <= place < len(tokens) - 1 and tokens[place] == DDP_WRAPPER:
            del tokens[place]
    return ".".join(tokens)


def _count(number: int) -> str:
    return f"{number:,} key" if number == 1 else f"{number:,} keys"
