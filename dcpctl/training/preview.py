"""`preview_load`: what a load would do, without doing it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dcpctl.errors import printable, quote
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.loading import LoadPreview, predict_load
from dcpctl.model.loading_errors import Mismatch
from dcpctl.training.asked import flattened
from dcpctl.training.opened import opened
from dcpctl.training.restoring import unrestorable
from dcpctl.training.words import spec_text

_MOST_NAMED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Preview(LoadPreview):
    """A `LoadPreview` that prints as a table.

    Attributes:
        unrestorable: names under which `set_state_dict` would look for optimizer state after the
            load, and that the state dict does not have: it raises.
    """

    unrestorable: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = list(self._rows())
        what = max(len(name) for name, *_ in rows)
        count = max(len(f"{number:,}") for _, number, _, _ in rows)
        lines = [self.sentence, ""]
        for name, number, does, first in rows:
            lines.append(f"  {name:{what}}  {number:>{count},}  {does}")
            lines += [f"  {'':{what}}  {'':{count}}    {line}" for line in first]
        return "\n".join(line.rstrip() for line in lines)

    @property
    def sentence(self) -> str:
        """What would happen, in a sentence."""
        said = self._load
        if self.unrestorable and self.error is None:
            said += (
                f"; then set_state_dict would raise: it looks for {quote(self.unrestorable[0])}, "
                "as the activation checkpoint's wrapper lies outside of FSDP1"
            )
        return said

    @property
    def _load(self) -> str:
        """What the load alone would do, in a sentence."""
        if self.error is not None:
            return f"the load would raise {self.error.kind}: {printable(self.error.text)}"
        if self.skipped_optimizer is not None:
            part = "all" if self.skipped_optimizer.whole else "a part"
            return (
                f"the load would succeed and leave {part} of the optimizer's state on disk: "
                f"{_keys(len(self.skipped))} that nobody asks for"
            )
        if self.skipped:
            return f"the load would succeed and leave {_keys(len(self.skipped))} on disk"
        return "the load would take all that the state dict asks for and the checkpoint has"

    def _rows(self) -> Iterator[tuple[str, int, str, list[str]]]:
        """(kind, number of keys, what torch does with them, the first ones) for each kind."""
        reads = "read into the state dict" if self.error is None else "could be read"
        yield "loads", len(self.loads), reads, []
        optimizer = set(self.skipped_optimizer.fqns) if self.skipped_optimizer else set()
        mine = [fqn for fqn in self.skipped if fqn in optimizer]
        rest = [fqn for fqn in self.skipped if fqn not in optimizer]
        stays = "on disk and not asked for: stays there, and torch says nothing"
        raises = "raises" if self.error is not None else "stays as it is"
        lines: list[tuple[str, Sequence[str], str]] = [
            ("missing", self.missing, f"asked for and not on disk: {raises}"),
            ("unplaced", self.unplaced, "no file holds its numbers: raises"),
            ("skipped, optimizer", mine, stays),
            ("skipped", rest, stays),
            ("ignored", self.ignored, "on disk, and may stay there"),
        ]
        for name, fqns, does in lines:
            if fqns:
                yield name, len(fqns), does, list(_first(fqns))
        if self.unrestorable:
            does = (
                "set_state_dict looks for these names and raises: use FSDP(checkpoint_wrapper(x)), "
                "or put the state back with FSDP.optim_state_dict_to_load"
            )
            yield "unrestorable", len(self.unrestorable), does, list(_first(self.unrestorable))
        pairs: list[tuple[str, Sequence[Mismatch], str]] = [
            ("mismatched", self.mismatched, "cannot be loaded: raises"),
            ("cut", self.cut, "another shape: only the common part is read"),
            ("converted", self.converted, "another dtype: converted on the way"),
            ("replaced", self.replaced, "an object on disk takes the place of the tensor"),
        ]
        for name, found, does in pairs:
            if found:
                yield name, len(found), does, list(_named(found))


def preview_load(
    state_dict: Mapping[str, Any],
    checkpoint: str | os.PathLike[str] | Checkpoint,
    *,
    ignore: Sequence[str] = (),
    allow_partial_load: bool = False,
    model: nn.Module | None = None,
) -> Preview:
    """Say what stock `dcp.load` would do with a state dict; nothing is loaded or changed.

    It also says where `set_state_dict` would raise after it, under FSDP1.

    Args:
        state_dict: what would be given to `dcp.load`; under several ranks, this rank's.
        checkpoint: its directory, or an open one.
        ignore: globs of keys that may stay on disk.
        allow_partial_load: as of the planner of the load.
        model: the model that the state dict is of; None to look at those alive in this process.

    Returns:
        What would happen to each key; prints as a table.

    Raises:
        InputError, ReadFailed: the checkpoint cannot be read.
    """
    asked, paths = flattened(state_dict)
    with opened(checkpoint) as source:
        found = predict_load(
            asked,
            source,
            ignore=(ignore,) if isinstance(ignore, str) else ignore,
            torch=str(torch.__version__),
            allow_partial_load=allow_partial_load,
            paths=paths,
        )
    fields = dataclasses.fields(LoadPreview)
    return Preview(
        **{field.name: getattr(found, field.name) for field in fields},
        unrestorable=unrestorable(_stated(state_dict), model),
    )


def _stated(state_dict: Mapping[str, Any]) -> set[str]:
    """Names of the parameters that an optimizer's dict in a state dict has state of."""
    found: set[str] = set()
    for value in state_dict.values():
        state = value.get("state") if isinstance(value, Mapping) else None
        if isinstance(state, Mapping):
            found.update(name for name in state if isinstance(name, str))
    return found


def _keys(number: int) -> str:
    return f"{number:,} key{'' if number == 1 else 's'}"


def _first(fqns: Sequence[str]) -> Iterator[str]:
    yield from map(quote, fqns[:_MOST_NAMED])
    if len(fqns) > _MOST_NAMED:
        yield f"and {len(fqns) - _MOST_NAMED:,} more"


def _named(pairs: Sequence[Mismatch]) -> Iterator[str]:
    for pair in pairs[:_MOST_NAMED]:
        asked, stored = spec_text(pair.asked), spec_text(pair.stored)
        yield f"{quote(pair.fqn)}: asked for {asked}, on disk {stored}"
    if len(pairs) > _MOST_NAMED:
        yield f"and {len(pairs) - _MOST_NAMED:,} more"
