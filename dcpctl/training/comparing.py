"""Memory against disk on one rank: weights, optimizer state and steps, by samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from dcpctl import torch_bridge
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import TensorEntry
from dcpctl.model.fqn import strip_wrappers
from dcpctl.model.globs import matching
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.pairing import Model
from dcpctl.model.optimizer.source import StateEntry
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.sections import rooted
from dcpctl.training.held import Held, held
from dcpctl.training.pieces import Piece, Run, positions

#: What stands for a weight among the slots of its optimizer state; none is called so.
WEIGHT = ""
STEP = "step"
#: Neighbouring elements that one sample reads.
_RUN = 32
#: Parameters of one shape that are tried for what a parameter holds instead of its own.
_MOST_SWAPS = 16


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor or number that memory does not have as the checkpoint does.

    Attributes:
        name: the parameter, without wrapper names.
        slot: WEIGHT, or the slot of its optimizer state.
        kind: `differs`, `lacking` (not in memory), `zero` (all samples are 0 in memory and not on
            disk), `shape`, or `unknown` (not on disk).
        memory: of a number, what memory has.
        disk: of a number, what the checkpoint has.
        holds: the parameter whose values stand in memory instead, if one was found.
    """

    name: str
    slot: str
    kind: str
    memory: float | None = None
    disk: float | None = None
    holds: str = ""


