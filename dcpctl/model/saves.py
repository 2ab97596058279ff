"""Saves and runs by the structure of directories: which checkpoints are one save, which follow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path

from dcpctl import limits
from dcpctl.errors import DcpctlError, ReadFailed
from dcpctl.model import contents, directories
from dcpctl.model.directories import CHECKPOINT, INTERRUPTED, NOTHING, Directory
from dcpctl.model.positions import (
    CALLED,
    EPOCH,
    NUMBERED,
    UNIT,
    UNSAID,
    Position,
    position_of,
)
from dcpctl.model.side_values import has_state_file

COMPLETE = "complete"
_DIGITS = re.compile(r"\d+")
_NUMBERED_PART = re.compile(r".*[a-zA-Z][_.-]\d+")
#: Directories between a save's and its checkpoint's, at most: `step_4/trainer`, `actor/dist_ckpt`.
_MOST_LAYERS = 2


@dataclass(frozen=True, slots=True)
class SaveDirectory:
    """One save: a directory below which lies one checkpoint, or several that are its parts.

    Attributes:
        path: the directory. Where the parts of several saves lie side by side, what the names of
            its parts have in common: `run/0001000` of `0001000.net_model` and `0001000.net_optim`.
        parts: the directories of its checkpoints.
        state: `complete` (every part has its metadata) or `interrupted`.
        position: what the directory's name says; None where it says nothing.
        inside: checkpoints that belong to it and are no part, such as an export in a part.
        links: symbolic links that lead to it.
        order: compares as its place in the run does; None where nothing tells the place.
    """

    path: Path
    parts: tuple[Path, ...]
    state: str = COMPLETE
    position: Position | None = None
    inside: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()
    order: tuple[float, ...] | None = None

    @property
    def step(self) -> int | None:
        """The job's step, where the name gives one."""
        return None if self.position is None else self.position.step

    @property
    def strength(self) -> int:
        """How much the name says of its being a save's."""
        return UNSAID if self.position is None else self.position.strength


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The saves of one job.

    Attributes:
        path: the directory around them.
        saves: the newest first; after these such as nothing tells the place of.
    """

    path: Path
    saves: tuple[SaveDirectory, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """What there is at a path: one save, or runs, or neither.

    Attributes:
        path: what was asked for.
        save: the save that it is.
        runs: the runs below it; empty if it is a save.
        unread: directories that were not looked into, and why.
    """

    path: Path
    save: SaveDirectory | None = None
    runs: tuple[RunDirectory, ...] = ()
    unread: dict[Path, str] = field(default_factory=dict)

    @property
    def saves(self) -> tuple[SaveDirectory, ...]:
        """All saves of all runs."""
        return tuple(save for run in self.runs for save in run.saves)


def look(path: Path, most: int | None = None) -> Found:
    """Tell what lies at a path by structure; the metadata are read only where names leave it open.

    A directory is a save if one checkpoint lies below it, or several that are parts of one: their
    contents complete each other, or the directory's own name says that it is a save. Directories
    whose names give different positions are saves of a run.

    Args:
        path: the directory, or what the names of a save's parts in it have in common.
        most: most directories to list; None for the limit.

    Raises:
        ReadFailed: the directory cannot be listed.
    """
    if not path.is_dir():
        return Found(path, _apart(path))
    tree = directories.scan(path, most)
    found = _resolve(tree.root, position_of(path.resolve().name))
    aliases: dict[Path, list[Path]] = {}
    for link, target in tree.links.items():
        aliases.setdefault(target, []).append(link)
    if isinstance(found, SaveDirectory):
        return Found(path, found, unread=tree.unread)
    runs = []
    for run in _with_companions(found):
        saves = [replace(s, links=tuple(aliases.get(s.path, ()))) for s in run.saves]
        runs.append(RunDirectory(run.path, tuple(_ordered(saves))))
    return Found(path, None, tuple(sorted(runs, key=lambda run: run.path)), tree.unread)


def find_saves(path: Path) -> list[SaveDirectory]:
    """The saves of all runs below a directory, each run's newest first."""
    return list(look(path).saves)


