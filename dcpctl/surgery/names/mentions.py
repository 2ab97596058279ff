"""Names of parameters in values that belong to no optimizer: a scheduler's, a job's own lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl.errors import DcpctlError, Refused, quote
from dcpctl.formats.pickles.standins import Record
from dcpctl.model.draft import BytesDraft, Draft
from dcpctl.model.optimizer.naming import is_job_name
from dcpctl.model.sections import EMA, OTHER, SCHEDULER
from dcpctl.model.source import NewValue
from dcpctl.surgery.names.survey import Names
from dcpctl.surgery.names.values import alike

# A value that lists parameters is no larger; what is larger is data.
_MAX_BYTES = 1 << 20
_MAX_DEPTH = 8


def remade(draft: Draft, names: Names, models: Mapping[str, Mapping[str, str]]) -> list[BytesDraft]:
    """Return the entries whose values name parameters that get other names, with these.

    Only names with a dot are looked for: `weight` may be any word.

    Args:
        draft: the checkpoint.
        names: its names.
        models: model root -> parameter's name -> new name.

    Raises:
        Refused: a value names a parameter that models rename differently, or in an object of a
            class that cannot be made anew.
    """
    new: dict[str, set[str]] = {}
    for known in models.values():
        for old, to in known.items():
            if "." in old:
                new.setdefault(old, set()).add(to)
    changed = {old for old, to in new.items() if to != {old}}
    if not changed:
        return []
    held = {holder.fqn for holder in names.holders}
    found = []
    for fqn, section in names.sections.of.items():
        entry = draft.entries[fqn]
        looked_at = section in (SCHEDULER, OTHER, EMA) and fqn not in held
        if not looked_at or not isinstance(entry, BytesDraft) or not _is_small(entry):
            continue
        try:
            value = entry.value
        except DcpctlError:
            continue  # what cannot be read is kept as it is, and check names it
        mentioned = set(_texts(value, 0)) & changed
        if mentioned:
            _refuse_unsure(fqn, value, sorted(mentioned), new)
            told = {name: next(iter(new[name])) for name in mentioned}
            found.append(BytesDraft(fqn, NewValue(_renamed(value, told)), entry.rank))
    return found


def _is_small(entry: BytesDraft) -> bool:
    length = 0 if entry.source.entry is None else entry.source.entry.length
    return length <= _MAX_BYTES and not any(map(is_job_name, entry.fqn.split(".")[-1:]))


def _texts(value: Any, depth: int) -> Iterator[str]:
    """Every text in a value: keys and items of mappings, lists, sets and records."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key, depth + 1)
            yield from _texts(item, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _texts(item, depth + 1)
    elif isinstance(value, Record):
        yield from _texts(value.fields, depth + 1)
        yield from _texts(value.args, depth + 1)


def _refuse_unsure(fqn: str, value: Any, mentioned: list[str], new: Mapping[str, set[str]]) -> None:
    torn = [name for name in mentioned if len(new[name]) > 1]
    if torn:
        raise Refused(
            f"{quote(fqn)} names the parameter {quote(torn[0])}, and of which model cannot be told",
            hint="drop that key first, or rename with --keys-only",
        )
    if _in_record(value, 0):
        raise Refused(
            f"{quote(fqn)} names the parameter {quote(mentioned[0])} in an object whose class "
            "dcpctl cannot rebuild",
            hint="drop that key first, or rename with --keys-only",
        )


def _in_record(value: Any, depth: int) -> bool:
    """Whether a value has objects of classes in it."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, Mapping):
        return any(_in_record(item, depth + 1) for item in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(_in_record(item, depth + 1) for item in value)
    return isinstance(value, Record)


def _renamed(value: Any, new: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return new.get(value, value)
    if isinstance(value, Mapping):
        made = {_renamed(key, new): _renamed(item, new) for key, item in value.items()}
        return alike(value, made)
    if isinstance(value, (list, set, frozenset)) or type(value) is tuple:
        return type(value)(_renamed(item, new) for item in value)
    return value