@dataclass(slots=True)
class Comparison:
    """What one rank found.

    Attributes:
        known: names of the parameters that the checkpoint has.
        weights: names of those of which it compared something.
        states: names of the parameters whose optimizer state it compared.
        slots: names of the slots that it compared.
        differences: what differs.
        has_optimizer: the checkpoint has an optimizer.
        disk_steps: steps that the checkpoint has.
    """

    known: set[str] = field(default_factory=set)
    weights: set[str] = field(default_factory=set)
    states: set[str] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)
    has_optimizer: bool = True
    disk_steps: set[float] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor in memory that does not have the values of its entry."""

    name: str
    slot: str
    pieces: tuple[Piece, ...]
    entry: TensorEntry
    zero: bool


class Comparer:
    """Compares what one rank holds.

    Args:
        checkpoint: an open checkpoint.
        ignore: globs of parameter names that may differ.
        samples: places that are looked at in each piece of a tensor, at most: the first place at
            which not all numbers are the same is enough.
        rank: this rank; each looks at other places of what all hold.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, ignore: Sequence[str], samples: int, rank: int
    ) -> None:
        self.checkpoint = checkpoint
        self.view = OptimizerView(checkpoint)
        self.ignore = ignore
        self.samples = samples
        self.rank = rank
        self.found = Comparison(has_optimizer=bool(self.view.parameters))
        self._wrong: list[_Tensor] = []
        self._by_name: dict[str, list[Parameter]] = {}
        # Of several models: a name with its model's root, to the name within the model.
        self._bare: dict[str, str] = {}
        for parameter in self.view.parameters:
            for name in {strip_wrappers(parameter.name), parameter.key}:
                self._by_name.setdefault(name, []).append(parameter)

    def compare(
        self, models: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]
    ) -> Comparison:
        """Compare all, and return what differs."""
        parts = self._named(models)
        bare = [self._bare.get(part.name, part.name) for part in parts]
        names = {*bare, *(part.name for part in parts)}
        ignored = {name for glob in self.ignore for name in matching(names, glob)}
        pairs = zip(parts, bare, strict=True)
        kept = [part for part, name in pairs if not ignored & {part.name, name}]
        self._weights(kept)
        if self.found.has_optimizer:
            by_tensor: dict[int, list[Held]] = {}
            for part in kept:
                by_tensor.setdefault(id(part.tensor), []).append(part)
            for number, optimizer in enumerate(optimizers):
                self._optimizer(number, optimizer, by_tensor)
        self._name_swapped()
        return self.found

    def _named(self, models: Sequence[nn.Module]) -> list[Held]:
        """What modules hold; of several models each with the root of its own in the checkpoint.

        Which that is, the numbers tell where names do not: the one from which least differs.
        """
        if not self.view.sections.several:
            return held(models)
        found: list[Held] = []
        left = list(self.view.sections.models)
        for module in models:
            parts = held([module])
            best = min(left, key=lambda model: self._unlike(parts, model), default=None)
            if best is None:
                return found + parts
            left.remove(best)
            for part in parts:
                name = rooted(best.root, part.name)
                self._bare[name] = part.name
                found.append(replace(part, name=name))
        return found

    def _unlike(self, parts: Sequence[Held], model: Model) -> int:
        """How many of a module's parameters a model of the checkpoint lacks or has otherwise."""
        count = 0
        for part in parts:
            fqn = model.names.get(part.name)
            entry = None if fqn is None else self.checkpoint.entries[fqn]
            if not isinstance(entry, TensorEntry):
                count += not part.buffer
                continue
            for piece in part.pieces:
                runs = self._runs(piece, f"{part.name} {self.rank}")
                count += piece.shape != entry.shape or not all(
                    _same(piece.values(run), _read(entry, run)) for run in runs
                )
        return count

    def _weights(self, parts: Iterable[Held]) -> None:
        stored = self.view.sections.model
        for part in parts:
            fqn = stored.get(part.name)
            entry = None if fqn is None else self.checkpoint.entries[fqn]
            if not isinstance(entry, TensorEntry):
                if not part.buffer:  # a buffer that is not persistent is not saved
                    self.found.differences.append(Difference(part.name, WEIGHT, "unknown"))
                continue
            if not part.buffer and entry.numel:
                self.found.known.add(part.name)
                if part.pieces:
                    self.found.weights.add(part.name)
            self._tensor(part.name, WEIGHT, part.pieces, entry)

    def _optimizer(
        self,
        number: int,
        optimizer: torch.optim.Optimizer,
        by_tensor: Mapping[int, list[Held]],
    ) -> None:
        index = 0
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                for part in by_tensor.get(id(tensor), []):
                    stored = self._stored(part.name, index, number)
                    state = optimizer.state.get(tensor, {})
                    if stored is None:
                        if tensor.requires_grad:
                            self.found.differences.append(Difference(part.name, STEP, "unknown"))
                    elif part.pieces and stored.slots:
                        self.found.states.add(part.name)
                        self.found.slots.update(stored.slots)
                        for slot, entry in stored.slots.items():
                            self._slot(part, slot, entry, state)
                index += 1

    def _stored(self, name: str, index: int, number: int) -> Parameter | None:
        """What the checkpoint has of the parameter that the optimizer counts as `index`."""
        names = (name, self._bare.get(name, name), str(index))
        found = next((self._by_name[key] for key in names if key in self._by_name), [])
        roots = self.view.roots
        own = roots[number] if number < len(roots) else None
        return next((p for p in found if p.root == own), found[0] if found else None)

    def _slot(self, part: Held, slot: str, entry: StateEntry, state: Mapping[str, object]) -> None:
        value = state.get(slot)
        stored = self.checkpoint.entries.get(entry.fqn)
        if isinstance(value, torch.Tensor) and value.dim():
            if entry.parts == 1 and isinstance(stored, TensorEntry):
                self._tensor(part.name, slot, part.of_state(value), stored)
            return
        # Without a value in memory, only the step is worth a look at the disk.
        disk = entry.value() if value is not None or slot == STEP else None
        if slot == STEP and isinstance(disk, (int, float)):
            self.found.disk_steps.add(float(disk))
        if value is None:
            self.found.differences.append(Difference(part.name, slot, "lacking"))
        elif isinstance(disk, (int, float)) and isinstance(value, (int, float, torch.Tensor)):
            self._number(part.name, slot, value, disk)

    def _number(self, name: str, slot: str, value: float | torch.Tensor, disk: float) -> None:
        memory = float(value)
        if isinstance(value, torch.Tensor):  # as a load would have rounded it
            disk = float(torch.tensor(disk, dtype=torch.float64).to(value.dtype))
        if memory != disk and not (memory != memory and disk != disk):
            kind = "zero" if not memory and slot != STEP else "differs"
            self.found.differences.append(Difference(name, slot, kind, memory, float(disk)))

    def _tensor(self, name: str, slot: str, pieces: Sequence[Piece], entry: TensorEntry) -> None:
        wrong, zero = False, True
        for piece in pieces:
            if piece.shape != entry.shape:
                self.found.differences.append(Difference(name, slot, "shape"))
                return
            for run in self._runs(piece, f"{name} {slot} {self.rank}"):
                memory = piece.values(run)
                disk = _read(entry, run)
                zero = zero and not bool(_wide(memory).any())
                wrong = wrong or not _same(memory, disk)
                # Ones say nothing of a norm, nor zeros of an embedding's rows that no token used.
                if not wrong and bool((_wide(disk) != _wide(disk)[0]).any()):
                    break
        if wrong:
            self._wrong.append(_Tensor(name, slot, tuple(pieces), entry, zero))

    def _runs(self, piece: Piece, seed: str) -> Iterator[Run]:
        for position in positions(piece.numel, self.samples, seed):
            yield piece.run_at(position, _RUN)

    def _name_swapped(self) -> None:
        """Add what was found wrong, and find what tensors hold the values of another's entry."""
        alike: dict[tuple[str, tuple[int, ...]], list[_Tensor]] = {}
        for one in self._wrong:
            alike.setdefault((one.slot, one.entry.shape), []).append(one)
        for one in self._wrong:
            others = [] if one.zero else alike[one.slot, one.entry.shape][:_MOST_SWAPS]
            holds = next((o.name for o in others if o is not one and self._holds(one, o)), "")
            kind = "zero" if one.zero else "differs"
            self.found.differences.append(Difference(one.name, one.slot, kind, holds=holds))

    def _holds(self, one: _Tensor, other: _Tensor) -> bool:
        return all(
            _same(piece.values(run), _read(other.entry, run))
            for piece in one.pieces
            for run in self._runs(piece, f"{one.name} {one.slot} {self.rank}")
        )


def _read(entry: TensorEntry, run: Run) -> torch.Tensor:
    """Read a run of a tensor from disk, and no more; 1-d."""
    key = (*run.row, slice(run.start, run.stop)) if entry.shape else ()
    return torch_bridge.as_tensor(entry[key].reshape(-1), entry.dtype)


def _same(memory: torch.Tensor, disk: torch.Tensor) -> bool:
    """Whether memory has what a load of `disk` puts there; NaN is the same as NaN."""
    held, loaded = _wide(memory), _wide(disk.to(memory.dtype))
    return bool(((held == loaded) | ((held != held) & (loaded != loaded))).all())


def _wide(numbers: torch.Tensor) -> torch.Tensor:
    """The same numbers on the CPU in a dtype that can be compared: float8 and uint16 cannot."""
    numbers = numbers.detach().cpu()
    if numbers.is_complex():
        return numbers.to(torch.complex128)
    return numbers.to(torch.float64 if numbers.is_floating_point() else torch.int64)
