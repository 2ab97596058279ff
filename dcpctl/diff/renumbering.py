"""Layers that have other numbers in B, where both have layers of the same numbers.

Keys alone do not show it: a model whose first layer was taken out has the keys of one whose last
layer was. The checksums of a few tensors do.
"""

from __future__ import annotations

from collections.abc import Mapping

from dcpctl.diff.subject import Subject
from dcpctl.diff.values import proven_by_crc
from dcpctl.diff.values_open import ChunkOpener
from dcpctl.errors import DcpctlError
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import is_index
from dcpctl.model.name_edits import Tokens

#: Layers of a stack whose tensors are looked at, and stacks.
_MOST_LAYERS, _MOST_STACKS = 8, 8

#: Number of a layer to the names of its parameters.
Layers = dict[int, dict[Tokens, TensorEntry]]


def renumbered_names(a: Subject, b: Subject) -> dict[str, str]:
    """Return A's parameters in layers that hold in B, under other numbers, what they hold in A.

    Args:
        a: one.
        b: the other.

    Returns:
        Name in A to the name with the layer's number in B, of all parameters of such stacks.
    """
    if a.sections.model.keys() == b.sections.model.keys():
        return {}
    stacks_a, stacks_b = _stacks(a), _stacks(b)
    found: dict[str, str] = {}
    common = [stem for stem in stacks_a if stem in stacks_b]
    for stem in common[:_MOST_STACKS]:
        layers_a, layers_b = stacks_a[stem], stacks_b[stem]
        if layers_a.keys() == layers_b.keys():
            continue
        shift = _shift(layers_a, layers_b)
        for number, names in layers_a.items() if shift else ():
            for below in names:
                old, new = ((*stem, str(n), *below) for n in (number, number + shift))
                found[".".join(old)] = ".".join(new)
    return found


def _stacks(subject: Subject) -> dict[Tokens, Layers]:
    """The parameters in numbered modules: the module around them to its layers."""
    found: dict[Tokens, Layers] = {}
    for name, fqn in subject.sections.model.items():
        tokens = tuple(name.split("."))
        place = next((n for n, token in enumerate(tokens) if is_index(token)), None)
        if place is not None:
            layers = found.setdefault(tokens[:place], {})
            below = layers.setdefault(int(tokens[place]), {})
            below[tokens[place + 1 :]] = subject.tensors[fqn]
    return found


def _shift(a: Layers, b: Layers) -> int:
    """What is to be added to the numbers of A's layers; 0 where nothing shows that."""
    opener = ChunkOpener()
    if _alike(a, b, 0, opener) != 0:
        return 0
    ends = (min(b) - min(a), max(b) - max(a))
    for shift in sorted(set(ends) - {0}, key=abs):
        if _alike(a, b, shift, opener) > 0:
            return shift
    return 0


def _alike(a: Layers, b: Layers, shift: int, opener: ChunkOpener) -> int:
    """Layers that hold the same with this shift, less those that hold something else."""
    both = [number for number in sorted(a) if number + shift in b]
    score = 0
    for number in both[:: max(1, len(both) // _MOST_LAYERS)]:
        proven = _same_layer(a[number], b[number + shift], opener)
        score += 0 if proven is None else 1 if proven else -1
    return max(score, 0)


def _same_layer(
    a: Mapping[Tokens, TensorEntry], b: Mapping[Tokens, TensorEntry], opener: ChunkOpener
) -> bool | None:
    """Whether the first tensor of some size that both have is the same in both."""
    for name, entry in a.items():
        other = b.get(name)
        if other is not None and len(entry.shape) > 1 and entry.shape == other.shape:
            try:
                return proven_by_crc(entry, other, opener)
            except DcpctlError:
                return None
    return None
