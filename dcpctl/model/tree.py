"""State dicts as trees: opened as torch 2.4 and later do, closed as torch 2.0 to 2.3 do.

The rules are those of torch/distributed/checkpoint/_traverse.py: 2.4 opens every mapping, and lists
that hold mappings or tensors; 2.0 to 2.3 keep a mapping or list whole unless a tensor lies
somewhere in it. Tuples are never opened.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from dcpctl.formats.pickles.standins import Device, DType, Opaque, PackedTensor, Record, TensorRef
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.fqn import is_index
from dcpctl.model.values import type_name

Path = tuple[Any, ...]

#: Keys whose text is no longer than they are.
_SHORT = (str, int, float, complex, bytes, DType, Device)


def is_opened(value: Any) -> bool:
    """Whether torch 2.4 and later open a value."""
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and not _is_plain(value)


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Open a value: the leaves with their object paths. An empty mapping has none."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, (*path, _component(key)))
    elif is_opened(value):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path, value


def _component(key: Any) -> str:
    """What torch calls a key, `str(key)`; a hostile one is called by its class.

    The text of a record may be of any length: its parts may share parts.
    """
    parts = key if isinstance(key, tuple) else (key,)
    plain = all(part is None or isinstance(part, _SHORT) for part in parts)
    return str(key) if plain else f"<{type_name(key)}>"


def _is_plain(items: list[Any]) -> bool:
    for item in items:
        if isinstance(item, (Mapping, PackedTensor, TensorRef, TensorValue)):
            return False
        if isinstance(item, list) and not _is_plain(item):
            return False
    return True


def unknown_parts(value: Any) -> Iterator[str]:
    """Yield the type of everything in a value that cannot be pickled anew."""
    if isinstance(value, (Opaque, PackedTensor)):
        yield value.type
    elif isinstance(value, TensorRef):
        yield "torch.Tensor"
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from unknown_parts(key)
            yield from unknown_parts(item)
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        for item in value:
            yield from unknown_parts(item)
    elif isinstance(value, Record):
        yield from unknown_parts(value.fields)
        yield from unknown_parts(value.args)


class Node:
    """A container of a state dict that was opened, put together again from object paths.

    Attributes:
        path: its own object path.
        children: key to a node or to the FQN of a leaf.
    """

    __slots__ = ("children", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.children: dict[Any, Node | str] = {}

    @property
    def is_list(self) -> bool:
        """Whether its keys are indices of a list."""
        return bool(self.children) and all(type(key) is int for key in self.children)

    def fqns(self) -> Iterator[str]:
        """The leaves below it."""
        for child in self.children.values():
            if isinstance(child, Node):
                yield from child.fqns()
            else:
                yield child


def grow(paths: Mapping[str, Path]) -> Node | None:
    """Make the tree of a state dict; None where two paths contradict each other."""
    root = Node(())
    for fqn, path in paths.items():
        node = root
        for depth, key in enumerate(path[:-1]):
            below = node.children.get(key)
            if below is None:
                below = node.children[key] = Node(path[: depth + 1])
            if not isinstance(below, Node):
                return None
            node = below
        if not path or path[-1] in node.children:
            return None
        node.children[path[-1]] = fqn
    return root


def closed(root: Node, tensors: frozenset[str]) -> Iterator[Node]:
    """Yield the containers below the root that 2.0 to 2.3 keep whole: the outermost tensor-free."""
    for child in root.children.values():
        if isinstance(child, Node):
            if any(fqn in tensors for fqn in child.fqns()):
                yield from closed(child, tensors)
            else:
                yield child


def value_of(node: Node, values: Mapping[str, Any], of_optimizer: bool) -> Any:
    """The value of a container; None where a list has gaps.

    Keys of mappings became text when they were opened, and empty mappings vanished. In an
    optimizer's state indices were ints, and it may be empty.
    """
    made: dict[Any, Any] = {}
    for key, child in node.children.items():
        value = values[child] if isinstance(child, str) else value_of(child, values, of_optimizer)
        made[key] = value
    if node.is_list:
        if sorted(made) != list(range(len(made))):
            return None
        return [made[index] for index in range(len(made))]
    if of_optimizer and node.path[-1] == "state" and all(is_index(str(key)) for key in made):
        return {int(key): value for key, value in made.items()}
    if of_optimizer and "param_groups" in made and "state" not in made:
        return {"state": {}, **made}
    return made
