"""Whether a rename moves a whole model or renames parameters inside it."""

from __future__ import annotations

import re
from collections.abc import Mapping

# What a state dict calls its model, as `model.sections` knows them.
_ROOT = re.compile(r"(?i)(?:(?:app|state_dict|module)\.)?(?:model|module|state_dict|net|network)s?")


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
