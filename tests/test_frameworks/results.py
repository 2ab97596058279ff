"""Results of every verb that applies to a framework's save, and modules that have their tensors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.rename_rules import literal
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.verbs import Verb
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.undo import undo
from dcpctl.writing.write import write


def carry_out(source: Path, target: Path | None, *made: Verb) -> Path:
    """Make edits as the command line does; without `target` in place."""
    options = WriteOptions(in_place=target is None)
    with ExitStack() as held:
        checkpoint = held.enter_context(open_checkpoint(source))
        draft, _ = apply_edits(
            checkpoint, made, lambda path: held.enter_context(open_checkpoint(path))
        )
        write(plan(draft, target or source, options), options)
    return target or source


def in_place(source: Path, target: Path, *made: Verb) -> Path:
    """Make edits in place of a copy."""
    shutil.copytree(source, target)
    return carry_out(target, None, *made)


def undone(source: Path, target: Path, *made: Verb) -> Path:
    """Make edits in place of a copy, and take them back."""
    in_place(source, target, *made)
    undo(target)
    return target


def rename(old: str, new: str) -> Rename:
    """A rename of a module, with its optimizer state."""
    return Rename((literal(f"{old}={new}"),))


#: Edits that keep every name, so that the same job loads the result.
SAME_NAMES: dict[str, Callable[[Path, Path], Path]] = {
    "as it is": lambda source, target: source,
    "select": lambda source, target: carry_out(source, target, Select(("*",))),
    "one rank": lambda source, target: carry_out(source, target, Reshard(1)),
    "three ranks": lambda source, target: carry_out(source, target, Reshard(3)),
    "upgrade": lambda source, target: carry_out(source, target, Upgrade("2.13")),
    "downgrade": lambda source, target: carry_out(source, target, Upgrade("2.9")),
}


def set_to(*texts: str) -> Set:
    """Set values."""
    return Set(tuple(map(assignment, texts)))


def module_of(path: Path, root: str, *, outside: str = "\0") -> Any:
    """A module with all tensors below `root` in a checkpoint, filled with ones.

    What has optimizer state is a parameter, the rest a buffer; keys that begin with `outside` are
    not the model's.
    """
    with open_checkpoint(path) as checkpoint:
        tensors = checkpoint.tensors
        trained = {fqn.removesuffix(".exp_avg") for fqn in tensors if fqn.endswith(".exp_avg")}
        shapes = {
            name: (entry.shape, entry.dtype, any(t.endswith(f".{name}") for t in trained))
            for fqn, entry in tensors.items()
            if fqn.startswith(root)
            and not fqn.startswith(outside)
            and (name := fqn.removeprefix(root))
        }
    return _module_with(shapes)


def _module_with(shapes: dict[str, tuple[tuple[int, ...], str, bool]]) -> Any:
    import torch

    made = torch.nn.Module()
    for name, (shape, dtype, trained) in shapes.items():
        *above, last = name.split(".")
        within = made
        for part in above:
            if part not in dict(within.named_children()):
                within.add_module(part, torch.nn.Module())
            within = getattr(within, part)
        value = torch.ones(shape, dtype=getattr(torch, dtype))
        if trained:
            within.register_parameter(last, torch.nn.Parameter(value))
        else:
            within.register_buffer(last, value)
    return made


def numbers(path: Path) -> dict[str, bytes]:
    """The bytes of every tensor of a checkpoint."""
    with open_checkpoint(path) as checkpoint:
        return {fqn: entry.numpy().tobytes() for fqn, entry in checkpoint.tensors.items()}


def value(path: Path, fqn: str) -> Any:
    """The value of a bytes entry."""
    with open_checkpoint(path) as checkpoint:
        return checkpoint.bytes_entries[fqn].value


def files(path: Path) -> set[str]:
    """Paths of everything in a directory but its shard files."""
    found: Iterable[Path] = path.rglob("*")
    return {p.relative_to(path).as_posix() for p in found if p.suffix != ".distcp"}
