"""Directories as they lie: what each holds of checkpoints, and the tree below one."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dcpctl import limits
from dcpctl.errors import DcpctlError, ReadFailed, quote
from dcpctl.formats.layouts import find_reader
from dcpctl.storage.local import LocalStorage
from dcpctl.storage.paths import is_directory

#: What a directory holds directly: a checkpoint's metadata; shard files, or temporary metadata,
#: without metadata; neither.
CHECKPOINT, INTERRUPTED, NOTHING = "checkpoint", "interrupted", "nothing"
_SHARD = re.compile(r"__\d+_\d+\.distcp")


@dataclass(slots=True)
class Directory:
    """One directory of a tree.

    Attributes:
        path: where it is.
        depth: levels below the directory that was asked for.
        holds: `CHECKPOINT`, `INTERRUPTED` or `NOTHING`.
        children: its sub-directories, by name; those reached by another path already are left out.
    """

    path: Path
    depth: int = 0
    holds: str = NOTHING
    children: list[Directory] = field(default_factory=list)


@dataclass(slots=True)
class Tree:
    """A directory and what lies below it.

    Attributes:
        root: the directory.
        links: symbolic links to directories of the tree, and where they lead.
        unread: directories that were not looked into, and why.
    """

    root: Directory
    links: dict[Path, Path] = field(default_factory=dict)
    unread: dict[Path, str] = field(default_factory=dict)


def meant_by(path: Path) -> Path:
    """The directory that a path stands for: of a metadata or shard file it is the one around it.

    Tools that know of files alone, such as `git diff --name-only` and pre-commit, name these.
    """
    named = path.name.endswith((".metadata", ".distcp"))
    return path.parent if named and not path.is_dir() else path


def subdirectories(path: Path) -> list[Path]:
    """The directories in `path`, sorted by name; hidden ones are left out.

    Raises:
        ReadFailed: the directory cannot be listed.
    """
    return [path / name for name, _ in _list(path)[1]]


def is_checkpoint(path: Path) -> bool:
    """Whether a checkpoint's metadata lies directly in `path`."""
    with LocalStorage(path) as storage:
        return find_reader(storage.names()) is not None


def is_interrupted(path: Path) -> bool:
    """Whether `path` holds shard files, or temporary metadata, and no metadata."""
    with LocalStorage(path) as storage:
        return _held(list(storage.names())) == INTERRUPTED


def scan(path: Path, most: int | None = None) -> Tree:
    """List a directory and all below it, each directory once.

    Symbolic links are followed after everything else, so that a save is found under its own name
    first; one that leads to what was listed already is an alias, and one that leads to a directory
    around `path` is not followed. `limits.TREE_DEPTH` and `limits.TREE_DIRECTORIES` bound it.

    Args:
        path: the directory.
        most: most directories to list; None for the limit.

    Raises:
        ReadFailed: `path` itself cannot be listed.
    """
    tree = Tree(Directory(path))
    around = {_identity(parent) for parent in path.resolve().parents}
    seen: dict[tuple[int, int], Path] = {_identity(path): path}
    waiting = deque([tree.root])
    linked: deque[Directory] = deque()
    while waiting or linked:
        followed = not waiting
        here = linked.popleft() if followed else waiting.popleft()
        if followed or here is tree.root:
            identity = _identity(here.path)
            if followed and (identity in seen or identity in around):
                if identity in seen:
                    tree.links[here.path] = seen[identity]
                continue
            seen[identity] = here.path
        _look_into(here, tree, seen, waiting, linked, most or limits.TREE_DIRECTORIES)
    _drop_aliases(tree)
    return tree


def _look_into(
    here: Directory,
    tree: Tree,
    seen: dict[tuple[int, int], Path],
    waiting: deque[Directory],
    linked: deque[Directory],
    most: int,
) -> None:
    """Note what one directory holds, and queue what is in it."""
    try:
        names, inner = _list(here.path)
        here.holds = _held(names) if names is not None else _held_with_links(here.path)
    except DcpctlError as error:
        if here is tree.root:
            raise
        tree.unread[here.path] = error.message
        return
    for name, is_link in inner:
        child = Directory(here.path / name, here.depth + 1)
        if child.depth > limits.TREE_DEPTH:
            tree.unread[child.path] = f"it lies over {limits.TREE_DEPTH} levels deep"
        elif len(seen) >= most:
            tree.unread[child.path] = f"over {most:,} directories lie before it"
        elif is_link:
            here.children.append(child)
            # `step-10` before `latest`, where both lead to one directory elsewhere.
            numbered = any(map(str.isdigit, name))
            (linked.appendleft if numbered else linked.append)(child)
        else:
            here.children.append(child)
            waiting.append(child)
            seen.setdefault(_identity(child.path), child.path)


def _drop_aliases(tree: Tree) -> None:
    """Leave out links to what the tree holds already, and to what was not followed."""
    waiting = [tree.root]
    while waiting:
        here = waiting.pop()
        here.children = [child for child in here.children if child.path not in tree.links]
        waiting += here.children


def _list(path: Path) -> tuple[list[str] | None, list[tuple[str, bool]]]:
    """Names of the files, and of the directories with whether each is a link; hidden ones left out.

    No names of files where a link is among them: whether it counts is for `LocalStorage` to say.
    """
    files: list[str] | None = []
    inner = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if is_directory(entry):
                    if not entry.name.startswith("."):
                        inner.append((entry.name, entry.is_symlink()))
                elif entry.is_symlink():
                    files = None
                elif files is not None:
                    files.append(entry.name)
    except OSError as error:
        raise ReadFailed(f"cannot list {quote(path)}: {error.strerror}") from None
    return files, sorted(inner)


def _held_with_links(path: Path) -> str:
    with LocalStorage(path) as storage:
        return _held(list(storage.names()))


def _held(names: list[str]) -> str:
    if find_reader(dict.fromkeys(names, 0)) is not None:
        return CHECKPOINT
    cut_off = any(name.endswith(".metadata.tmp") or _SHARD.fullmatch(name) for name in names)
    return INTERRUPTED if cut_off else NOTHING


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (-1, hash(path))
    return status.st_dev, status.st_ino


def walk(directory: Directory) -> Iterator[Directory]:
    """Every directory of a tree, those around others first."""
    yield directory
    for child in directory.children:
        yield from walk(child)
