"""Globs over FQNs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate


def matching(fqns: Iterable[str], glob: str) -> list[str]:
    """Return the FQNs that a glob matches, in their order.

    As a shell has it, and `*` also matches dots. A plain name at a dot matches all below it, so
    that `model.layers.0` is all of that layer.
    """
    match = re.compile(translate(glob)).match
    within = glob.rstrip(".") + "."
    return [fqn for fqn in fqns if match(fqn) or fqn.startswith(within)]