def save_around(path: Path) -> Path:
    """The directory of the save that `path` is a part of, resolved; `path` itself if it is one.

    It is one around it whose name gives a unit, as `step_20` does, if no other save lies in it.
    """
    here = path.resolve()
    own = position_of(here.name)
    if own is not None and own.strength:
        return here
    for around in list(here.parents)[:_MOST_LAYERS]:
        position = position_of(around.name)
        if position is not None and position.strength == UNIT:
            save = look(around, limits.SAVE_DIRECTORIES).save
            return around if save is not None and here in save.parts else here
    return here


def beside(path: Path) -> tuple[Path, ...]:
    """The checkpoints beside `path` that are other parts of its save, or seem to be, resolved.

    Where contents do not tell, a number that both names have does: `pytorch_model_fsdp_0` and
    `optimizer_0`.

    Raises:
        ReadFailed: the directory around it cannot be listed.
    """
    here = path.resolve()
    own = position_of(here.name)
    found = look(here.parent)
    parts = list(found.save.parts) if found.save is not None else []
    if found.save is None and own is not None and _NUMBERED_PART.fullmatch(here.name):
        alike = [save for save in found.saves if _NUMBERED_PART.fullmatch(save.path.name)]
        parts = [part for save in alike if save.position == own for part in save.parts]
    return tuple(part for part in parts if part != here) if here in parts else ()


def optimizer_beside(path: Path) -> str:
    """The name of the optimizer's part beside `path`, another part of its save; empty if none."""
    try:
        others = beside(path)
    except DcpctlError:  # the directory around it cannot be listed
        return ""
    return next((part.name for part in others if contents.holds_optimizer(part)), "")


def _with_companions(runs: Sequence[RunDirectory]) -> list[RunDirectory]:
    """Runs, without such as keep for each save of the run around them what one replica needs.

    torchtitan with torchft keeps `checkpoint/ft-replicat-0/step-10` for `checkpoint/step-10`.
    """
    made = {run.path: run for run in runs}
    for run in runs:
        around = next((made[path] for path in run.path.parents if path in made), None)
        if around is None:
            continue
        theirs = {_place(save): save.parts for save in run.saves}
        places = {_place(save) for save in around.saves} - {None}
        if not {*theirs} <= places or contents.holds_model_or_state(run.saves[0].parts):
            continue
        saves = tuple(
            replace(save, inside=(*save.inside, *theirs.get(_place(save), ())))
            for save in around.saves
        )
        made[around.path] = RunDirectory(around.path, saves)
        del made[run.path]
    return [*made.values()]


def _resolve(node: Directory, named: Position | None) -> SaveDirectory | list[RunDirectory]:
    """The save that a directory is, or the runs below it."""
    below: list[tuple[Directory, SaveDirectory]] = []
    runs: list[tuple[Directory, list[RunDirectory]]] = []
    for child in node.children:
        found = _resolve(child, position_of(child.path.name))
        if isinstance(found, SaveDirectory):
            below.append((child, found))
        elif found:
            runs.append((child, found))
    if node.holds != NOTHING:
        return _with_own(node, named, below, runs)
    if runs:
        return _mixed(node, below, runs)
    if len(below) == 1:
        return _alone(node, named, below[0][1])
    return _several(node, named, [save for _, save in below]) if below else []


def _with_own(
    node: Directory,
    named: Position | None,
    below: Sequence[tuple[Directory, SaveDirectory]],
    runs: Sequence[tuple[Directory, list[RunDirectory]]],
) -> SaveDirectory | list[RunDirectory]:
    """A directory with a checkpoint of its own: exports lie in saves, and saves below exports."""
    state = COMPLETE if node.holds == CHECKPOINT else INTERRUPTED
    own = SaveDirectory(node.path, (node.path,), state, named)
    positioned = [save for _, save in below if save.strength >= NUMBERED]
    if not runs and not positioned:
        inside = [part for _, save in below for part in (*save.parts, *save.inside)]
        return replace(own, inside=tuple(inside))
    found = _mixed(node, below, runs) if runs else [RunDirectory(node.path, tuple(positioned))]
    mine = next((run for run in found if run.path == node.path), None)
    if mine is None:
        return [RunDirectory(node.path, (replace(own, position=None),)), *found]
    ours = RunDirectory(node.path, (*mine.saves, replace(own, position=None)))
    return [ours, *(run for run in found if run is not mine)]


def _alone(
    node: Directory, named: Position | None, save: SaveDirectory
) -> SaveDirectory | list[RunDirectory]:
    """A directory around one save: a layer of it, or the run that has no other yet."""
    strength = UNSAID if named is None else named.strength
    if strength < min(save.strength, CALLED):
        return [RunDirectory(node.path, (save,))]
    return replace(save, path=node.path, position=_nested(named, save.position))


