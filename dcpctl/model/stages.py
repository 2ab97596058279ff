"""Layers by their numbers: which ranks wrote which, and which numbers are missing.

A model's repeated blocks are told by structure: names that differ in one number and agree in what
follows it. Pipeline parallelism shows in who wrote them: each block whole by one rank, where data
parallelism spreads the tensors of a block over the ranks that saved it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Lists of blocks by the names that people give them. Only where a block is one module with
# parameters of its own does it take a name: numbers in a torch.nn.Sequential skip activations.
_BLOCKS = re.compile(r"(?i)(?:.*_)?(?:layers?|h|blocks?|stages?|groups?)")
# Fewer numbers than this make no numbering that one could miss some of.
_LEAST, _LEAST_PLAIN = 3, 4


@dataclass(frozen=True, slots=True)
class Stages:
    """Pipeline stages.

    Attributes:
        ranks: how many ranks hold layers.
        chunks: stages of the rank that has most; 1 unless they are interleaved.
    """

    ranks: int
    chunks: int

    @property
    def words(self) -> str:
        """`pipeline 2-way`, `pipeline 2-way, interleaved (2 stages a rank)`."""
        if self.chunks == 1:
            return f"pipeline {self.ranks}-way"
        return f"pipeline {self.ranks}-way, interleaved ({self.chunks} stages a rank)"


def numbered(name: str) -> tuple[str, int, str] | None:
    """Split a name at its first number: `model.layers.3.wq.weight` -> model.layers, 3, wq.weight.

    None for a name without a number, and for one whose number is last.
    """
    keys = name.split(".")
    for place, key in enumerate(keys[1:-1], start=1):
        if key.isdecimal() and key.isascii() and len(key) < 7:
            return ".".join(keys[:place]), int(key), ".".join(keys[place + 1 :])
    return None


def find_stages(holders: Mapping[str, int]) -> Stages | None:
    """Tell pipeline stages from who wrote the whole tensors of a model; None if there are none.

    The optimizer's state counts with the blocks that it belongs to, so that two tensors of a block
    which happen to lie on one rank are not taken for a stage.

    Args:
        holders: FQN of a tensor to the rank that wrote it, each tensor whole.
    """
    lists: dict[str, dict[int, list[int]]] = {}
    for name, rank in holders.items():
        parts = numbered(name)
        if parts is not None:
            prefix = parts[0].rpartition(".state.")[2]
            if prefix.rpartition(".")[2] != "state":  # a number there is a parameter's index
                lists.setdefault(prefix, {}).setdefault(parts[1], []).append(rank)
    for prefix in sorted(lists, key=len):
        longer = next((p for p in lists if p.endswith(f".{prefix}")), None)
        if longer is not None:
            for number, ranks in lists.pop(prefix).items():
                lists[longer].setdefault(number, []).extend(ranks)
    layers = max(lists.values(), key=len, default={})
    members = sum(map(len, layers.values()))
    if len(layers) < 2 or members < 2 * len(layers):
        return None
    if any(len(set(ranks)) > 1 for ranks in layers.values()):
        return None
    order = [layers[number][0] for number in sorted(layers)]
    if len(set(order)) < 2:
        return None
    runs = [rank for place, rank in enumerate(order) if place == 0 or order[place - 1] != rank]
    return Stages(len(set(order)), max(runs.count(rank) for rank in runs))


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers that are missing from the numbering of a list of blocks.

    Attributes:
        prefix: what the names begin with, the number follows.
        present: numbers that are there.
        missing: numbers between the lowest and the highest that are not.
        example: a name that is there.
    """

    prefix: str
    present: tuple[int, ...]
    missing: tuple[int, ...]
    example: str


def missing_numbers(shapes: Mapping[str, tuple[int, ...]]) -> list[Gap]:
    """Find numbers that are missing from an otherwise regular numbering.

    Regular is one of blocks with equal names and shapes inside. A block that is a single module
    (`net.0.weight`) may stand in a `torch.nn.Sequential`, whose numbers skip what has no
    parameters; there the list has to be named as one of blocks.

    Args:
        shapes: the model's tensors, name to shape.
    """
    lists: dict[str, dict[int, dict[str, tuple[int, ...]]]] = {}
    for name, shape in shapes.items():
        parts = numbered(name)
        if parts is not None:
            prefix, number, rest = parts
            lists.setdefault(prefix, {}).setdefault(number, {})[rest] = shape
    found = []
    for prefix, blocks in lists.items():
        missing = sorted({*range(min(blocks), max(blocks))} - blocks.keys())
        if missing and _is_regular(prefix, blocks.values()):
            number = min(blocks)
            example = f"{prefix}.{number}.{next(iter(blocks[number]))}"
            found.append(Gap(prefix, tuple(sorted(blocks)), tuple(missing), example))
    return found


def _is_regular(prefix: str, blocks: Iterable[Mapping[str, tuple[int, ...]]]) -> bool:
    """Whether all blocks are alike, and are blocks and no parts of a Sequential."""
    every = list(blocks)
    if any(block != every[0] for block in every):
        return False
    plain = all("." not in rest for rest in every[0])
    if not plain:
        return len(every) >= _LEAST
    named = _BLOCKS.fullmatch(prefix.rpartition(".")[2]) is not None
    return named and len(every) >= _LEAST_PLAIN and len(every[0]) > 1
