"""`dcpctl signature`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcpctl.cli.options import (
    Color,
    ColorOption,
    Form,
    FormOption,
    JsonOption,
    Output,
    OutputOption,
    StyleOption,
)
from dcpctl.cli.parsing import Command
from dcpctl.errors import UsageError

if TYPE_CHECKING:
    from dcpctl.signature.engine import Result

#: What `--plot` without a file stands for.
_TERMINAL = "terminal"


class SignatureCommand(Command):
    """The command; its option `--plot` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in what `--plot` stands for where no SVG file follows it."""
        made: list[str] = []
        for number, argument in enumerate(args):
            made.append(argument)
            following = args[number + 1] if number + 1 < len(args) else ""
            if argument == "--plot" and not following.endswith(".svg"):
                made.append(_TERMINAL)
        return super().parse_args(ctx, made)


COMMAND = SignatureCommand


def signature(
    logs: Annotated[
        list[str],
        typer.Argument(
            metavar="LOG",
            help="JSON lines, CSV, TSV, console output, TensorBoard files; - for stdin.",
            show_default=False,
        ),
    ],
    resume_step: Annotated[
        int | None,
        typer.Option(
            "--resume-step", metavar="N", help="The step resumed from. [default: find resumes]"
        ),
    ] = None,
    mapping: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="loss=COLUMN", help="Where step, loss, grad_norm, lr ... are found."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="RUN",
            help="The run's saves, which decide where they tell.",
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        int, typer.Option("--window", min=20, help="Rows to compare on each side.")
    ] = 100,
    steps: Annotated[
        int, typer.Option("--steps", min=5, help="Rows that are the first steps after a resume.")
    ] = 10,
    expect_match: Annotated[
        bool,
        typer.Option(
            "--expect-match", help="Fail unless the first steps match the regime before them."
        ),
    ] = False,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="[FILE.svg]", help="Draw it here, or into an SVG file."),
    ] = None,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Tell from a training log whether a resume lost the optimizer's state.

    After such a resume the loss jumps and grad norm falls, with the same lr and throughput. Resumes
    are found where steps go back or repeat, where time has a gap, and where another process or
    file begins. Other causes are told apart: divergence, other data, another lr, a spike. Healthy
    is said only where a reset would have shown; --run asks the saves, which decide. Exit code 1
    says that optimizer state was lost or, with --expect-match, that a resume does not match.

    Examples:
      dcpctl signature sample_checkpoints/logs/lost.jsonl
      dcpctl signature sample_checkpoints/logs/healthy.csv --expect-match
      dcpctl signature sample_checkpoints/logs/lost.jsonl --plot
      dcpctl signature sample_checkpoints/logs/unseen.csv --run sample_checkpoints/silent_reset
      dcpctl signature - --map loss=my/loss --json < sample_checkpoints/logs/named.csv
    """
    out = Output.of(form, json, output, table_style, color)
    if plot == _TERMINAL and out.is_json:
        raise UsageError("--plot draws a picture, --json prints none", hint="--plot FILE.svg")
    from dcpctl.signature.columns import parse_map
    from dcpctl.signature.engine import diagnose
    from dcpctl.signature.reading import read_logs

    log = read_logs(logs, parse_map(mapping or ()))
    result = diagnose(log, resume_step=resume_step, window=window, first=steps)
    if run is not None:
        from dcpctl.cli.signature_saves import checked_saves
        from dcpctl.progress import Progress
        from dcpctl.signature.saves import ask_saves

        with Progress("checking", 0, unit="saves") as progress:
            saves = checked_saves(run, progress.reach)
        result = ask_saves(result, saves)
    failed = not result.matches if expect_match else result.lost
    if plot is not None and plot != _TERMINAL:
        from dcpctl.reports.signature_svg import signature_svg

        Output(Form.TEXT, Path(plot), color, "").pieces(signature_svg(result))
    if out.is_json:
        from dcpctl.reports.json_lines import document
        from dcpctl.reports.signature_json import resume_documents, signature_document

        head = signature_document(result, failed=failed)
        out.pieces(document(head, resumes=resume_documents(result)))
    else:
        _print(out, result, draw=plot == _TERMINAL, expect_match=expect_match)
    if failed:
        raise typer.Exit(1)


def _print(out: Output, result: Result, *, draw: bool, expect_match: bool) -> None:
    from itertools import chain

    from dcpctl.reports.signature_blocks import gate_blocks, signature_blocks
    from dcpctl.reports.signature_plot import plot_blocks

    out.blocks(
        chain(
            signature_blocks(result),
            plot_blocks(result) if draw else (),
            gate_blocks(result) if expect_match else (),
        )
    )
