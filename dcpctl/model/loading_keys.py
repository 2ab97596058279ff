"""The keys of a state dict as `dcp.load` takes them: their order, and their form up to 2.3.

Source: torch/distributed/checkpoint/state_dict_loader.py (`load` sorts the top-level keys),
_traverse.py (`traverse_state_dict`, and `traverse_state_dict_v_2_3` first in 2.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcpctl.model.contract import Spec

Path = tuple[str | int, ...]


def in_load_order(asked: Mapping[str, Spec], paths: Mapping[str, Path]) -> dict[str, Spec]:
    """Put asked keys in the order in which `dcp.load` looks at them: top-level keys sorted.

    Args:
        asked: FQN to what is asked for, in the state dict's order.
        paths: FQN to object path, where it is known.
    """
    tops = {str(path[0]) for path in paths.values() if path}
    keys = {fqn: _top(fqn, paths, tops) for fqn in asked}
    return {fqn: asked[fqn] for fqn in sorted(asked, key=keys.__getitem__)}


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


def pickled_form(asked: Mapping[str, Spec], paths: Mapping[str, Path]) -> dict[str, Spec]:
    """Return the keys as torch 2.0 to 2.3 flattens the same state dict.

    There a mapping or list with no tensor anywhere inside is one object: `optimizer.param_groups`
    and not `optimizer.param_groups.0.lr`. A mapping that is empty leaves no trace in the keys of
    2.4 and later, so it cannot be known here.
    """
    tree: dict[Any, Any] = {}
    for fqn, spec in asked.items():
        node = tree
        *above, last = paths.get(fqn) or tuple(fqn.split("."))
        for part in above:
            node = node.setdefault(part, {})
        node[last] = spec
    found: dict[str, Spec] = {}
    for key, node in tree.items():
        _flatten((str(key),), node, found)
    return found


def _flatten(path: tuple[str, ...], node: Any, found: dict[str, Spec]) -> None:
    if isinstance(node, Spec) or not _has_tensor(node):
        found[".".join(path)] = node if isinstance(node, Spec) else Spec()
        return
    for key, inner in node.items():
        _flatten((*path, str(key)), inner, found)


def _has_tensor(node: Any) -> bool:
    if isinstance(node, Spec):
        return node.is_tensor
    return any(_has_tensor(inner) for inner in node.values())
