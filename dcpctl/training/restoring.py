"""What `set_state_dict` would do with what was loaded: it may look for other names than were saved.

Under FSDP1 torch takes wrappers' names out of a parameter's name on the way down the modules, and
does not see an FSDP module that lies in an activation checkpoint's wrapper: `set_state_dict` then
looks for the state of `blocks.0._fsdp_wrapped_module.w1.weight`, which `get_state_dict` has written
as that of `blocks.0.w1.weight`. Source: torch/distributed/checkpoint/state_dict.py, `_get_fqns`, of
2.13; the function itself is asked, so that a release without this fault is believed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterator
from typing import Any

from torch import nn

from dcpctl.model.fqn import strip_wrappers

_WRAPPERS = "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"
_INSIDE = "_fsdp_wrapped_module"


def unrestorable(states: Collection[str], model: nn.Module | None = None) -> tuple[str, ...]:
    """Return the names that `set_state_dict` would look for and not find.

    Args:
        states: names of the parameters whose optimizer state is asked for.
        model: the model; None to look at all that are alive in this process, as a state dict does
            not say which it was made from.
    """
    found: dict[str, None] = {}
    for module in _wrappers() if model is None else (model,):
        looked = dict(_looked_for(module))
        # Of other models alive, those whose parameters are not asked for are none of this load.
        if looked and all(any(_ends(state, name) for state in states) for name in looked):
            found.update(dict.fromkeys(looked.values()))
    return tuple(found)


def _wrappers() -> Iterator[nn.Module]:
    """The activation checkpoints' wrappers that are alive in this process."""
    loaded: Any = sys.modules.get(_WRAPPERS)
    if loaded is not None and "torch.distributed.fsdp" in sys.modules:
        yield from (one for one in gc.get_objects() if type(one) is loaded.CheckpointWrapper)


def _looked_for(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Name of a parameter in the state dict, and the other that `set_state_dict` looks for."""
    from torch.distributed.checkpoint.state_dict import _get_fqns

    names_of: Any = getattr(_get_fqns, "__wrapped__", _get_fqns)  # the cache would keep the module
    for name, _ in module.named_parameters():
        for fqn in names_of(module, name):
            if _INSIDE in fqn:
                yield strip_wrappers(name), fqn


def _ends(state: str, name: str) -> bool:
    return state == name or state.endswith(f".{name}")
