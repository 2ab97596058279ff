"""What stock `dcp.load` does when a run that asks for some keys loads a checkpoint.

It raises for a key that the checkpoint lacks and for a tensor of another shape. It says nothing of
what the checkpoint holds and the run did not ask for: that stays on disk, and an optimizer whose
state stays on disk begins anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from dcpctl.model.contract import Spec
from dcpctl.model.fqn import Path
from dcpctl.model.loading_errors import (
    LOOKING_UP,
    LoadError,
    Mismatch,
    Release,
    clash,
    missing,
)
from dcpctl.model.loading_keys import in_load_order, pickled_form, spec_of
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.optimizer.source import CheckpointLike, RawOptimizer


@dataclass(frozen=True, slots=True)
class SkippedOptimizer:
    """Optimizer state that stays on disk.

    Attributes:
        fqns: the entries that nobody asked for, in metadata order.
        parameters: parameters that have some state among them.
        nbytes: bytes of their tensors' numbers.
        asked: optimizer entries of the checkpoint that the run did ask for.
    """

    fqns: tuple[str, ...]
    parameters: int
    nbytes: int
    asked: int

    @property
    def whole(self) -> bool:
        """Whether none of the checkpoint's optimizer was asked for."""
        return not self.asked


@dataclass(frozen=True, slots=True)
class LoadPreview:
    """What a load will do with each key, asked for or stored.

    Attributes:
        loads: keys that are read, in the order in which torch takes them. Where the load raises,
            nothing is read.
        missing: keys that are asked for and that the checkpoint lacks: they raise.
        mismatched: a tensor of another shape or of a dtype that torch cannot convert, or an object
            asked for where a tensor is stored: they raise. `asked` and `stored` tell which it is.
        unplaced: keys whose numbers no storage item holds: they raise.
        converted: of `loads`, the tensors of another dtype, which are converted on the way.
        cut: of `loads`, the tensors of another shape, of which releases before 2.6 copy the common
            part and say nothing.
        replaced: of `loads`, tensors asked for where the checkpoint has an object: the state dict
            then holds the object, and the tensor keeps its numbers.
        skipped: keys on disk that nobody asked for: they stay there, and torch says nothing.
        ignored: keys like `skipped` that match one of the globs to ignore.
        skipped_optimizer: of `skipped`, the optimizer's; None if there are none.
        old_form: torch asks for what holds no tensor in one piece (`optimizer.param_groups`), as
            2.3 and before always do, and 2.5 and later for a checkpoint with such pieces; `loads`
            and `missing` are in that form.
        error: what torch raises first; None if it does not.
    """

    loads: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    unplaced: tuple[str, ...]
    converted: tuple[Mismatch, ...]
    cut: tuple[Mismatch, ...]
    replaced: tuple[Mismatch, ...]
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    skipped_optimizer: SkippedOptimizer | None
    old_form: bool
    error: LoadError | None

    @property
    def raises(self) -> bool:
        """Whether the load raises."""
        return self.error is not None

    @property
    def error_text(self) -> str:
        """The first line of the exception that torch raises; empty if it raises none."""
        return "" if self.error is None else self.error.text.partition("\n")[0]


