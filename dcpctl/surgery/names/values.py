"""Names of parameters inside bytes entries: lists, param groups, pickled state dicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

from dcpctl.formats.pickles.standins import Opaque, PackedTensor, Record, TensorRef
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.draft import BytesDraft, EntryDraft
from dcpctl.model.source import NewValue
from dcpctl.surgery.names.survey import GROUP, GROUPS, NAME_LISTS, PARAMS, SLOTS_BY_NAME, Holder

#: Old name to new name; None drops the parameter.
Rename = Callable[[str], str | None]


def with_names(entry: EntryDraft, holder: Holder, new: Mapping[str, str]) -> BytesDraft | None:
    """Return a bytes entry whose value has new names of parameters; None where none changes.

    Args:
        entry: the entry.
        holder: what its value is.
        new: old name to new one; others stay.
    """
    return _rewritten(entry, holder, lambda name: new.get(name, name))


def without_names(entry: EntryDraft, holder: Holder, gone: Collection[str]) -> BytesDraft | None:
    """Return a bytes entry whose value no longer names some parameters; None where it did not."""
    return _rewritten(entry, holder, lambda name: None if name in gone else name)


def _rewritten(entry: EntryDraft, holder: Holder, rename: Rename) -> BytesDraft | None:
    if not isinstance(entry, BytesDraft):
        return None
    value = entry.value
    if holder.index is None:
        made = _VISITORS.get(holder.what, _state_dict)(value, rename)
    else:
        made = _replaced(value, holder.index, _state_dict(value[holder.index], rename))
    if made is value:
        return None
    return BytesDraft(entry.fqn, NewValue(made), entry.rank)


def _replaced(value: Any, index: int, new: Any) -> Any:
    """A list with another item; itself where the item is the one that it has."""
    if value[index] is new:
        return value
    items = [new if number == index else item for number, item in enumerate(value)]
    return tuple(items) if isinstance(value, tuple) else items


def _names(value: Any, rename: Rename) -> Any:
    """A list of names; indices in it stay."""
    if not isinstance(value, (list, tuple)):
        return value
    made = [(rename(item) if isinstance(item, str) else item) for item in value]
    if made == list(value):
        return value
    kept = [item for item in made if item is not None]
    return tuple(kept) if isinstance(value, tuple) else kept


def _group(value: Any, rename: Rename) -> Any:
    if not isinstance(value, Mapping):
        return value
    return _with_parts(
        value, {key: _names(value[key], rename) for key in NAME_LISTS if key in value}
    )


def _groups(value: Any, rename: Rename) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    made = [_group(item, rename) for item in value]
    if all(new is old for new, old in zip(made, value, strict=True)):
        return value
    return tuple(made) if isinstance(value, tuple) else made


def _by_name(value: Any, rename: Rename) -> Any:
    if not isinstance(value, Mapping):
        return value
    made = {(rename(key) if isinstance(key, str) else key): item for key, item in value.items()}
    if list(made) == list(value):
        return value
    return alike(value, {key: item for key, item in made.items() if key is not None})


def _state_dict(value: Any, rename: Rename) -> Any:
    """A whole `optimizer.state_dict()`."""
    if not isinstance(value, Mapping):
        return value
    parts: dict[Any, Any] = {}
    if "state" in value:
        parts["state"] = _by_name(value["state"], rename)
    if "param_groups" in value:
        parts["param_groups"] = _groups(value["param_groups"], rename)
    return _with_parts(value, parts)


def same(one: Any, other: Any) -> bool:
    """Whether two decoded values are the same: types, numbers (NaN too) and tensors, bit for bit.

    Objects of a class that dcpctl does not know are the same as no others.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, TensorValue):
        layout = (one.dtype, one.shape) == (other.dtype, other.shape)
        return layout and one.array.tobytes() == other.array.tobytes()
    if isinstance(one, Record):
        return (one.type, one.args) == (other.type, other.args) and same(one.fields, other.fields)
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return not isinstance(one, (Opaque, PackedTensor, TensorRef)) and bool(one == other)


def alike(value: Mapping[Any, Any], made: dict[Any, Any]) -> dict[Any, Any]:
    """A new mapping of the kind that the old one was: an OrderedDict or a dict."""
    return OrderedDict(made) if isinstance(value, OrderedDict) else made


def _with_parts(value: Mapping[Any, Any], parts: Mapping[Any, Any]) -> Any:
    """The mapping with some members replaced; itself where none of them changed."""
    if all(value[key] is part for key, part in parts.items()):
        return value
    return alike(value, {**value, **parts})


_VISITORS: dict[str, Callable[[Any, Rename], Any]] = {
    PARAMS: _names,
    GROUP: _group,
    GROUPS: _groups,
    SLOTS_BY_NAME: _by_name,
}
