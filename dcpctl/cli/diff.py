"""`dcpctl diff`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpctl.cli.options import (
    Color,
    ColorOption,
    FormOption,
    JsonOption,
    Output,
    OutputOption,
    StyleOption,
)
from dcpctl.errors import UsageError

if TYPE_CHECKING:
    from dcpctl.diff.options import DiffOptions

_PANEL = "Narrow it; several add up"

A = Annotated[Path, typer.Argument(metavar="A", help="A checkpoint.", show_default=False)]
B = Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)]
KeysOnly = Annotated[
    bool, typer.Option("--keys-only", help="Keys, shapes and dtypes.", rich_help_panel=_PANEL)
]
Layout = Annotated[
    bool,
    typer.Option("--layout", help="How tensors lie over the ranks.", rich_help_panel=_PANEL),
]
Optimizer = Annotated[
    bool,
    typer.Option(
        "--optimizer", help="Kind, coverage, param groups and steps.", rich_help_panel=_PANEL
    ),
]
Values = Annotated[
    bool,
    typer.Option(
        "--values",
        help="All numbers and objects, whatever their names, dtypes and layouts.",
        rich_help_panel=_PANEL,
    ),
]
LayoutMapOf = Annotated[
    str | None,
    typer.Option(
        "--layout-map",
        metavar="FQN",
        help="Draw which rank holds what of one tensor, side by side.",
        rich_help_panel=_PANEL,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        "--tolerance",
        metavar="NUMBER",
        help="With --values: differences up to this do not count. [default: 0]",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="GLOB", help="Leave keys out; may be repeated."),
]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="Threads. [default: one a processor, at most 8]"),
]
ExitZero = Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever differs.")]


def diff(
    a: A,
    b: B,
    keys_only: KeysOnly = False,
    layout: Layout = False,
    optimizer: Optimizer = False,
    values: Values = False,
    layout_map: LayoutMapOf = None,
    tolerance: Tolerance = None,
    ignore: Ignore = None,
    jobs: Jobs = None,
    exit_zero: ExitZero = False,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say what differs between two checkpoints, and what a load of A would silently lose.

    Compares keys (renames are found, and told as the command that makes them), shapes and dtypes,
    the layout over ranks, the optimizer, objects by value, and the numbers of tensors as far as
    stored checksums tell; no tensor is read unless --values asks for it. Options narrow it, and
    what is not compared does not count. Exit code 1 says that something differs.

    Examples:
      dcpctl diff sample_checkpoints/healthy/step-8500 sample_checkpoints/model_only/step-8500
      dcpctl diff sample_checkpoints/healthy/step-8500 sample_checkpoints/fsdp_tp_2x2 --layout
      dcpctl diff sample_checkpoints/legacy sample_checkpoints/zstd --values
    """
    from dcpctl.diff.options import DiffOptions

    out = Output.of(form, json, output, table_style, color)
    if tolerance is not None and not values:
        raise UsageError("--tolerance is for --values")
    options = DiffOptions(
        keys_only=keys_only,
        layout=layout,
        optimizer=optimizer,
        values=values,
        tolerance=_tolerance(tolerance),
        ignore=tuple(ignore or ()),
        threads=jobs,
    )
    if layout_map is None:
        same = _compare(a, b, options, out)
    elif options != DiffOptions(threads=jobs):
        raise UsageError("--layout-map is a view of its own; nothing else is compared with it")
    else:
        same = _map(a, b, layout_map, out)
    if not same and not exit_zero:
        raise typer.Exit(1)


def _compare(a: Path, b: Path, options: DiffOptions, out: Output) -> bool:
    from dcpctl.diff.engine import diff as compare
    from dcpctl.model.opening import open_checkpoint
    from dcpctl.progress import Progress
    from dcpctl.surgery.edits import names_after

    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        with Progress("comparing", 0) as progress:
            found = compare(
                one,
                other,
                dataclasses.replace(options, progress=progress.reach),
                try_rename=lambda renaming: names_after(one, renaming),
            )
        if out.is_json:
            from dcpctl.reports.diff_json import diff_document, diff_lists
            from dcpctl.reports.json_lines import document

            out.pieces(document(diff_document(found), **diff_lists(found)))
        else:
            from dcpctl.reports.diff_blocks import diff_blocks

            out.blocks(diff_blocks(found))
    for _, _, error in found.unread:
        raise error
    return found.same


def _map(a: Path, b: Path, fqn: str, out: Output) -> bool:
    from dcpctl.diff.engine import layout_map
    from dcpctl.model.opening import open_checkpoint

    with open_checkpoint(a) as one, open_checkpoint(b) as other:
        found = layout_map(one, other, fqn)
    if out.is_json:
        from dcpctl.reports.diff_json import map_document
        from dcpctl.reports.json_lines import document

        out.pieces(document(map_document(a, b, found)))
    else:
        from dcpctl.reports.diff_map import map_blocks

        out.blocks(map_blocks(a, b, found))
    return found.same


def _tolerance(text: str | None) -> float:
    try:
        number = float(text or 0)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise UsageError(f"--tolerance takes a number of at least 0, not {text!r}")
    return number
