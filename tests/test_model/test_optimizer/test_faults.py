"""State that is there and is not what its parameter needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from dcpctl.model.optimizer.faults import GAP, SHAPE, SHARE, Held, find_faults
from dcpctl.model.optimizer.source import StateEntry


@dataclass
class Chunks:
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass
class Entry:
    chunks: Chunks


def entry(*sizes: tuple[int, ...]) -> Entry:
    return Entry(Chunks(np.array(sizes, dtype=np.int64).reshape(len(sizes), -1)))


ENTRIES = {
    "model.w": entry((8, 4), (8, 4)),
    "model.uneven": entry((3, 4), (3, 4), (1, 4)),
    "model.whole": entry((6, 4)),
}
SHAPES = {"model.w": (16, 4), "model.uneven": (7, 4), "model.whole": (6, 4)}


def held(name: str, shape: tuple[int, ...], ruled: str = "", gap: str = "") -> Held:
    state = StateEntry(f"optim.state.{name}.m", shape, "float32", lambda: None, gap=gap)
    fqn = f"model.{name}"
    return Held(name, "m", state, ruled, fqn, SHAPES[fqn])


@pytest.mark.parametrize(
    ("slots", "kinds"),
    [
        ([held("w", (16, 4), "param")], {}),
        ([held("w", (8, 4), "param")], {"w": SHARE}),
        ([held("uneven", (1, 4), "param")], {"uneven": SHARE}),
        ([held("w", (32,), "param")], {"w": SHARE}),  # a flat piece
        ([held("w", (9, 4), "param")], {"w": SHAPE}),
        ([held("whole", (3, 4), "param")], {"whole": SHAPE}),
        ([held("w", (2,), "scalar")], {"w": SHAPE}),
        ([held("w", (8, 4), "other")], {}),
        # Of an optimizer that is not known all slots of a name have to agree.
        ([held("w", (8, 4)), held("uneven", (3, 4)), held("whole", (6, 4))],
         {"w": SHARE, "uneven": SHARE}),
        ([held("w", (8, 4)), held("uneven", (2, 2))], {}),
        ([held("w", (16, 4)), held("uneven", (7, 4))], {}),
        ([held("w", (16, 4), gap="'x' is not here")], {"w": GAP}),
    ],
)  # fmt: skip
def test_faults(slots: list[Held], kinds: dict[str, str]) -> None:
    entries = {**ENTRIES, **{one.state.fqn: entry(one.state.shape or (1,)) for one in slots}}
    found = find_faults(slots, entries)
    assert {name: fault.kind for name, faults in found.items() for fault in faults} == kinds


def test_sharded_state_is_no_share() -> None:
    one = held("w", (8, 4), "param")
    found = find_faults([one], {**ENTRIES, one.state.fqn: entry((4, 4), (4, 4))})
    assert found["w"][0].kind == SHAPE
