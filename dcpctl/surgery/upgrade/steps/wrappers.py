"""Step `wrappers`: take the names that wrappers left in keys out of all places at once."""

from __future__ import annotations

from typing import Any

from dcpctl.errors import Refused, quote
from dcpctl.model.draft import Draft
from dcpctl.model.fqn import DDP_WRAPPER, WRAPPERS, wrappers_in
from dcpctl.model.wrappers import ddp_leaked, without_wrappers
from dcpctl.surgery.names.renamer import Mapped, renamed
from dcpctl.surgery.names.survey import Names, every_name, survey
from dcpctl.surgery.upgrade.engine import Context, Done, step

_MARKERS = (*WRAPPERS, f"{DDP_WRAPPER}.")


@step("wrappers", 20)
def wrappers(draft: Draft, context: Context) -> Done:
    """Strip wrapper names from model keys, optimizer state, `params` lists and object paths.

    `module` goes where it leaked: where a model and its optimizer differ in it, or where the user
    asks for it. Where all names have it, it is what the form or the job calls its model.

    Raises:
        Refused: two names would become one.
    """
    if context.wrappers is False or not _any_wrapped(draft, context):
        return Done(draft)
    names = survey(draft)
    ddp = context.wrappers is True or ddp_leaked(names.sections)
    found: dict[str, None] = {}
    changed = 0
    try:
        new = {
            f: site.under(without_wrappers(site.name, ddp=ddp)) for f, site in names.sites.items()
        }
        outcome = renamed(draft, names, new, _stripped(names, ddp))
        for fqn, to in new.items():
            found.update(dict.fromkeys(_gone(fqn, to)))
        if outcome.changes:
            draft, changed = outcome.draft, len(outcome.changes)
        left = {f: to for f, path in every_name(draft) if (to := _bare(f, path, ddp)) != f}
        if left:
            outcome = renamed(draft, survey(draft), left, {})
            for fqn, to in left.items():
                found.update(dict.fromkeys(_gone(fqn, to)))
            draft, changed = outcome.draft, changed + len(outcome.changes)
    except Refused as error:
        raise Refused(
            f"wrapper names cannot be stripped: {error.message}",
            hint="drop one of the two first, with dcpctl drop, or leave them: --no-wrappers",
        ) from None
    if not changed:
        return Done(draft, 0, _kept(names))
    which = ", ".join(quote(f"{name}.") for name in found)
    return Done(draft, changed, f"{which or 'wrapper names'} taken out of {_count(changed)}")


def _gone(old: str, new: str) -> list[str]:
    """The wrapper names that one FQN has and the other has not."""
    there = [name for name in (*WRAPPERS, DDP_WRAPPER) if name in old.split(".")]
    return [name for name in there if old.split(".").count(name) > new.split(".").count(name)]


def _kept(names: Names) -> str:
    """A word on a prefix that DDP may have left in all names alike."""
    sites = [site.name for site in names.sites.values() if site.copy is None]
    if sites and all(name.startswith(f"{DDP_WRAPPER}.") for name in sites):
        return (
            f"every parameter's name begins with '{DDP_WRAPPER}.', in the model and in its "
            "optimizer, and stays so; --wrappers strips it"
        )
    return ""


def _any_wrapped(draft: Draft, context: Context) -> bool:
    """Whether a name anywhere is a wrapped one: in FQNs, or in the lists of param groups."""
    fqns = (fqn for fqn, _ in every_name(draft))
    if any(marker in fqn for fqn in fqns for marker in _MARKERS):
        return True
    for raw in context.view(draft).optimizers:
        listed = (name for group in raw.groups for name in (*group.params, *group.names))
        for name in (*raw.state, *raw.absent, *listed):
            if without_wrappers(name, ddp=True) != name:
                return True
    return False


def _stripped(names: Names, ddp: bool) -> Mapped:
    """The names that each optimizer has for parameters, to those without wrappers.

    One may have them with wrappers that another, or the model, does not leak.
    """
    return {
        raw.root: {name: without_wrappers(name, ddp=ddp) for name in names.of(raw.root)}
        for raw in names.owners
    }


def _bare(fqn: str, path: tuple[Any, ...] | None, ddp: bool) -> str:
    """The FQN of what is no parameter without wrapper names.

    `module` as a key of its own in the state dict is what the job called its model, no wrapper.
    """
    found = wrappers_in(fqn)
    if not found:
        return fqn
    tokens = [token for token in fqn.split(".") if token not in WRAPPERS]
    if ddp and DDP_WRAPPER in found and (path is None or DDP_WRAPPER not in path):
        place = tokens.index(DDP_WRAPPER) if DDP_WRAPPER in tokens else -1
        while 0 <= place < len(tokens) - 1 and tokens[place] == DDP_WRAPPER:
            del tokens[place]
    return ".".join(tokens)


def _count(number: int) -> str:
    return f"{number:,} key" if number == 1 else f"{number:,} keys"
