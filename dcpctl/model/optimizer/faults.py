"""State that is there and is not what its parameter needs: a part of it, or another's.

The verdict and the rules of `check` read the same faults, so they cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dcpctl.errors import quote
from dcpctl.model.optimizer.parameters import ModelParameter
from dcpctl.model.optimizer.source import RawOptimizer, StateEntry
from dcpctl.model.optimizer.ties import find_ties
from dcpctl.model.stages import find_stages

Shape = tuple[int, ...]

#: The bytes of a part of it are not in the checkpoint.
GAP = "incomplete"
#: It is whole and exactly one rank's share of a sharded parameter.
SHARE = "one rank's share"
#: It has another shape than the parameter.
SHAPE = "another shape"


@dataclass(frozen=True, slots=True)
class Fault:
    """One slot of one parameter that is not what the parameter needs.

    Attributes:
        kind: one of the constants above.
        slot: the state slot.
        fqn: the entry that holds it.
        why: what is wrong, a clause.
    """

    kind: str
    slot: str
    fqn: str
    why: str


@dataclass(frozen=True, slots=True)
class Held:
    """A slot beside what its parameter is: what faults are told from.

    Attributes:
        name: of the parameter.
        slot: the state slot.
        state: what holds it.
        ruled: the shape that the optimizer is known to keep it in (`param`, `scalar`, `other`);
            empty for an optimizer that is not known.
        fqn: the parameter's entry in the model.
        shape: of the parameter.
    """

    name: str
    slot: str
    state: StateEntry
    ruled: str
    fqn: str | None
    shape: Shape | None


def find_faults(held: Iterable[Held], entries: Mapping[str, Any]) -> dict[str, list[Fault]]:
    """Return the faults of each parameter that has some, by its name.

    A slot that an optimizer is known to keep in its parameter's shape is judged by itself. Of an
    optimizer that is not known a slot is taken for one rank's share only where it is that in
    every sharded parameter that does not have it in full, and never of a third shape: slots that
    hold something else (factors, preconditioners) agree with a share by accident, not always.

    Args:
        held: every slot of every parameter of one optimizer.
        entries: FQN to entry of the whole checkpoint.
    """
    found: dict[str, list[Fault]] = {}
    doubtful: dict[str, list[tuple[Held, str]]] = {}
    for one in held:
        if gap := one.state.gap:
            found.setdefault(one.name, []).append(Fault(GAP, one.slot, one.state.fqn, gap))
            continue
        relation = _relation(one, entries)
        if one.ruled:
            fault = _judge_ruled(one, relation)
            if fault is not None:
                found.setdefault(one.name, []).append(fault)
        elif relation:
            doubtful.setdefault(one.slot, []).append((one, relation))
    for members in doubtful.values():
        if all(relation in (_FULL, SHARE) for _, relation in members):
            for one, relation in members:
                if relation == SHARE:
                    found.setdefault(one.name, []).append(_share(one))
    return found


_FULL, _OTHER = "full", "other"


def _relation(one: Held, entries: Mapping[str, Any]) -> str:
    """How a slot's shape relates to its parameter's; empty where that says nothing."""
    state, shape = one.state, one.shape
    if shape is None or one.fqn is None or state.shape is None or not state.shape:
        return ""
    if state.shape == shape:
        return _FULL
    if is_whole(entries.get(state.fqn)) and is_share(state.shape, shape, entries.get(one.fqn)):
        return SHARE
    return _OTHER


def _judge_ruled(one: Held, relation: str) -> Fault | None:
    if one.ruled == "param" and relation == SHARE:
        return _share(one)
    if one.ruled == "param" and one.fqn is not None and one.shape is not None:
        if one.state.shape is not None and one.state.shape != one.shape:
            why = f"{list(one.state.shape)}, its parameter {quote(one.fqn)} is {list(one.shape)}"
            return Fault(SHAPE, one.slot, one.state.fqn, why)
    elif one.ruled == "scalar" and one.state.shape is not None and not one.state.is_scalar:
        why = f"{list(one.state.shape)}, expected one number"
        return Fault(SHAPE, one.slot, one.state.fqn, why)
    return None


def _share(one: Held) -> Fault:
    assert one.state.shape is not None and one.shape is not None
    why = f"{list(one.state.shape)} of {list(one.shape)}"
    return Fault(SHARE, one.slot, one.state.fqn, why)


def is_whole(entry: Any) -> bool:
    """Whether one chunk holds all of a tensor, or a value inside a pickled dict."""
    chunks = getattr(entry, "chunks", None)
    return chunks is None or len(chunks) == 1


def is_share(shape: Shape, whole: Shape, entry: Any) -> bool:
    """Whether a shape is that of one chunk of a parameter that several chunks make up.

    Ranks that hold flat pieces (FSDP1) keep as many numbers in one dimension.

    Args:
        shape: of the state.
        whole: of the parameter.
        entry: the parameter's; one without chunks has no shares.
    """
    chunks = getattr(entry, "chunks", None)
    if chunks is None or len(chunks) < 2 or chunks.sizes.shape[1] != len(whole):
        return False
    sizes = np.unique(chunks.sizes, axis=0)
    if (sizes == np.array(whole)).all(axis=1).any():
        return False
    if len(shape) == len(whole):
        return bool((sizes == np.array(shape)).all(axis=1).any())
    return len(shape) == 1 and len(whole) > 1 and shape[0] in sizes.prod(axis=1).tolist()


def overwritten(
    raw: RawOptimizer,
    keys: Collection[str],
    model: Sequence[ModelParameter],
    entries: Mapping[str, Any],
) -> str:
    """Tell how the indices of an optimizer show that several ranks wrote them, a clause.

    Ranks that count their own parameters from 0, as pipeline stages do, write different parameters
    under one index, of which DCP keeps one.

    Args:
        raw: an index-keyed optimizer.
        keys: the indices of its param groups.
        model: the parameters of its model.
        entries: FQN to entry of the whole checkpoint.

    Returns:
        The clause; empty where nothing shows it.
    """
    strays = [key for key in raw.state if key not in keys]
    if strays and any(group.params for group in raw.groups) and not raw.params_unknown:
        return (
            f"index {strays[0]} has state and the param groups end before it, so the state is that "
            "of several ranks' optimizers under the same indices"
        )
    if len(keys) >= len(model) - len(find_ties(model, entries).tied):
        return ""
    ranks: dict[str, tuple[int, ...]] = {p.fqn: getattr(entries[p.fqn], "ranks", ()) for p in model}
    stages = find_stages({fqn: held[0] for fqn, held in ranks.items() if len(held) == 1})
    if stages is None:
        return ""
    return (
        f"{len(keys):,} indices stand for the {len(model):,} parameters of {stages.ranks} pipeline "
        "ranks, each of which counted its own from 0"
    )


def listed_faults(faults: Sequence[tuple[str, Fault]]) -> dict[tuple[str, ...], list[str]]:
    """Group the faults of one kind for a sentence: slots to the parameters that have these.

    Args:
        faults: (parameter, fault).
    """
    slots: dict[str, dict[str, None]] = {}
    for name, fault in faults:
        slots.setdefault(name, {})[fault.slot] = None
    found: dict[tuple[str, ...], list[str]] = {}
    for name, of in slots.items():
        found.setdefault(tuple(of), []).append(name)
    return found
