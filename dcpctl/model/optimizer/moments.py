"""Second moments: which slots hold them, and whether a save has lost all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from dcpctl.model.optimizer.view import OptimizerView

#: Slots whose numbers are means or sums of squares, so that none is negative.
SECOND_MOMENTS = frozenset(
    {
        *("exp_avg_sq", "max_exp_avg_sq", "exp_inf"),  # the Adams
        *("square_avg", "acc_delta", "sum"),  # RMSprop, Adadelta, Adagrad
        *("variance", "row_var", "col_var"),  # Adafactor
    }
)
#: Of these, the ones that a single gradient other than zero makes positive.
NEVER_ALL_ZERO = frozenset({"exp_avg_sq", "exp_inf", "square_avg", "sum", "variance"})

_MOST = 64
_BLOCK_BYTES = 64 << 10


def lost_moments(view: OptimizerView, entries: Mapping[str, Any]) -> bool:
    """Say whether second moments are zero after steps were taken, as far as a sample tells.

    `entries` are those of the checkpoint that `view` is of. Looks at the first 64 KiB of up to 64
    second moments and stops at the first number that is not zero, so that a healthy save costs one
    small read.

    Raises:
        DcpctlError: one of them cannot be read.
    """
    looked = False
    for entry in islice(_counted(view, entries), _MOST):
        for block in islice(entry.blocks(_BLOCK_BYTES), 1):
            if block.any():
                return False
            looked = looked or bool(block.size)
    return looked


def _counted(view: OptimizerView, entries: Mapping[str, Any]) -> Iterator[Any]:
    """The second moments of parameters that are at a step above 0."""
    steps = view.step_of
    for parameter in view.parameters:
        if steps.get(parameter.name, 0) > 0:
            for slot, state in parameter.slots.items():
                entry = entries.get(state.fqn)
                if slot in NEVER_ALL_ZERO and hasattr(entry, "blocks"):
                    yield entry
