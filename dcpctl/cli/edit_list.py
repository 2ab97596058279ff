"""From the options of `dcpctl edit`, in their order, to edits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dcpctl.errors import UsageError
from dcpctl.model import rename_rules as rules
from dcpctl.surgery import edits
from dcpctl.surgery.cast import dtype_named
from dcpctl.surgery.edits_file import read_edits
from dcpctl.surgery.set import assignment

_RULES: dict[str, Callable[[str], rules.Rule]] = {
    "--rename": rules.literal,
    "--rename-prefix": rules.prefix,
    "--rename-regex": rules.regex,
    "--rename-map": lambda text: rules.table(Path(text)),
}
_LAYOUT = ("--world-size", "-n", "--mesh", "--placements", "--like")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What stands beside the list of edits.

    Attributes:
        upgrade: options of the upgrade.
        reshard: makes the reshard of all layout options together.
        with_state: for drop and select.
        allow_lossy: for cast.
    """

    upgrade: dict[str, Any]
    reshard: Callable[[], edits.Reshard]
    with_state: bool
    allow_lossy: bool


def edits_in_order(given: Sequence[tuple[str, str]], wanted: Wanted) -> list[edits.Edit]:
    """Return the edits that options name, in their order.

    Args:
        given: options and their values, in order; those that are no edits are passed over.
        wanted: the rest of the command line.

    Raises:
        UsageError: an option's value is malformed, or there is no edit.
    """
    found: list[edits.Edit] = []
    listed = [(_verb(name), name, value) for name, value in given if _verb(name)]
    for verb, group in groupby(listed, key=lambda item: item[0]):
        pairs = [(name, value) for _, name, value in group]
        values = tuple(value for _, value in pairs)
        if verb == "rename":
            found.append(edits.Rename(tuple(_RULES[name](value) for name, value in pairs)))
        elif verb == "drop":
            found.append(edits.Drop(values, with_state=wanted.with_state))
        elif verb == "select":
            found.append(edits.Select(values, with_state=wanted.with_state))
        elif verb == "set":
            found.append(edits.Set(tuple(map(assignment, values))))
        elif verb == "cast":
            found.extend(_cast(value, wanted.allow_lossy) for value in values)
        elif verb == "merge":
            found.append(edits.Merge(tuple(map(Path, values))))
        elif verb == "upgrade":
            found.append(edits.Upgrade(**wanted.upgrade))
        elif verb == "reshard":
            found.append(wanted.reshard())
        else:
            found.extend(edit for value in values for edit in read_edits(Path(value)))
    if not found:
        raise UsageError("no edit is asked for", hint="dcpctl edit --help lists them")
    if sum(isinstance(edit, edits.Reshard) for edit in found) > 1:
        raise UsageError("one layout can be asked for, and there are several")
    return found


def with_pairs(made: Sequence[edits.Edit], pairs: tuple[tuple[str, str], ...]) -> list[edits.Edit]:
    """Let the first edit that touches optimizers say which belongs to which model.

    Raises:
        UsageError: there are pairs, and no such edit.
    """
    found = list(made)
    for number, edit in enumerate(found):
        if pairs and isinstance(edit, edits.PAIRED):
            found[number] = dataclasses.replace(edit, optimizer_of=(*edit.optimizer_of, *pairs))
            return found
    if pairs:
        raise UsageError("--optimizer-of is for edits of names, keys and layouts")
    return found


def _verb(name: str) -> str:
    """The edit that an option asks for; empty for an option that only says how."""
    if name in _RULES:
        return "rename"
    if name in _LAYOUT:
        return "reshard"
    verbs = ("--drop", "--select", "--set", "--cast", "--merge", "--upgrade", "--edits")
    return name[2:] if name in verbs else ""


def _cast(text: str, allow_lossy: bool) -> edits.Cast:
    glob, _, dtype = text.rpartition("=")
    return edits.Cast(dtype_named(dtype), (glob,) if glob else (), allow_lossy)
