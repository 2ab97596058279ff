"""Object paths for new FQNs: the planner data's part of a rename."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

Path = tuple[Any, ...]


def renamed_paths(
    planner_data: Mapping[str, Path] | None, new: Mapping[str, str]
) -> dict[str, Path] | None:
    """Return the planner data under new FQNs.

    Args:
        planner_data: FQN to object path; None stays None.
        new: old FQN to new one; those that are not in it keep theirs.
    """
    if planner_data is None:
        return None
    return {
        new.get(fqn, fqn): renamed_path(fqn, path, new.get(fqn, fqn))
        for fqn, path in planner_data.items()
    }


def renamed_path(fqn: str, path: Path, new: str) -> Path:
    """Return the object path of an entry that is called `new` from now on.

    A key of a state dict may contain dots, so the path says more than the FQN. Where keys began,
    keys begin: at the same component if the FQN keeps its length, else in what the two FQNs have
    in common at their ends. Path components that stay keep their type (an int is a list's index).
    """
    if new == fqn:
        return path
    starts: dict[int, Any] = {}
    tokens: list[str] = []
    for key in path:
        starts[len(tokens)] = key
        tokens.extend(str(key).split("."))
    to = new.split(".")
    if ".".join(tokens) != fqn:
        return (new,)
    head, tail = _common(tokens, to)
    shift = len(to) - len(tokens)
    cuts = {0: 0}
    for start in starts:
        if start <= head or shift == 0:
            cuts[start] = start
        elif start >= len(tokens) - tail:
            cuts[start + shift] = start
    bounds = [*sorted(cut for cut in cuts if cut < len(to)), len(to)]
    made: list[Any] = []
    for begin, end in pairwise(bounds):
        text = ".".join(to[begin:end])
        old = starts.get(cuts[begin])
        made.append(old if str(old) == text else text)
    return tuple(made)


def _common(before: list[str], after: list[str]) -> tuple[int, int]:
    """How many tokens two names share at their beginnings, and of the rest at their ends."""
    most = min(len(before), len(after))
    head = 0
    while head < most and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < most - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    return head, tail
