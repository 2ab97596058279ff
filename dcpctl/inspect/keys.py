"""Choosing keys by a glob, and the tree that their object paths make."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import translate

from dcpctl.errors import NothingSelected, quote
from dcpctl.model.checkpoint import Checkpoint, Entry
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import object_path


def select(checkpoint: Checkpoint, glob: str, *, tensors_only: bool = False) -> tuple[str, ...]:
    """Return the FQNs that a glob matches, in metadata order.

    Args:
        checkpoint: an open checkpoint.
        glob: as a shell has it; `*` also matches dots. A plain prefix at a dot matches too, so
            that `model.layers.0` is all of that layer.
        tensors_only: leave out what is no tensor.

    Raises:
        NothingSelected: it matches nothing.
    """
    match = re.compile(translate(glob)).match
    within = glob.rstrip(".") + "."
    found = tuple(
        fqn
        for fqn, entry in checkpoint.entries.items()
        if (match(fqn) or fqn.startswith(within))
        and (not tensors_only or isinstance(entry, TensorEntry))
    )
    if not found:
        what = "tensor" if tensors_only else "key"
        raise NothingSelected(
            f"no {what} of {quote(checkpoint.path)} matches {quote(glob)}",
            hint=_nearest(checkpoint, glob),
        )
    return found


def find(checkpoint: Checkpoint, fqn: str) -> Entry:
    """Return the entry of exactly this FQN.

    Raises:
        NothingSelected: there is none; the hint names what is most like it.
    """
    if fqn not in checkpoint.entries:
        raise NothingSelected(
            f"{quote(checkpoint.path)} has no key {quote(fqn)}", hint=_nearest(checkpoint, fqn)
        )
    return checkpoint.entries[fqn]


def _nearest(checkpoint: Checkpoint, name: str) -> str:
    """A next step: keys that contain what was asked for, or end like it."""
    core = name.strip("*?").rpartition(".")[2].strip("*?") or name
    like = [fqn for fqn in checkpoint.entries if core and core in fqn]
    if like:
        return f"there is {', '.join(quote(fqn) for fqn in like[:3])}"
    return "dcpctl inspect --keys lists all of them"


@dataclass(slots=True)
class Branch:
    """A node of the tree of keys.

    Attributes:
        name: the key at this level; `0-31` where it stands for several of one structure.
        entry: what is stored under exactly this path, if anything.
        children: by key.
        alike: how many siblings of one structure it stands for.
        tensors: tensors at and below it, those it stands for included.
        objects: bytes entries likewise.
        nbytes: bytes of the tensors' numbers.
    """

    name: str
    entry: Entry | None = None
    children: dict[str, Branch] = field(default_factory=dict)
    alike: int = 1
    tensors: int = 0
    objects: int = 0
    nbytes: int = 0


def tree(checkpoint: Checkpoint) -> Branch:
    """Return the tree of all keys, siblings of one structure (the layers of a model) as one.

    The planner data's object paths are its levels; without them, what stands between dots.
    """
    root = Branch("")
    paths: Mapping[str, tuple[str | int, ...]] | None = checkpoint.planner_data
    for fqn, entry in checkpoint.entries.items():
        branch = root
        for key in object_path(fqn, paths):
            for name in str(key).split("."):
                branch = branch.children.setdefault(name, Branch(name))
        branch.entry = entry
    _count(root)
    _merge(root)
    return root


def _postorder(root: Branch) -> Iterator[Branch]:
    """Children before parents, without recursion: a hostile FQN may have thousands of levels."""
    pending = [root]
    order = []
    while pending:
        branch = pending.pop()
        order.append(branch)
        pending.extend(branch.children.values())
    return reversed(order)


def _count(root: Branch) -> None:
    for branch in _postorder(root):
        if isinstance(branch.entry, TensorEntry):
            branch.tensors += 1
            branch.nbytes += branch.entry.nbytes
        elif branch.entry is not None:
            branch.objects += 1
        for child in branch.children.values():
            branch.tensors += child.tensors
            branch.objects += child.objects
            branch.nbytes += child.nbytes


def _merge(root: Branch) -> None:
    signatures: dict[int, int] = {}
    known: dict[tuple[object, ...], int] = {}
    for branch in _postorder(root):
        _merge_children(branch, signatures)
        entry = branch.entry
        own = (entry.dtype, entry.shape) if isinstance(entry, TensorEntry) else entry is not None
        below = tuple((child.name, signatures[id(child)]) for child in branch.children.values())
        signatures[id(branch)] = known.setdefault((own, below), len(known))


def _merge_children(branch: Branch, signatures: dict[int, int]) -> None:
    """Join numbered children that follow each other and have the same structure."""
    merged: dict[str, Branch] = {}
    for run in _runs(branch.children.values(), signatures):
        first, last = run[0], run[-1]
        if len(run) > 1:
            first.name = f"{first.name}-{last.name}"
            first.alike = len(run)
            for other in run[1:]:
                first.tensors += other.tensors
                first.objects += other.objects
                first.nbytes += other.nbytes
        merged[first.name] = first
    branch.children = merged


def _runs(children: Iterable[Branch], signatures: dict[int, int]) -> Iterator[list[Branch]]:
    run: list[Branch] = []
    for child in children:
        if run and (
            not _is_number(child.name)
            or not _is_number(run[-1].name)
            or int(child.name) != int(run[-1].name) + 1
            or signatures[id(child)] != signatures[id(run[-1])]
        ):
            yield run
            run = []
        run.append(child)
    if run:
        yield run


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 16
