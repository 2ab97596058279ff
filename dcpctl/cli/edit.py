"""`dcpctl edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dcpctl.cli.ordered import Ordered, given_in_order
from dcpctl.cli.reshard import (
    LikeOption,
    MeshOption,
    PlacementsOption,
    WorldSizeOption,
    reshard_edit,
)
from dcpctl.cli.surgery_options import (
    OptimizerOfOption,
    Run,
    SourceArgument,
    TargetArgument,
    pairs_of,
    with_run,
)
from dcpctl.cli.upgrade import (
    FillOption,
    OptimizerKeysOption,
    OptimizerOption,
    TorchOption,
    WrappersOption,
)
from dcpctl.errors import UsageError

#: The class of this command: its options count in the order in which they are given.
COMMAND = Ordered
_PANEL = "Edits, made in the order given"


def _edit(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PANEL, **settings)


@with_run
def edit(
    context: typer.Context,
    source: SourceArgument,
    target: TargetArgument = None,
    rename: Annotated[
        list[str] | None, _edit("--rename", metavar="OLD=NEW", help="A key, parameter or module.")
    ] = None,
    rename_prefix: Annotated[
        list[str] | None, _edit("--rename-prefix", metavar="OLD=NEW", help="What names begin with.")
    ] = None,
    rename_regex: Annotated[
        list[str] | None, _edit("--rename-regex", metavar="PATTERN=NEW", help="Matched anywhere.")
    ] = None,
    rename_map: Annotated[
        list[Path] | None, _edit("--rename-map", metavar="FILE", help="Names in a file.")
    ] = None,
    drop: Annotated[
        list[str] | None, _edit("--drop", metavar="GLOB", help="Leave these keys out.")
    ] = None,
    select: Annotated[
        list[str] | None, _edit("--select", metavar="GLOB", help="Keep only these keys.")
    ] = None,
    set_: Annotated[
        list[str] | None, _edit("--set", metavar="KEY=VALUE", help="Set a value.")
    ] = None,
    cast: Annotated[
        list[str] | None,
        _edit("--cast", metavar="GLOB=DTYPE", help="Cast tensors; DTYPE alone casts the model."),
    ] = None,
    merge: Annotated[
        list[Path] | None, _edit("--merge", metavar="PATH", help="Add another checkpoint's keys.")
    ] = None,
    upgrade: Annotated[
        bool, _edit("--upgrade", help="Bring it into the form that a torch release loads.")
    ] = False,
    edits: Annotated[
        list[Path] | None, _edit("--edits", metavar="FILE", help="A list of edits as TOML.")
    ] = None,
    world_size: WorldSizeOption = None,
    mesh: MeshOption = None,
    placements: PlacementsOption = None,
    like: LikeOption = None,
    torch: TorchOption = None,
    optimizer: OptimizerOption = None,
    optimizer_keys: OptimizerKeysOption = None,
    fill_missing_state: FillOption = None,
    with_state: Annotated[
        bool, typer.Option("--with-state", help="For --drop and --select: optimizer state too.")
    ] = False,
    wrappers: WrappersOption = None,
    optimizer_of: OptimizerOfOption = None,
    allow_lossy: Annotated[
        bool, typer.Option("--allow-lossy", help="For --cast: also where numbers are rounded.")
    ] = False,
    *,
    run: Run,
) -> None:
    """Make several edits in one pass over the data.

    Edits are made in the order in which they are given, each on what the one before it left; edits
    of one kind that follow each other are one. --torch, --optimizer, --optimizer-keys,
    --fill-missing-state and --wrappers are for --upgrade. The same list can stand in a TOML file,
    to be reviewed and repeated: [[edits]] tables with a verb and its fields, such as verb = "drop"
    and keys = ["lr_scheduler.*"].

    Examples:
      dcpctl edit sample_checkpoints/legacy out/new --upgrade --torch 2.13 --set lr=1e-4
      dcpctl edit out/new out/two --rename layers=blocks --drop '*.1.ffn*' --world-size 2
      dcpctl edit out/new --set step=0 --set betas=0.9,0.99 --in-place
    """
    upgrading = (torch, optimizer, optimizer_keys, fill_missing_state, wrappers)
    if not upgrade and any(option is not None for option in upgrading):
        raise UsageError("--torch and the optimizer's options are for --upgrade")
    from dcpctl.cli import edit_list

    path = run.alone(target)
    wanted = edit_list.Wanted(
        upgrade={
            "torch": torch,
            "optimizer": optimizer,
            "optimizer_keys": optimizer_keys,
            "fill_missing_state": fill_missing_state,
            "wrappers": wrappers,
        },
        reshard=lambda: reshard_edit(world_size, mesh, placements, like),
        with_state=with_state,
        allow_lossy=allow_lossy,
    )
    made = edit_list.edits_in_order(given_in_order(context), wanted)
    made = edit_list.with_pairs(made, pairs_of(optimizer_of))
    run.carry_out("edit", source, path, made)
