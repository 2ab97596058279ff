"""`dcpctl reshard`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpctl.cli.surgery_options import (
    OptimizerOfOption,
    Run,
    SourceArgument,
    pairs_of,
    with_run_anew,
)
from dcpctl.errors import UsageError, quote

if TYPE_CHECKING:
    from dcpctl.surgery.edits import Reshard

WorldSizeOption = Annotated[
    int | None,
    typer.Option("--world-size", "-n", metavar="N", min=1, help="Ranks, under FSDP2 over all."),
]
MeshOption = Annotated[
    str | None,
    typer.Option("--mesh", metavar="AXIS=SIZE,...", help="A device mesh: fsdp=4,tp=2."),
]
PlacementsOption = Annotated[
    Path | None,
    typer.Option(
        "--placements",
        metavar="FILE",
        help="Globs to placements, such as S(0) and R; TOML or JSON.",
    ),
]
LikeOption = Annotated[
    Path | None, typer.Option("--like", metavar="PATH", help="A checkpoint whose layout to copy.")
]


@with_run_anew
def reshard(
    source: SourceArgument,
    target: Annotated[
        Path | None,
        typer.Argument(metavar="DST", help="The directory to make.", show_default=False),
    ] = None,
    world_size: WorldSizeOption = None,
    mesh: MeshOption = None,
    placements: PlacementsOption = None,
    like: LikeOption = None,
    optimizer_of: OptimizerOfOption = None,
    *,
    run: Run,
) -> None:
    """Lay a checkpoint out for another number of ranks or another mesh; values stay bit for bit.

    The chunks are those that FSDP2 and DTensor would write, one file a rank. torch loads a
    checkpoint of any layout; one that fits is loaded faster, and some loaders accept no other.
    Under torchrun, on one machine or several, the ranks share the work: torchrun --nnodes 2
    --nproc-per-node 4 ... -m dcpctl reshard SRC DST --world-size 64.

    A file of placements says a placement for each axis of the mesh, by glob:
    "*.wo.weight" = ["S(0)", "S(1)"].

    Examples:
      dcpctl reshard sample_checkpoints/healthy/step-8500 out/two --world-size 2
      dcpctl reshard sample_checkpoints/healthy/step-8500 out/mesh --mesh fsdp=2,tp=2
      dcpctl reshard out/two out/again --like sample_checkpoints/healthy/step-8500
    """
    if run.in_place:
        raise UsageError("a reshard rewrites tensors, so there is no --in-place")
    if target is None:
        raise UsageError("no destination", hint="name a new directory")
    edit = reshard_edit(world_size, mesh, placements, like)
    edit = dataclasses.replace(edit, optimizer_of=pairs_of(optimizer_of))
    run.carry_out("reshard", source, target, [edit])


def reshard_edit(
    world_size: int | None, mesh: str | None, placements: Path | None, like: Path | None
) -> Reshard:
    """Put the options of a layout together.

    Raises:
        UsageError: the mesh is malformed, or the placements.
    """
    from dcpctl.surgery.edits import Reshard
    from dcpctl.surgery.placements import read_placements

    given = None if placements is None else read_placements(placements)
    return Reshard(world_size, None if mesh is None else parse_mesh(mesh), given, like)


def parse_mesh(text: str) -> dict[str, int]:
    """Read `fsdp=4,tp=2`.

    Raises:
        UsageError: it is not that.
    """
    mesh: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (piece.strip() for piece in part.partition("="))
        if not axis or axis in mesh or not size.isdecimal() or not int(size[:9]) > 0:
            raise UsageError(f"{quote(text)} is not a mesh", hint="such as fsdp=4,tp=2")
        mesh[axis] = int(size[:9])
    return mesh
