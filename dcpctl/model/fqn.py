"""The grammar of FQNs: object paths, and the names that wrappers leave in them.

A checkpoint names its tensors by dotted FQNs, but a key of a state dict may itself contain dots,
so only the planner data (first in 2.0) say where one key ends. Everything here works on both.
"""

from __future__ import annotations

from collections.abc import Mapping

Path = tuple[str | int, ...]

# torch.compile (torch/_dynamo/eval_frame.py), activation checkpointing
# (torch/distributed/algorithms/_checkpoint/checkpoint_wrapper.py) and FSDP1
# (torch/distributed/fsdp/_common_utils.py; `_fpw_module` before 2.0).
WRAPPERS = (
    "_orig_mod",
    "_checkpoint_wrapped_module",
    "_fsdp_wrapped_module",
    "_fpw_module",
)
# DDP's attribute. A model may have a submodule of that name, so it counts as a wrapper only
# where a parameter's name begins with it.
DDP_WRAPPER = "module"
# FSDP1 with use_orig_params=False flattens a module's parameters into one of this name.
FLAT_PARAMETERS = ("_flat_param", "flat_param")

_MAX_INDEX_DIGITS = 9
_NAMES_BEFORE_A_PARAMETER = ("model", "state_dict", "state", "param_groups")


def object_path(fqn: str, planner_data: Mapping[str, Path] | None) -> Path:
    """Return the object path of an entry: the keys that lead to it in the state dict.

    Args:
        fqn: flattened key.
        planner_data: DCP's map from FQN to path (None before 2.0 and in Megatron's checkpoints).

    Returns:
        The planner data's path; where there is none, the FQN's components between dots.
    """
    if planner_data is not None:
        path = planner_data.get(fqn)
        if path:
            return path
    return tuple(fqn.split("."))


def wrappers_in(fqn: str) -> tuple[str, ...]:
    """Return the wrapper names that leaked into an FQN, in order and each once.

    `module` counts only at the start of the parameter's name: at the start of the FQN, or right
    after `model`, `state_dict`, `state` or `param_groups`.
    """
    components = fqn.split(".")
    found = [component for component in components if component in WRAPPERS]
    before = ["", *components]
    for previous, component in zip(before, components[:-1], strict=False):
        starts_here = previous == "" or previous in _NAMES_BEFORE_A_PARAMETER
        if component == DDP_WRAPPER and starts_here:
            found.append(component)
    return tuple(dict.fromkeys(found))


def strip_wrappers(name: str) -> str:
    """Return a parameter's name without wrapper names: the same for every way to wrap a model.

    `name` is relative to its model (`module.layers.0.w`), not a whole FQN.
    """
    if "_" not in name and not name.startswith(DDP_WRAPPER):
        return name
    kept = [component for component in name.split(".") if component not in WRAPPERS]
    first = 0
    while first < len(kept) - 1 and kept[first] == DDP_WRAPPER:
        first += 1
    return ".".join(kept[first:])


def is_index(component: str) -> bool:
    """Say whether a component is an index: of a list, or of an `optimizer.state_dict()`."""
    return len(component) <= _MAX_INDEX_DIGITS and component.isascii() and component.isdigit()


def is_flat_parameter(fqn: str) -> bool:
    """Say whether an FQN names a FlatParameter, or an optimizer state slot of one."""
    return any(component in FLAT_PARAMETERS for component in fqn.split("."))


def common_prefixes(names: tuple[str, ...]) -> tuple[str, ...]:
    """Shorten a list of names for a sentence: whole modules as `layers.0.*`, others as they are.

    Names are grouped by their first two components; a group of one keeps its name.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        components = name.split(".")
        depth = 2 if len(components) > 2 else 1
        groups.setdefault(".".join(components[:depth]), []).append(name)
    return tuple(
        members[0] if len(members) == 1 else f"{prefix}.*" for prefix, members in groups.items()
    )