def predict_load(
    asked: Mapping[str, Spec],
    checkpoint: CheckpointLike,
    *,
    ignore: Sequence[str] = (),
    torch: str | None = None,
    allow_partial_load: bool = False,
    paths: Mapping[str, Path] | None = None,
) -> LoadPreview:
    """Predict what `dcp.load` with the default planner does; no tensor is read.

    What only the bytes can tell (a damaged item) is not foreseen.

    Args:
        asked: the run's state dict, flattened as DCP does from 2.4 on; of a checkpoint that the run
            saved, `loading_keys.asked_by` gives it.
        checkpoint: a `Checkpoint`.
        ignore: globs of keys that may stay on disk.
        torch: release that loads, such as `2.4.1`; the newest known if None.
        allow_partial_load: as the planner was made: missing keys are passed over.
        paths: object paths of asked keys, where they are known; the checkpoint's planner data and
            else the dots tell them.

    Returns:
        What happens to each key, and what is raised first.
    """
    release = Release.of(torch)
    entries = checkpoint.entries
    stored = {fqn: spec_of(entry) for fqn, entry in entries.items()}
    wanted, old_form = _wanted(
        asked, stored, {**(checkpoint.planner_data or {}), **(paths or {})}, release
    )
    errors: list[LoadError] = []
    read: list[Mismatch] = []
    bad: list[Mismatch] = []
    for fqn, spec in wanted.items():
        if fqn not in stored:
            if not allow_partial_load:
                errors.append(missing(fqn, release))
            continue
        pair = Mismatch(fqn, spec, stored[fqn])
        error = clash(pair, entries[fqn], release)
        if error is not None:
            errors.append(error)
        (read if error is None else bad).append(pair)
    left = [fqn for fqn in stored if fqn not in wanted]
    ignored = _matching(left, ignore)
    skipped = [fqn for fqn in left if fqn not in ignored]
    tensors = [pair for pair in read if pair.asked.is_tensor and pair.stored.is_tensor]
    unplaced = {error.fqn for error in errors if error.phase == LOOKING_UP}
    return LoadPreview(
        loads=tuple(pair.fqn for pair in read),
        missing=tuple(fqn for fqn in wanted if fqn not in stored),
        mismatched=tuple(pair for pair in bad if pair.fqn not in unplaced),
        unplaced=tuple(pair.fqn for pair in bad if pair.fqn in unplaced),
        converted=tuple(pair for pair in tensors if pair.asked.dtype != pair.stored.dtype),
        cut=tuple(pair for pair in tensors if pair.asked.shape != pair.stored.shape),
        replaced=tuple(p for p in read if p.asked.is_tensor and not p.stored.is_tensor),
        skipped=tuple(skipped),
        ignored=tuple(fqn for fqn in left if fqn in ignored),
        skipped_optimizer=_skipped_optimizer(checkpoint, skipped, wanted) if skipped else None,
        old_form=old_form,
        # `min` keeps the first of equals: the order of the keys.
        error=min(errors, key=lambda error: error.phase, default=None),
    )


def _wanted(
    asked: Mapping[str, Spec],
    stored: Mapping[str, Spec],
    paths: Mapping[str, Path],
    release: Release,
) -> tuple[dict[str, Spec], bool]:
    """The keys that the release looks for, and whether they are in the form up to 2.3."""
    wanted = in_load_order(asked, paths)
    left = stored.keys() - wanted.keys()
    if release.opens_mappings and not (release.falls_back and left):
        return wanted, False
    pickled = pickled_form(wanted, paths)
    if release.opens_mappings and not left & pickled.keys():
        return wanted, False
    return pickled, True


def _matching(fqns: Iterable[str], globs: Sequence[str]) -> set[str]:
    """The FQNs that a glob matches, or that lie below a name without wildcards."""
    matchers = [(re.compile(translate(glob)).match, glob.rstrip(".") + ".") for glob in globs]
    return {
        fqn for fqn in fqns if any(match(fqn) or fqn.startswith(below) for match, below in matchers)
    }


def _skipped_optimizer(
    checkpoint: CheckpointLike, skipped: Sequence[str], wanted: Mapping[str, Spec]
) -> SkippedOptimizer | None:
    optimizers = collect(checkpoint)
    owned = {fqn for raw in optimizers for fqn in raw.fqns}
    left = tuple(fqn for fqn in skipped if fqn in owned)
    if not left:
        return None
    entries = checkpoint.entries
    return SkippedOptimizer(
        left,
        _parameters(optimizers, set(left)),
        sum(getattr(entries[fqn], "nbytes", 0) for fqn in left),
        len(owned & wanted.keys()),
    )


def _parameters(optimizers: Sequence[RawOptimizer], left: set[str]) -> int:
    """How many parameters have a state entry among those left."""
    return sum(
        any(entry.fqn in left for entry in slots.values())
        for raw in optimizers
        for slots in raw.state.values()
    )