def _mixed(
    node: Directory,
    below: Sequence[tuple[Directory, SaveDirectory]],
    runs: Sequence[tuple[Directory, list[RunDirectory]]],
) -> list[RunDirectory]:
    """Runs side by side; those in directories of epochs or the like are stretches of one."""
    saves = [save for _, save in below]
    apart: list[RunDirectory] = []
    for child, inner in runs:
        position = position_of(child.path.name)
        if position is None or position.strength < UNIT or len(inner) > 1:
            apart += inner
            continue
        saves += [replace(s, position=_nested(position, s.position)) for s in inner[0].saves]
    found = _several(node, None, saves) if len(saves) > 1 else []
    if len(saves) == 1:
        around = node.path if saves[0].strength >= NUMBERED else saves[0].path
        found = [RunDirectory(around, tuple(saves))]
    if isinstance(found, SaveDirectory):
        found = [RunDirectory(node.path, (found,))]
    return [*found, *apart]


def _several(
    node: Directory, named: Position | None, saves: list[SaveDirectory]
) -> SaveDirectory | list[RunDirectory]:
    """Several saves in one directory: parts of one, or saves of a run, or neither."""
    strength = UNSAID if named is None else named.strength
    strongest = max(save.strength for save in saves)
    different = len({_place(save) for save in saves if save.strength == strongest}) > 1
    if strongest == UNSAID or (strongest < strength and strongest < UNIT):
        # `actor/` and `critic/` in `global_step_4/` are parts whatever they hold.
        if (
            strength >= CALLED
            or _complete_each_other(saves)
            or _cut_off_together(saves)
            or _of_one_step(node.path, saves)
        ):
            return _joined(node.path, named, saves)
        return _unnamed(node, saves)
    if not different and all(save.strength == strongest for save in saves):
        if strength >= CALLED:
            return _joined(node.path, named, saves)
        joined = _joined_by_name(node, saves)
        return [RunDirectory(node.path, tuple(joined))]
    digits = all(_DIGITS.fullmatch(save.path.name) for save in saves)
    if digits and _complete_each_other(saves):
        return _joined(node.path, named, saves)
    groups: dict[object, list[SaveDirectory]] = {}
    for save in saves:
        place = _place(save) if save.strength >= NUMBERED else save.path
        groups.setdefault(place, []).append(save)
    joined = [one for group in groups.values() for one in _joined_by_name(node, group)]
    return [RunDirectory(node.path, tuple(joined))]


def _unnamed(node: Directory, saves: list[SaveDirectory]) -> list[RunDirectory]:
    """Saves whose names say nothing: one run if their steps rise with their numbers, else each."""
    patterns = {_DIGITS.sub("#", save.path.name) for save in saves}
    if len(patterns) == 1 and len(saves) <= limits.COMPARED_PARTS:
        rising = sorted(saves, key=lambda save: save.position.value if save.position else 0)
        steps = [contents.step_inside(save.parts) for save in rising]
        known = [step for step in steps if step is not None]
        if len(known) == len(steps) and len({*known}) == len(known) and known == sorted(known):
            return [RunDirectory(node.path, tuple(saves))]
    return [RunDirectory(save.path, (save,)) for save in saves]


def _joined_by_name(node: Directory, saves: list[SaveDirectory]) -> list[SaveDirectory]:
    """Saves of one position side by side: parts of one save if they complete each other."""
    names = [save.path.name for save in saves]
    stem = _stem(names)
    direct = all(save.path.parent == node.path for save in saves)
    if len(saves) == 1 or not stem or not direct or not _complete_each_other(saves):
        return saves
    return [_joined(node.path / stem, saves[0].position, saves)]


def _stem(names: Sequence[str]) -> str:
    """What the names of a save's parts begin with, or end with, down to a number."""
    begin = re.match(r".*\d", _common(names))
    if begin:
        return begin[0]
    end = _common([name[::-1] for name in names])[::-1].lstrip("._-")
    return end if any(char.isdigit() for char in end) else ""


def _common(names: Sequence[str]) -> str:
    """What all names begin with."""
    first, last = min(names), max(names)
    same = (a == b for a, b in zip(first, last, strict=False))
    return first[: sum(takewhile(bool, same))]


