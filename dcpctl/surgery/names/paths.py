"""What new FQNs mean: object paths for them, and whether a whole model moved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

Path = tuple[Any, ...]

# What a state dict calls its model, as `model.sections` knows them.
_ROOT = re.compile(r"(?i)(?:(?:app|state_dict|module)\.)?(?:model|module|state_dict|net|network)s?")


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


def moved_root(root: str, new: Mapping[str, str]) -> bool:
    """Say whether a rename moves a model as a whole, so that its parameters keep their names.

    It does where every entry of the model loses the same beginning and gets the same new one, and
    the old or the new beginning is no module of the model: the model's root (`model.` to `net.`,
    `model.` to nothing), or, for a model at top level, a name that state dicts give to models.

    Args:
        root: what the model's FQNs begin with; empty for a model at top level.
        new: every entry of the model, old FQN to new.
    """
    heads = set()
    for fqn, to in new.items():
        below = fqn[len(root) + 1 :] if root else fqn
        if to == below:
            heads.add("")
        elif to.endswith("." + below):
            heads.add(to[: -len(below) - 1])
        else:
            return False
        if len(heads) > 1:
            return False
    if len(heads) != 1:
        return False
    head = heads.pop()
    if root and head.startswith(root + "."):
        return False
    return head != root and (bool(root) or _ROOT.fullmatch(head) is not None)
