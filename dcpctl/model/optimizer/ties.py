"""Tensors of a model that are one tensor under several names, told by their numbers.

`state_dict()` lists a tied tensor under every name, `named_parameters()` (and so the optimizer)
once, under the first. Names do not tell: an embedding and a head may be tied or not, and what
shares weights may be called anything (ALBERT's layers, an encoder and a decoder). Equal checksums
of tensors that training changes do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dcpctl.errors import DcpctlError
from dcpctl.model.optimizer.parameters import ModelParameter, tied_names

#: Most tensors whose checksums are looked up; each takes a read or two a chunk.
MOST_TENSORS = 2_000
#: Numbers that are read to see that a tensor is not filled with one.
_SAMPLE = 1024


@dataclass(frozen=True, slots=True)
class Ties:
    """What the numbers say of parameters that may be second names of another.

    Attributes:
        tied: second name to first.
        apart: names that look like second names of another, to that one, and have other numbers.
        unknown: names that look like second names of another, to that one; their numbers could not
            be compared.
    """

    tied: Mapping[str, str] = field(default_factory=dict)
    apart: Mapping[str, str] = field(default_factory=dict)
    unknown: Mapping[str, str] = field(default_factory=dict)


def find_ties(
    parameters: Sequence[ModelParameter],
    entries: Mapping[str, Any],
    second: Sequence[str] | None = None,
) -> Ties:
    """Compare the parameters of one model that have equal shapes; reads checksums and few numbers.

    Args:
        parameters: of one model, in its order.
        entries: FQN to entry of the whole checkpoint.
        second: names that may be second ones; None for all.
    """
    asked = frozenset(p.name for p in parameters) if second is None else frozenset(second)
    shapes = {p.shape for p in parameters if p.name in asked}
    alike = [p for p in parameters if p.shape in shapes and len(p.shape) > 0]
    sums: dict[str, object] = {}
    if len(alike) <= MOST_TENSORS:
        sums = {p.name: _checksums(entries[p.fqn]) for p in alike}
    firsts: dict[object, ModelParameter] = {}
    tied: dict[str, str] = {}
    # A name that is not asked about is trained, so it comes first whatever its place.
    for parameter in sorted(alike, key=lambda p: second is not None and p.name in asked):
        summed = sums.get(parameter.name)
        if summed is None:
            continue
        first = firsts.setdefault((parameter.shape, summed), parameter)
        again = first is not parameter and parameter.name in asked
        if again and not _is_constant(entries[parameter.fqn]):
            tied[parameter.name] = first.name
    apart: dict[str, str] = {}
    unknown: dict[str, str] = {}
    for name, first_name in tied_names(parameters).items():
        if name in asked and name not in tied:
            known = sums.get(name) is not None and sums.get(first_name) is not None
            (apart if known else unknown)[name] = first_name
    return Ties(tied, apart, unknown)


def _checksums(entry: Any) -> object:
    """The checksums of an entry's chunks; None where they are not known."""
    stored = getattr(entry, "source", entry)
    look = getattr(stored, "checksums", None)
    try:
        return None if look is None else look()
    except DcpctlError:
        return None


def _is_constant(entry: Any) -> bool:
    """Whether a tensor's first numbers are all one: norms begin with ones, biases with zeros."""
    try:
        if not hasattr(entry, "read_chunk"):
            numbers = entry.numpy()
        else:
            sizes = entry.chunks[0].sizes
            stops = [min(size, _SAMPLE) for size in sizes]
            for dim in range(len(stops) - 1):
                stops[dim] = min(stops[dim], max(1, _SAMPLE // max(1, stops[-1])))
            numbers = entry.read_chunk(0, (0,) * len(stops), tuple(stops))
    except DcpctlError:
        return True
    values = np.asarray(numbers).ravel()
    return bool(values.size == 0 or (values == values[0]).all())
