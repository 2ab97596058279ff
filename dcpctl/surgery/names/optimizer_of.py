"""Which optimizer belongs to which model, where a person says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from dcpctl.errors import UsageError, listed
from dcpctl.model.draft import Draft
from dcpctl.model.sections import classify

#: Optimizer root and model root.
Pair = tuple[str, str]


def with_pairs(draft: Draft, pairs: Iterable[Pair]) -> Draft:
    """Let pairs decide which optimizer belongs to which model.

    Args:
        draft: the checkpoint.
        pairs: root of an optimizer and of its model, each as the FQNs begin.

    Raises:
        UsageError: the checkpoint has no such optimizer, or no such model.
    """
    decided = dict(pairs)
    if not decided:
        return draft
    sections = classify(draft)
    optimizers = [raw.root for raw in sections.optimizers]
    models = [*(m.root for m in sections.models), *(copy.root for copy in sections.copies)]
    for what, given, have in (
        ("optimizer", decided.keys(), optimizers),
        ("model", decided.values(), models),
    ):
        wrong = [name for name in given if name not in have]
        if wrong:
            there = listed(have) if have else "none"
            raise UsageError(
                f"--optimizer-of: the checkpoint has no {what} {listed(wrong)}",
                hint=f"its {what}s: {there}",
            )
    return dataclasses.replace(draft, optimizer_of={**draft.optimizer_of, **decided})
