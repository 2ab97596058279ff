"""The keys that a run asks for: as it saved them, in the order of a load, in the form up to 2.3.

Source: torch/distributed/checkpoint/state_dict_loader.py (`load` sorts the top-level keys) and
_traverse.py (`traverse_state_dict`; `traverse_state_dict_v_2_3` is the one of 2.0 to 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl import limits
from dcpctl.errors import DcpctlError
from dcpctl.model import tree
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.contract import Spec
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import Path


def asked_by(checkpoint: Checkpoint, entries: Mapping[str, Entry] | None = None) -> dict[str, Spec]:
    """Return what the run that saved a checkpoint asks for when it loads with torch 2.4 or later.

    Of a checkpoint of 2.4 or later that is what it holds. Older ones keep in one pickled entry
    (`optimizer.param_groups`) what a newer release asks for key by key; their entries are decoded,
    and one that does not decode is asked for as it is.

    Args:
        checkpoint: what the run saved.
        entries: those of its entries that count; None for all.
    """
    # `storage_meta` is there from 2.4 on.
    opens = all("storage_meta" not in part.stored.fields for part in checkpoint.parts)
    asked: dict[str, Spec] = {}
    for fqn, entry in (checkpoint.entries if entries is None else entries).items():
        asked.update(_opened(fqn, entry) if opens else [(fqn, spec_of(entry))])
    return asked


def spec_of(value: Any) -> Spec:
    """Return what an entry of a checkpoint, or an object in a pickled one, is to a load."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    return Spec(tuple(shape), dtype) if shape is not None and isinstance(dtype, str) else Spec()


def in_load_order(asked: Mapping[str, Spec], paths: Mapping[str, Path]) -> dict[str, Spec]:
    """Put asked keys in the order in which `dcp.load` takes them: top-level keys sorted.

    Args:
        asked: FQN to what is asked for, in the state dict's order.
        paths: FQN to object path, where it is known.
    """
    tops = {str(path[0]) for path in paths.values() if path}
    keys = {fqn: _top(fqn, paths, tops) for fqn in asked}
    return {fqn: asked[fqn] for fqn in sorted(asked, key=keys.__getitem__)}


def pickled_form(asked: Mapping[str, Spec], paths: Mapping[str, Path]) -> dict[str, Spec]:
    """Return the keys as torch 2.0 to 2.3 flattens the same state dict.

    There a mapping or list with no tensor anywhere inside is one object: `optimizer.param_groups`
    and not `optimizer.param_groups.0.lr`. An empty mapping would be one as well; it leaves no trace
    in the keys of 2.4 and later, so it is not known here.
    """
    known = {fqn: paths.get(fqn) or tuple(fqn.split(".")) for fqn in asked}
    deepest = max(map(len, known.values()), default=0)
    root = tree.grow(known) if deepest <= limits.PICKLE_DEPTH else None
    if root is None:
        return dict(asked)
    tensors = frozenset(fqn for fqn, spec in asked.items() if spec.is_tensor)
    whole: dict[str, str] = {}
    for node in tree.closed(root, tensors):
        whole.update(dict.fromkeys(node.fqns(), ".".join(map(str, node.path))))
    return {whole.get(fqn, fqn): spec for fqn, spec in asked.items()}


def _opened(fqn: str, entry: Entry) -> Iterator[tuple[str, Spec]]:
    if not isinstance(entry, TensorEntry):
        try:
            value = entry.value
        except DcpctlError:
            value = None
        if tree.is_opened(value):
            for path, leaf in tree.leaves(value, (fqn,)):
                yield ".".join(map(str, path)), spec_of(leaf)
            return
    yield fqn, spec_of(entry)


def _top(fqn: str, paths: Mapping[str, Path], tops: set[str]) -> str:
    """The key of the state dict that an FQN stands under; a key may itself contain dots."""
    path = paths.get(fqn)
    if path:
        return str(path[0])
    end = fqn.find(".")
    while end >= 0:
        if fqn[:end] in tops:
            return fqn[:end]
        end = fqn.find(".", end + 1)
    return fqn
