"""What each rank of a load finds for itself, and all of them together."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from dcpctl.model.contract import Spec
from dcpctl.model.globs import matching
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.training.stored import StoredKeys, StoredTensor

#: Names of each kind that a rank tells the others: a load that goes wrong at all goes wrong for
#: all keys, and thousands of ranks would each send all of them.
MOST_SENT = 1_000
#: The same of what a rank leaves on disk, which all ranks of a pipeline do.
MOST_LEFT = 10

#: FQN to the boxes of its tensor that a rank reads, offsets and sizes in one tuple.
Boxes = Mapping[str, set[tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Clash:
    """A key under which a rank's state dict and the checkpoint have different things.

    Attributes:
        fqn: the key.
        asked: what the state dict has there.
        stored: what the checkpoint has there.
    """

    fqn: str
    asked: Spec
    stored: Spec


@dataclass(frozen=True, slots=True)
class RankReport:
    """What one rank asks for; travels to the coordinator in the rank's `LoadPlan`.

    Attributes:
        asked: one bit a stored key, the first key in the lowest bit: whether the rank asks for it.
        stored: checksum of the names of the stored keys. Of a save without collectives each rank
            has metadata of its own, and the bits of two ranks need not be of the same keys.
        left: the first stored keys that it does not ask for and that are not ignored.
        missing: keys that it asks for, that are not stored and that nothing fills.
        clashes: keys that it asks for as something else.
        rounded: keys whose numbers the load rounds.
        filled: keys that are filled, with their values.
        fillable: keys among the missing that `upgrade=True` would fill.
        doubts: keys among the missing that a newer release introduced, to why nothing fills them.
    """

    asked: int
    stored: int = 0
    left: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    clashes: tuple[Clash, ...] = ()
    rounded: tuple[Clash, ...] = ()
    filled: Mapping[str, object] = field(default_factory=dict)
    fillable: tuple[str, ...] = ()
    doubts: Mapping[str, str] = field(default_factory=dict)


def bits(asked: Iterable[str], stored: StoredKeys) -> int:
    """Return one bit a stored key, set where it is asked for; the first key's is the lowest."""
    wanted = set(asked)
    digits = ["1" if fqn in wanted else "0" for fqn in reversed(list(stored.entries))]
    return int("".join(digits) or "0", 2)


def checksum(stored: StoredKeys) -> int:
    """Return a checksum of the names of the stored keys, in their order."""
    return zlib.crc32("\n".join(stored.entries).encode(errors="surrogatepass"))


def clashes(asked: Mapping[str, Spec], stored: StoredKeys) -> list[Clash]:
    """Return the keys that are stored as something that their place cannot take.

    Of a tensor of another shape releases before 2.6 copy the common part, an object takes the place
    of a tensor that is asked for, and `copy_` cuts floats to ints and these to bools; none of them
    says anything.
    """
    found = []
    for fqn, spec in asked.items():
        entry = stored.entries.get(fqn)
        if isinstance(entry, StoredTensor):
            if entry.shape != spec.shape or kind_of(entry.dtype) > kind_of(spec.dtype):
                found.append(Clash(fqn, spec, Spec(entry.shape, entry.dtype)))
        elif entry is not None and spec.shape is not None:
            found.append(Clash(fqn, spec, Spec()))
    return found


def shapes(found: Iterable[Clash]) -> bool:
    """Whether any of these are tensors, or places of tensors, of different shapes."""
    return any(
        one.asked.shape != one.stored.shape
        and (one.stored.shape is not None or one.asked.shape is None)
        for one in found
    )


def roundings(asked: Mapping[str, Spec], stored: StoredKeys) -> list[Clash]:
    """Return the tensors that a load rounds, or cuts to a smaller range: of floats or ints."""
    found = []
    for fqn, spec in asked.items():
        entry = stored.entries.get(fqn)
        if isinstance(entry, StoredTensor) and _rounds(entry.dtype, spec.dtype):
            found.append(Clash(fqn, spec, Spec(entry.shape, entry.dtype)))
    return found


def kind_of(dtype: str | None) -> int:
    """Return what numbers a dtype has: 0 bools, 1 ints, 2 floats, 3 complex ones."""
    known = getattr(torch, dtype or "", None)
    if not isinstance(known, torch.dtype):
        return 2
    if known.is_complex:
        return 3
    return 2 if known.is_floating_point else int(known != torch.bool)


def _rounds(stored: str, asked: str | None) -> bool:
    """Whether a dtype cannot hold each number of another of its kind."""
    if asked is None or stored == asked or kind_of(stored) != kind_of(asked):
        return False
    before, after = getattr(torch, stored, None), getattr(torch, asked, None)
    if not isinstance(before, torch.dtype) or not isinstance(after, torch.dtype):
        return False
    if kind_of(stored) == 1:
        old, new = torch.iinfo(before), torch.iinfo(after)
        return bool(new.max < old.max or new.min > old.min)
    if kind_of(stored) == 0:
        return False
    wide, narrow = torch.finfo(before), torch.finfo(after)
    return bool(narrow.eps > wide.eps or narrow.max < wide.max or narrow.tiny > wide.tiny)


