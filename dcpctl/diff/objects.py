"""Bytes entries compared by value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dcpctl.diff.equality import equal_values, with_names
from dcpctl.diff.subject import Subject
from dcpctl.errors import DcpctlError
from dcpctl.model.entry import BytesEntry
from dcpctl.model.optimizer import naming
from dcpctl.model.sections import OPTIMIZER

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """An object that has another value.

    Attributes:
        fqn_a: its key in A.
        fqn_b: its key in B.
        section: of its key in A, as `model.sections` names it.
        a: its value in A.
        b: its value in B.
        in_groups: it belongs to a param group, which `OptimizerDifference.changes` tells of.
    """

    fqn_a: str
    fqn_b: str
    section: str
    a: Any
    b: Any
    in_groups: bool = False


@dataclass(frozen=True, slots=True)
class UnreadObject:
    """An object that could not be compared.

    Attributes:
        fqn_a: its key in A.
        fqn_b: its key in B.
        error: why.
    """

    fqn_a: str
    fqn_b: str
    error: DcpctlError


@dataclass(frozen=True, slots=True)
class ObjectDifference:
    """The objects that both have.

    Attributes:
        compared: how many.
        changed: those of another value.
        renamed_in: keys in A of those that differ only in the new names of parameters.
        unread: those that could not be compared.
    """

    compared: int
    changed: tuple[ObjectChange, ...] = ()
    renamed_in: tuple[str, ...] = ()
    unread: tuple[UnreadObject, ...] = ()


def compare_objects(
    a: Subject, b: Subject, pairs: Iterable[tuple[str, str]], names: Mapping[str, str]
) -> ObjectDifference:
    """Compare objects: by their bytes, and where those differ by their values.

    Args:
        a: one.
        b: the other.
        pairs: keys in A and in B of objects.
        names: what A's optimizer calls parameters, to what B's calls them.
    """
    compared = 0
    changed: list[ObjectChange] = []
    renamed: list[str] = []
    unread: list[UnreadObject] = []
    for fqn_a, fqn_b in pairs:
        one, other = a.objects[fqn_a], b.objects[fqn_b]
        compared += 1
        try:
            if _same_bytes(a, one, b, other):
                continue
            if equal_values(one.value, other.value):
                continue
            section = a.sections.of[fqn_a]
            if section == OPTIMIZER and equal_values(with_names(one.value, names), other.value):
                renamed.append(fqn_a)
                continue
            grouped = _in_groups(a, fqn_a)
            changed.append(ObjectChange(fqn_a, fqn_b, section, one.value, other.value, grouped))
        except DcpctlError as error:
            unread.append(UnreadObject(fqn_a, fqn_b, error))
    return ObjectDifference(compared, tuple(changed), tuple(renamed), tuple(unread))


def _in_groups(subject: Subject, fqn: str) -> bool:
    place = subject.sections.places.get(fqn)
    return place is not None and place.what == naming.GROUPS


def _same_bytes(a: Subject, one: BytesEntry, b: Subject, other: BytesEntry) -> bool:
    """Whether the storage items are the same bytes; read in blocks."""
    if one.length != other.length or one.file < 0 or other.file < 0:
        return False
    (storage_a, name_a), (storage_b, name_b) = a.places[one.file], b.places[other.file]
    for start in range(0, one.length, _BLOCK_BYTES):
        count = min(_BLOCK_BYTES, one.length - start)
        left = storage_a.read(name_a, one.offset + start, count)
        if left != storage_b.read(name_b, other.offset + start, count):
            return False
    return one.length > 0
