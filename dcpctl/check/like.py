"""The run that is going to load a checkpoint, known by what its state dict holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dcpctl.model.contract import Spec
from dcpctl.model.contract_file import read_contract
from dcpctl.model.fqn import Path as ObjectPath
from dcpctl.model.loading_keys import asked_by
from dcpctl.model.opening import open_checkpoint


@dataclass(frozen=True, slots=True)
class Like:
    """A state dict that a load is given.

    Attributes:
        path: where it was read: a contract, or a checkpoint that such a run saved.
        asked: FQN to what it asks for; in the state dict's order where there are paths.
        paths: object paths of its keys, where they are known.
    """

    path: Path
    asked: Mapping[str, Spec]
    paths: Mapping[str, ObjectPath] | None = None


def read_like(path: Path) -> Like:
    """Read what a run asks for from a contract, or from a checkpoint that it saved.

    Raises:
        InputError: it is neither.
        ReadFailed: the operating system failed to read.
    """
    if path.is_file():
        return Like(path, read_contract(path).entries)
    with open_checkpoint(path) as checkpoint:
        asked, paths = asked_by(checkpoint), checkpoint.planner_data
    # The planner data are in the state dict's order, in which torch looks for what is missing.
    order = {fqn: number for number, fqn in enumerate(paths or ())}
    return Like(path, {f: asked[f] for f in sorted(asked, key=lambda f: order.get(f, -1))}, paths)
