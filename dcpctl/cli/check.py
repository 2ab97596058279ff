"""`dcpctl check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def check(
    path: Annotated[Path, typer.Argument(help="A checkpoint.", show_default=False)],
    verify_data: Annotated[
        bool,
        typer.Option("--verify-data", help="Read every byte and compare every checksum."),
    ] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Read all numbers; find NaN and infinities.")
    ] = False,
    torch: Annotated[
        str | None,
        typer.Option(
            "--torch",
            metavar="RELEASE",
            help="The torch release that shall load it. [default: the installed one]",
        ),
    ] = None,
    expect_step: Annotated[
        int | None,
        typer.Option("--expect-step", metavar="N", help="The step that the optimizer should have."),
    ] = None,
    select: Annotated[
        list[str] | None,
        typer.Option(
            "--select", metavar="RULES", help="Only these: DCP103, DCP2xx; several with commas."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore", metavar="RULES", help="Not these.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail the check too.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit 0 whatever is found.")
    ] = False,
    max_findings: Annotated[
        int, typer.Option("--max-findings", min=0, help="List no more than so many; 0 for all.")
    ] = 200,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Find what is wrong with a checkpoint.

    Rules look at its structure (DCP1xx), files (DCP2xx), contents (DCP3xx), form (DCP4xx) and
    optimizer (DCP5xx); `dcpctl explain DCP103` says what one means. Of the contents a sample is
    read, and all of it with --verify-data. Exit code 1 says that there are errors. A rule that
    could not run is listed as skipped.

    Examples:
      dcpctl check sample_checkpoints/healthy/step-8500
      dcpctl check sample_checkpoints/flipped_bit --verify-data
      dcpctl check sample_checkpoints/legacy --torch 2.13
      dcpctl check sample_checkpoints/silent_reset/step-9500 --select DCP5xx --strict
    """
    out = Output.of(form, json, output, table_style, color)
    if torch is not None and not torch[:1].isdigit():
        raise UsageError(f"--torch takes a release such as 2.13, not {torch!r}")
    from dcpctl.check.engine import run_checks
    from dcpctl.check.options import CheckOptions
    from dcpctl.progress import Progress

    with Progress("reading", 0) as progress:
        result = run_checks(
            path,
            CheckOptions(
                select=_split(select),
                ignore=_split(ignore),
                strict=strict,
                max_findings=max_findings or None,
                verify_data=verify_data,
                values=values,
                torch=torch,
                expect_step=expect_step,
                progress=progress.reach,
            ),
        )
    failed = result.failed(strict)
    if out.is_json:
        from dcpctl.reports.check_json import check_document, finding_documents
        from dcpctl.reports.json_lines import document

        head = check_document(result, failed=failed)
        out.pieces(document(head, findings=finding_documents(result)))
    else:
        from dcpctl.reports.check_blocks import check_blocks

        out.blocks(check_blocks(result))
    if failed and not exit_zero:
        raise typer.Exit(1)


def _split(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for one in names or () for name in one.split(",") if name.strip())