def _apart(path: Path) -> SaveDirectory | None:
    """The save that is named by what its parts' names have in common; None if there is none."""
    try:
        beside = directories.subdirectories(path.parent) if path.name else []
    except ReadFailed:
        return None
    named = [one for one in beside if _is_part_name(one.name, path.name)]
    if not 1 < len(named) <= limits.COMPARED_PARTS or not any(map(str.isdigit, path.name)):
        return None
    found = []
    for one in named:
        save = _resolve(directories.scan(one).root, None)
        if not isinstance(save, SaveDirectory):
            return None
        found.append(save)
    if _stem([one.name for one in named]) != path.name or not _complete_each_other(found):
        return None
    return _joined(path, position_of(path.name), found)


def _is_part_name(name: str, stem: str) -> bool:
    if name.startswith(stem) and len(name) > len(stem):
        return name[len(stem)] in "._-"
    return name.endswith(stem) and len(name) > len(stem) and name[-len(stem) - 1] in "._-"


def _joined(path: Path, named: Position | None, saves: Sequence[SaveDirectory]) -> SaveDirectory:
    whole = all(save.state == COMPLETE for save in saves)
    return SaveDirectory(
        path,
        tuple(part for save in saves for part in save.parts),
        COMPLETE if whole else INTERRUPTED,
        named,
        tuple(part for save in saves for part in save.inside),
    )


def _complete_each_other(saves: Sequence[SaveDirectory]) -> bool:
    if len(saves) > limits.COMPARED_PARTS:
        return False
    return contents.complete_each_other([save.parts for save in saves])


def _cut_off_together(saves: Sequence[SaveDirectory]) -> bool:
    """Whether one number is in all names, as in those of a save's parts, and one is interrupted."""
    numbers = {save.position and save.position.value for save in saves}
    cut_off = any(save.state == INTERRUPTED for save in saves)
    return cut_off and len(numbers) == 1 and None not in numbers


def _of_one_step(path: Path, saves: Sequence[SaveDirectory]) -> bool:
    """Whether saves are at one step and the job's own state lies beside them, as in its save."""
    if len(saves) > limits.COMPARED_PARTS or not has_state_file(path):
        return False
    steps = {contents.step_inside(save.parts) for save in saves}
    return len(steps) == 1 and None not in steps


def _nested(outer: Position | None, inner: Position | None) -> Position | None:
    """The position of a save in `outer/inner`: steps tell more than epochs, units than numbers."""
    if outer is None or inner is None:
        return outer or inner
    if inner.strength < UNIT or (outer.step is not None and inner.step is None):
        return outer
    if outer.unit == EPOCH and inner.unit != EPOCH and inner.epoch is None:
        return replace(inner, epoch=outer.value)
    return inner if outer.step is None else outer


def _place(save: SaveDirectory) -> tuple[str, int, int | None] | None:
    at = save.position
    return None if at is None else ("step" if at.step is not None else at.unit, at.value, at.epoch)


def _ordered(saves: Iterable[SaveDirectory]) -> list[SaveDirectory]:
    """Saves in the order of the run, the newest first; those without a place behind them."""
    saves = list(saves)
    units = Counter("step" if s.step is not None else s.position.unit for s in saves if s.position)
    unit = "step" if units["step"] else next((unit for unit, _ in units.most_common(1)), None)
    by_epoch = unit == "step" and _starts_over([s.position for s in saves if s.step is not None])
    made = []
    for save in saves:
        at = save.position
        order: tuple[float, ...] | None = None
        if at is not None and ("step" if at.step is not None else at.unit) == unit:
            order = (at.epoch or 0, at.value) if by_epoch else (at.value,)
        elif unit in ("step", None) and not by_epoch and save.state == COMPLETE and len(saves) > 1:
            inside = contents.step_inside(save.parts)
            order = None if inside is None else (inside,)
        made.append(replace(save, order=order))
    placed = [save for save in made if save.order is not None]
    placed.sort(key=lambda save: (save.order or (), save.path.name), reverse=True)
    return placed + [save for save in made if save.order is None]


def _starts_over(positions: Sequence[Position | None]) -> bool:
    """Whether steps begin again in every epoch: a later epoch has a lower step."""
    pairs = sorted((at.epoch, at.value) for at in positions if at and at.epoch is not None)
    steps = [step for _, step in pairs]
    return len(pairs) == len(positions) and steps != sorted(steps)
