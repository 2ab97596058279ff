"""Step `step-tensor`: the optimizer's step as the target keeps it, a tensor or a plain number.

Nearly all of torch.optim keeps it as a float32 tensor since 1.12; what a job of an older release
saved is an int. Adadelta, RMSprop and Rprop changed in 2.4, and SparseAdam keeps an int (read off
each release's optimizers after a step).
"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.model.draft import BytesDraft, Draft, EntryDraft, TensorDraft
from dcpctl.model.optimizer.coverage import Parameter
from dcpctl.model.optimizer.source import plain_number
from dcpctl.model.source import Fill, NewValue
from dcpctl.surgery.upgrade.engine import Context, Done, step

_STEP = "step"
#: Optimizer -> last release that keeps an int; None: all do. The others keep a tensor.
_INT_UNTIL: dict[str, tuple[int, int] | None] = {
    "Adadelta": (2, 3),
    "RMSprop": (2, 3),
    "Rprop": (2, 3),
    "SparseAdam": None,
}
#: From this release on, what was saved as a tensor stays one.
_ALL_TENSORS = (2, 4)
#: Integers up to this are exact in float32.
_EXACT = 1 << 24


@step("step-tensor", 50)
def step_tensor(draft: Draft, context: Context) -> Done:
    """Turn numbers into tensors, or tensors into ints, where the target keeps the other."""
    numbers = any(
        isinstance(entry, BytesDraft) and fqn.endswith(f".{_STEP}")
        for fqn, entry in draft.entries.items()
    )
    if not numbers and context.release >= _ALL_TENSORS:
        return Done(draft)
    new: dict[str, EntryDraft] = {}
    for parameter, fqn in _steps(draft, context):
        entry = draft.entries[fqn]
        tensor = _keeps_tensor(parameter, context)
        made: EntryDraft | None = None
        if tensor and isinstance(entry, BytesDraft):
            made = _as_tensor(entry)
        elif tensor is False and isinstance(entry, TensorDraft) and entry.numel == 1:
            made = _as_int(entry)
        if made is not None:
            new[fqn] = made
    if not new:
        return Done(draft)
    entries = [new.get(fqn, entry) for fqn, entry in draft.entries.items()]
    to = "float32 tensors" if any(isinstance(e, TensorDraft) for e in new.values()) else "ints"
    count = f"{len(new):,} step{'' if len(new) == 1 else 's'} made {to}"
    return Done(draft.with_entries(entries, draft.planner_data), len(new), count)


def _steps(draft: Draft, context: Context) -> Iterator[tuple[Parameter, str]]:
    """The parameters whose step is an entry of its own."""
    for parameter in context.view(draft).parameters:
        slot = parameter.slots.get(_STEP)
        if slot is not None and slot.parts == 1 and slot.fqn.rpartition(".")[2] == _STEP:
            yield parameter, slot.fqn


def _keeps_tensor(parameter: Parameter, context: Context) -> bool | None:
    """Whether the target keeps a tensor; None where the optimizer is not known to be torch's."""
    if not parameter.kind.torch:
        return None
    answers = set()
    for optimizer in parameter.kind.torch:
        last = _INT_UNTIL.get(optimizer.name, (0, 0))
        answers.add(last is not None and context.release > last)
    return answers.pop() if len(answers) == 1 else None


def _as_tensor(entry: BytesDraft) -> TensorDraft | None:
    value = entry.value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > _EXACT:
        return None
    return TensorDraft(entry.fqn, (), "float32", Fill(float(value)), rank=entry.rank or 0)


def _as_int(entry: TensorDraft) -> BytesDraft | None:
    number = plain_number(entry.numpy())
    if not isinstance(number, (int, float)) or not float(number).is_integer():
        return None
    return BytesDraft(entry.fqn, NewValue(int(number)))
