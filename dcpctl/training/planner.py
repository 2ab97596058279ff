"""`StrictLoadPlanner`: a load that says what it would leave behind, before it reads a byte."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import torch
from torch.distributed.checkpoint import DefaultLoadPlanner, LoadPlan
from torch.distributed.checkpoint.default_planner import create_default_local_load_plan
from torch.distributed.checkpoint.metadata import STATE_DICT_TYPE, Metadata
from torch.distributed.checkpoint.planner import LoadItemType, ReadItem

import dcpctl
from dcpctl.errors import ReadFailed, UsageError, quote
from dcpctl.model.globs import matching
from dcpctl.model.receipt import FilledKey, Receipt, SkippedKey, write_receipt
from dcpctl.training.asked import specs_of
from dcpctl.training.filling import Filling, fill
from dcpctl.training.reports import (
    MOST_LEFT,
    MOST_SENT,
    RankReport,
    Together,
    bits,
    checksum,
    clashes,
    roundings,
    together,
)
from dcpctl.training.stored import StoredKeys
from dcpctl.training.words import refusal, rounding


class StrictLoadPlanner(DefaultLoadPlanner):
    """A planner for stock `dcp.load` that refuses to leave state on disk without a word.

    `dcp.load` fills the state dict that it is given and says nothing of what else the checkpoint
    holds: a run whose state dict has no optimizer, or an empty one, goes on with zero moments.
    With this planner the load fails on every rank, before any byte is read, when

    - the checkpoint holds keys that no rank asks for and that no glob of `ignore` matches,
    - a rank asks for keys that the checkpoint lacks, or has with another shape or of another kind:
      floats where ints or bools are asked for, an object where a tensor is,
    - some ranks ask for a part that others need and do not ask for.

    torch raises the `LoadRefused` inside a `CheckpointException`, on all ranks.

        dcp.load(state_dict, checkpoint_id=path, planner=StrictLoadPlanner())

    Args:
        ignore: globs of keys that may stay on disk, such as `lr_scheduler` or `*.rng_state`. `*`
            also matches dots, and a plain name matches all below it.
        upgrade: fill the param-group keys that a release after the checkpoint's introduced
            (`decoupled_weight_decay`, 2.7) by the rules of `dcpctl upgrade`.
        receipt: file that rank 0 writes once it has read all that is its own: what was loaded,
            skipped and filled, as `dcpctl.receipt/1`. One that is there before is removed.
        flatten_state_dict: as of `DefaultLoadPlanner`.
        flatten_sharded_tensors: as of `DefaultLoadPlanner`.
        allow_partial_load: as of `DefaultLoadPlanner`: keys that the checkpoint lacks stay as they
            are. What the checkpoint has is guarded all the same.
        on_lossy: what to do where a load rounds numbers, as float32 into bfloat16: `warn` on rank
            0, or `raise` on all.
    """

    allow_partial_load: bool
    state_dict: dict[str, Any]
    mappings: dict[str, tuple[str | int, ...]]

    def __init__(
        self,
        *,
        ignore: Sequence[str] = (),
        upgrade: bool = False,
        receipt: str | os.PathLike[str] | None = None,
        flatten_state_dict: bool = True,
        flatten_sharded_tensors: bool = True,
        allow_partial_load: bool = False,
        on_lossy: Literal["raise", "warn"] = "warn",
    ) -> None:
        if on_lossy not in ("raise", "warn"):
            raise UsageError(f"on_lossy is 'raise' or 'warn', not {quote(on_lossy)}")
        super().__init__(flatten_state_dict, flatten_sharded_tensors, allow_partial_load)
        self.ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        self.upgrade = upgrade
        self.on_lossy = on_lossy
        self.receipt = None if receipt is None else Path(receipt)
        self._stored = StoredKeys(Metadata({}))
        self._filled: dict[str, object] = {}
        self._found: Together | None = None
        self._unread = 0
        self._lock = threading.Lock()

    def set_up_planner(
        self,
        state_dict: STATE_DICT_TYPE,
        metadata: Metadata | None = None,
        is_coordinator: bool = False,
    ) -> None:
        """Take the state dict and the checkpoint's keys; called by torch on each rank."""
        super().set_up_planner(state_dict, metadata, is_coordinator)
        self._stored = StoredKeys(Metadata({}) if metadata is None else metadata)
        self._found, self._filled = None, {}
        if self.receipt is not None and is_coordinator:
            _make_way(self.receipt)

    def create_local_plan(self) -> LoadPlan:
        """Plan what this rank reads, and report what it asks for; raises nothing of its own.

        The coordinator decides with all reports before it, so that a rank's shortcoming is told
        once, and keys that other ranks ask for are not missed.
        """
        asked = specs_of(self.state_dict)
        different = clashes(asked, self._stored)
        rounded = roundings(asked, self._stored)
        plan = LoadPlan([]) if different else self._planned()
        return replace(plan, planner_data=self._report(different, rounded))

    def _planned(self) -> LoadPlan:
        """What this rank reads of what it asks for.

        For a checkpoint of 2.3 and before the default planner asks for what holds no tensor in one
        piece (`optimizer.param_groups`; 2.5 and later). It also takes one for such where FSDP1
        leaves a rank without a shard of some parameter, and then misses keys; there the keys stay.
        """
        now = self.state_dict, self.mappings
        plan = create_default_local_load_plan(self.state_dict, self.metadata, False)
        if self.flatten_state_dict and not self._stored.entries.keys() >= self.state_dict.keys():
            partial, self.allow_partial_load = self.allow_partial_load, True
            try:
                other: LoadPlan = super().create_local_plan()
            finally:
                self.allow_partial_load = partial
            pieces = [
                fqn
                for fqn, value in self.state_dict.items()
                if fqn not in now[0] and not isinstance(value, torch.Tensor)
            ]
            if any(fqn in self._stored.entries for fqn in pieces):
                return other
            self.state_dict, self.mappings = now
        return plan

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        """Refuse the load or let it go on; called by torch on the coordinator.

        Raises:
            LoadRefused: the checkpoint holds what no rank asks for, or lacks what one asks for.
        """
        reports = [plan.planner_data for plan in global_plan]
        found = together(
            reports,
            self._stored,
            self.ignore,
            lambda fqns: [_boxes(plan, fqns) for plan in global_plan],
        )
        lossy = self.on_lossy == "raise"
        error = refusal(found, self._stored, partial=self.allow_partial_load, lossy=lossy)
        if error is not None:
            raise error
        if found.rounded:
            warnings.warn(rounding(found.rounded), stacklevel=2)
        self._found = found
        plans: list[LoadPlan] = super().create_global_plan(
            [replace(plan, planner_data=None) for plan in global_plan]
        )
        return plans

    def finish_plan(self, new_plan: LoadPlan) -> LoadPlan:
        """Fill what is filled; called by torch on each rank once all may go on."""
        for fqn, value in self._filled.items():
            *above, last = self.mappings[fqn]
            place: Any = self.original_state_dict
            for key in above:
                place = place[key]
            place[last] = value
        plan = super().finish_plan(new_plan)
        self._unread = len(plan.items)
        if not self._unread:
            self._write_receipt()
        return plan

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Take an object."""
        super().load_bytes(read_item, value)
        self._done_with_one()

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """Take note of a box of a tensor that is in its place."""
        super().commit_tensor(read_item, tensor)
        self._done_with_one()

    def _report(self, different: list[Any], rounded: list[Any]) -> RankReport:
        asked = self.state_dict
        missing = [fqn for fqn in asked if fqn not in self._stored.entries]
        filling = Filling()
        if missing and self.flatten_state_dict:
            filling = fill(missing, asked, self.mappings, self._stored, str(torch.__version__))
        if self.upgrade and not different:
            self._filled = filling.values
        left = [fqn for fqn in self._stored.entries if fqn not in asked]
        meant = {fqn for glob in self.ignore for fqn in matching(left, glob)}
        left = [fqn for fqn in left if fqn not in meant]
        rest = [fqn for fqn in missing if fqn not in self._filled]
        fillable = [fqn for fqn in filling.values if fqn not in self._filled]
        return RankReport(
            asked=bits(asked, self._stored),
            stored=checksum(self._stored),
            left=tuple(left[:MOST_LEFT]),
            missing=tuple(rest[:MOST_SENT]),
            clashes=tuple(different[:MOST_SENT]),
            rounded=tuple(rounded[:MOST_SENT]),
            filled=dict(self._filled),
            fillable=tuple(fillable[:MOST_SENT]),
            doubts=dict(list(filling.doubts.items())[:MOST_SENT]),
        )

    def _done_with_one(self) -> None:
        with self._lock:  # some storage readers use several threads
            self._unread -= 1
            last = not self._unread
        if last:
            self._write_receipt()

    def _write_receipt(self) -> None:
        if self.receipt is None or self._found is None or not self.is_coordinator:
            return
        found = self._found
        left = [fqn for fqn in self._stored.entries if fqn not in set(found.loaded)]
        write_receipt(
            Receipt(
                saved_as=self._stored.saved_as,
                save_id=self._stored.save_id,
                loaded=found.loaded,
                skipped=tuple(SkippedKey(fqn, fqn in found.ignored) for fqn in left),
                filled=tuple(FilledKey(fqn, value) for fqn, value in found.filled.items()),
                missing=found.missing,
                world_size=found.ranks,
                torch=str(torch.__version__),
                dcpctl=dcpctl.__version__,
                time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            ),
            self.receipt,
        )


def _boxes(plan: LoadPlan, fqns: Collection[str]) -> dict[str, set[tuple[int, ...]]]:
    """The boxes of some stored tensors that a rank reads, offsets and sizes in one tuple."""
    found: dict[str, set[tuple[int, ...]]] = {}
    for item in plan.items:
        if item.type == LoadItemType.TENSOR and item.storage_index.fqn in fqns:
            corner = item.storage_index.offset or (0,) * len(item.lengths)
            offsets = (a + b for a, b in zip(corner, item.storage_offsets, strict=True))
            box = (*offsets, *item.lengths)
            found.setdefault(item.storage_index.fqn, set()).add(box)
    return found


def _make_way(receipt: Path) -> None:
    """Remove a receipt of an earlier load, and find out before the load whether one can stand.

    Raises:
        ReadFailed: it cannot.
    """
    try:
        receipt.unlink(missing_ok=True)
        writable = os.access(receipt.parent, os.W_OK | os.X_OK)
    except OSError as error:
        raise ReadFailed(f"cannot write the receipt {quote(receipt)}: {error.strerror}") from None
    if not writable:
        raise ReadFailed(
            f"cannot write the receipt {quote(receipt)}",
            hint="its directory must be there and writable on rank 0",
        )