@dataclass(slots=True)
class Together:
    """What all ranks of a load ask for.

    Attributes:
        ranks: how many.
        loaded: stored keys that some rank asks for.
        skipped: stored keys that no rank asks for and that are not ignored.
        ignored: stored keys that no rank asks for and that a glob says may stay.
        missing: keys that some rank asks for and that are not stored.
        clashes: as of the ranks.
        rounded: as of the ranks.
        filled: as of the ranks.
        fillable: as of the ranks.
        doubts: as of the ranks.
        torn: stored keys that only some ranks ask for though the others need them too, to the
            ranks that do not ask; empty where there are clashes.
    """

    ranks: int
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    clashes: tuple[Clash, ...]
    rounded: tuple[Clash, ...]
    filled: dict[str, object]
    fillable: tuple[str, ...]
    doubts: dict[str, str]
    torn: dict[str, tuple[int, ...]]


def together(
    reports: Sequence[RankReport],
    stored: StoredKeys,
    ignore: Sequence[str],
    read: Callable[[Collection[str]], Sequence[Boxes]],
) -> Together:
    """Join what the ranks ask for.

    A key that one rank asks for is asked for: with pipeline stages every rank has its own.

    Args:
        reports: of each rank, in their order.
        stored: the checkpoint's keys.
        ignore: globs of keys that may stay on disk.
        read: gives what each rank reads of some keys; called where not all ask for the same.
    """
    names = list(stored.entries)
    own = checksum(stored)
    alike = [report.asked for report in reports if report.stored == own]
    all_bits = 0
    for mask in alike:
        all_bits |= mask
    loaded = [fqn for number, fqn in enumerate(names) if all_bits >> number & 1]
    wanted = set(loaded)
    left = [fqn for fqn in names if fqn not in wanted]
    ignored = {fqn for glob in ignore for fqn in matching(left, glob)}
    skipped = [fqn for fqn in left if fqn not in ignored]
    # A rank with a clash has planned nothing, and what it would have read is not known.
    known = len(alike) == len(reports) and not any(report.clashes for report in reports)
    torn = _torn(alike, all_bits, stored, read) if known else {}
    torn_and_meant = {fqn for glob in ignore for fqn in matching(torn, glob)}
    skipped += [fqn for report in reports if report.stored != own for fqn in report.left]
    return Together(
        ranks=len(reports),
        loaded=tuple(loaded),
        skipped=tuple(dict.fromkeys(skipped)),
        ignored=tuple(fqn for fqn in left if fqn in ignored),
        missing=tuple(dict.fromkeys(fqn for one in reports for fqn in one.missing)),
        clashes=tuple({clash.fqn: clash for one in reports for clash in one.clashes}.values()),
        rounded=tuple({clash.fqn: clash for one in reports for clash in one.rounded}.values()),
        filled={fqn: value for one in reports for fqn, value in one.filled.items()},
        fillable=tuple(dict.fromkeys(fqn for one in reports for fqn in one.fillable)),
        doubts={fqn: why for one in reports for fqn, why in one.doubts.items()},
        torn={fqn: ranks for fqn, ranks in torn.items() if fqn not in torn_and_meant},
    )


def _torn(
    asked: Sequence[int],
    all_bits: int,
    stored: StoredKeys,
    read: Callable[[Collection[str]], Sequence[Boxes]],
) -> dict[str, tuple[int, ...]]:
    """Keys that some ranks ask for and others wrongly do not; see `Together.torn`."""
    alike: dict[int, list[int]] = {}
    for rank, mask in enumerate(asked):
        alike.setdefault(mask, []).append(rank)
    if len(alike) == 1:
        return {}
    number = {fqn: index for index, fqn in enumerate(stored.entries)}

    def without(fqn: str, weight: str = "") -> tuple[int, ...]:
        """The ranks that do not ask for a key; if a weight is given, those that ask for that."""
        return tuple(
            rank
            for mask, ranks in alike.items()
            if not mask >> number[fqn] & 1 and (not weight or mask >> number[weight] & 1)
            for rank in ranks
        )

    some = {
        fqn: ranks
        for fqn in stored.entries
        if all_bits >> number[fqn] & 1 and (ranks := without(fqn))
    }
    plans = read(some)
    found: dict[str, tuple[int, ...]] = {}
    # A sharded tensor whose shards are not all read.
    for fqn, others in some.items():
        entry = stored.entries[fqn]
        if isinstance(entry, StoredTensor):
            boxes = set().union(*(plan.get(fqn, set()) for plan in plans))
            dims = len(entry.shape)
            if sum(math.prod(box[dims:]) for box in boxes) < math.prod(entry.shape):
                found[fqn] = others
    # A rank that loads a parameter's weight and not its state, while others load both.
    for weight, states in _states(stored).items():
        for fqn in states:
            if fqn in some and fqn not in found and (others := without(fqn, weight)):
                found[fqn] = others
    return found


def _states(stored: StoredKeys) -> dict[str, list[str]]:
    """FQN of a weight to the FQNs of its optimizer state."""
    view = OptimizerView(stored)
    return {
        parameter.fqn: [slot.fqn for slot in parameter.slots.values()]
        for parameter in view.parameters
        if parameter.fqn is not None and parameter.slots
    }
