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
from typing import NamedTuple

from dcpctl.model.contract import Spec
from dcpctl.model.loading_keys import in_load_order, pickled_form
from dcpctl.model.optimizer.catalogue import version_key
from dcpctl.model.optimizer.collect import collect
from dcpctl.model.optimizer.source import CheckpointLike, RawOptimizer


class Mismatch(NamedTuple):
    """One key that the run and the checkpoint hold as something different.

    Attributes:
        fqn: the key.
        asked: what the run's state dict has there.
        stored: what the checkpoint has there.
    """

    fqn: str
    asked: Spec
    stored: Spec


class LoadError(NamedTuple):
    """What torch raises first.

    Attributes:
        kind: the exception's class: `RuntimeError`, `ValueError`.
        text: its message.
        fqn: the key that it is about.
    """

    kind: str
    text: str
    fqn: str


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
        mismatched: a tensor of another shape, or an object asked for where a tensor is stored: they
            raise. Read `asked` and `stored` for which it is.
        converted: of `loads`, the tensors of another dtype, which are converted on the way.
        replaced: of `loads`, tensors asked for where the checkpoint has an object: the state dict
            then holds the object, and the tensor keeps its numbers.
        skipped: keys on disk that nobody asked for: they stay there, and torch says nothing.
        ignored: keys like `skipped` that match one of the globs to ignore.
        skipped_optimizer: of `skipped`, the optimizer's; None if there are none.
        old_form: torch took the checkpoint for one of 2.3 or before, and asks for what holds no
            tensor in one piece (`optimizer.param_groups`); `loads` and `missing` are in that form.
        error: what torch raises first; None if it does not.
    """

    loads: tuple[str, ...]
    missing: tuple[str, ...]
    mismatched: tuple[Mismatch, ...]
    converted: tuple[Mismatch, ...]
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
        return "" if self.error is None else self.error.text


def predict_load(
    asked: Mapping[str, Spec],
    checkpoint: CheckpointLike,
    *,
    ignore: Sequence[str] = (),
    torch: str | None = None,
    paths: Mapping[str, tuple[str | int, ...]] | None = None,
) -> LoadPreview:
    """Predict what `dcp.load` with the default planner does; nothing but names is looked at.

    Args:
        asked: the run's state dict, flattened as DCP does (2.4 and later), with shapes and dtypes.
        checkpoint: a `Checkpoint`.
        ignore: globs of keys that may stay on disk.
        torch: release that loads; the newest known if None.
        paths: object path of the asked keys, where it is known; else they are split at dots.

    Returns:
        What happens to each key, and what is raised first.
    """
    entries = checkpoint.entries
    stored = {fqn: spec_of(entry) for fqn, entry in entries.items()}
    known = {**(checkpoint.planner_data or {}), **(paths or {})}
    wanted = in_load_order(asked, known)
    old_form = False
    if _falls_back(torch) and stored.keys() - wanted.keys():
        pickled = pickled_form(wanted, known)
        old_form = bool((stored.keys() - wanted.keys()) & pickled.keys())
        wanted = pickled if old_form else wanted
    missing = [fqn for fqn in wanted if fqn not in stored]
    both = [Mismatch(fqn, spec, stored[fqn]) for fqn, spec in wanted.items() if fqn in stored]
    checks_size = _checks_size(torch)
    mismatched = [pair for pair in both if _raises(pair, checks_size)]
    bad = {pair.fqn for pair in mismatched}
    read = [pair for pair in both if pair.fqn not in bad]
    left = [fqn for fqn in stored if fqn not in wanted]
    ignored = _matching(left, ignore)
    skipped = [fqn for fqn in left if fqn not in ignored]
    return LoadPreview(
        loads=tuple(pair.fqn for pair in read),
        missing=tuple(missing),
        mismatched=tuple(mismatched),
        converted=tuple(
            pair for pair in read if pair.stored.is_tensor and pair.stored.dtype != pair.asked.dtype
        ),
        replaced=tuple(p for p in read if p.asked.is_tensor and not p.stored.is_tensor),
        skipped=tuple(skipped),
        ignored=tuple(fqn for fqn in left if fqn in ignored),
        skipped_optimizer=_skipped_optimizer(checkpoint, skipped, wanted) if skipped else None,
        old_form=old_form,
        error=_first_error(wanted, stored, bad),
    )


def spec_of(entry: object) -> Spec:
    """Return what an entry of a checkpoint is, as a state dict has it."""
    shape = getattr(entry, "shape", None)
    if shape is None:
        return Spec()
    return Spec(tuple(shape), str(getattr(entry, "dtype", "")))


def _falls_back(torch: str | None) -> bool:
    """Whether the release tries the keys of 2.3 (`default_planner.py`, first in 2.5)."""
    return torch is None or version_key(torch)[:2] >= (2, 5)


def _checks_size(torch: str | None) -> bool:
    """Whether the release compares sizes before it reads (`default_planner.py`, first in 2.6)."""
    return torch is None or version_key(torch)[:2] >= (2, 6)


def _raises(pair: Mismatch, checks_size: bool) -> bool:
    if not pair.stored.is_tensor:
        return False
    if not pair.asked.is_tensor:
        return True
    return checks_size and pair.asked.shape != pair.stored.shape


def _first_error(
    wanted: Mapping[str, Spec], stored: Mapping[str, Spec], bad: set[str]
) -> LoadError | None:
    for fqn, asked in wanted.items():
        if fqn not in stored:
            return LoadError("RuntimeError", f"Missing key in checkpoint state_dict: {fqn}.", fqn)
        if fqn not in bad:
            continue
        if asked.shape is None:
            return LoadError(
                "ValueError",
                f"Invalid checkpoint metadata for {fqn}, expected BytesStorageMetadata but found "
                "<class 'torch.distributed.checkpoint.metadata.TensorStorageMetadata'>",
                fqn,
            )
        return LoadError(
            "ValueError",
            f"Size mismatch between saved {_size(stored[fqn].shape)} and current: "
            f"{_size(asked.shape)} for {fqn}",
            fqn,
        )
    return None


def _size(shape: tuple[int, ...] | None) -> str:
    return f"torch.Size({list(shape or ())})"


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
