"""Directories as people have them: step directories, runs of them, checkpoints in parts."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from dcpctl.errors import ReadFailed, quote
from dcpctl.formats.layouts import find_reader
from dcpctl.storage.local import LocalStorage

#: Sub-directories that hold a part of a checkpoint, and whose framework names them so.
PART_NAMES = re.compile(
    r"model_and_optim"  # OLMo-core
    r"|pytorch_model_fsdp(_\d+)?|optimizer(_\d+)?"  # accelerate, Hugging Face Trainer
    r"|model|optim|extra_state"  # ByteCheckpoint, NeMo Automodel
    r"|pp\d+"  # KempnerForge
)
_STEP = re.compile(
    r"(?:^|[^a-z])(?:global_?step|iteration|iter|step|checkpoint|ckpt)[-_=]?(\d{1,15})", re.I
)
_EPOCH = re.compile(r"(?:^|[^a-z])epoch[-_=]?(\d{1,15})", re.I)
_NUMBER = re.compile(r"\d{1,15}")
_SHARD = re.compile(r"__\d+_\d+\.distcp")


@dataclass(frozen=True, slots=True)
class StepDirectory:
    """One save of a run.

    Attributes:
        path: the directory.
        step: the number in its name.
        state: `complete` (it can be opened) or `interrupted` (shard files without metadata).
    """

    path: Path
    step: int
    state: str


def step_of(name: str) -> int | None:
    """The step number in a directory name, or None: `step-8500`, `iter_0000003`, `epoch=0-step=3`.

    A name that is only a number is one; an epoch counts where nothing else does.
    """
    found = _STEP.search(name) or _EPOCH.search(name)
    if found:
        return int(found[1])
    return int(name) if _NUMBER.fullmatch(name) else None


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
    try:
        with os.scandir(path) as scan:
            names = sorted(e.name for e in scan if not e.name.startswith(".") and _is_dir(e))
    except OSError as error:
        raise ReadFailed(f"cannot list {quote(path)}: {error.strerror}") from None
    return [path / name for name in names]


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a symbolic link that leads to itself
        return False


def is_checkpoint(path: Path) -> bool:
    """Whether a checkpoint's metadata lies directly in `path`."""
    with LocalStorage(path) as storage:
        return find_reader(storage.names()) is not None


def is_interrupted(path: Path) -> bool:
    """Whether `path` holds shard files, or temporary metadata, and no metadata."""
    with LocalStorage(path) as storage:
        names = storage.names()
    if find_reader(names) is not None:
        return False
    return any(name.endswith(".metadata.tmp") or _SHARD.fullmatch(name) for name in names)


def parts_of(path: Path) -> list[Path]:
    """The sub-directories that are parts of a checkpoint at `path`, sorted by name."""
    return [
        directory
        for directory in subdirectories(path)
        if PART_NAMES.fullmatch(directory.name) and is_checkpoint(directory)
    ]


def find_steps(path: Path) -> list[StepDirectory]:
    """The saves of a run, newest first.

    Looks at the step directories in `path` and, where there are none, one level below it
    (`run/checkpoint/step-10`).
    """
    children = subdirectories(path)
    found = _steps_among(children)
    if not found:
        found = [
            step
            for child in children
            if not is_checkpoint(child)
            for step in _steps_among(subdirectories(child))
        ]
    return sorted(found, key=lambda step: (step.step, step.path.name), reverse=True)


def _steps_among(directories: list[Path]) -> list[StepDirectory]:
    found = []
    for directory in directories:
        step = step_of(directory.name)
        if step is None:
            continue
        if is_checkpoint(directory) or parts_of(directory):
            found.append(StepDirectory(directory, step, "complete"))
        elif is_interrupted(directory) or any(
            PART_NAMES.fullmatch(part.name) and is_interrupted(part)
            for part in subdirectories(directory)
        ):
            found.append(StepDirectory(directory, step, "interrupted"))
    return found
