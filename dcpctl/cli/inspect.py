"""`dcpctl inspect`."""

from __future__ import annotations

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
from dcpctl.cli.parsing import EVERYTHING
from dcpctl.errors import DcpctlError, NotACheckpoint, UsageError, quote

if TYPE_CHECKING:
    from dcpctl.model.checkpoint import Checkpoint

_PANEL = "Views, one at a time"


def inspect(
    path: Annotated[
        Path | None, typer.Argument(help="A checkpoint, or a run directory.", show_default=False)
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            "--keys",
            metavar="[GLOB]",
            help="List keys: dtype, shape, bytes, chunks, ranks.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    tree: Annotated[
        bool, typer.Option("--tree", help="Draw the tree of keys.", rich_help_panel=_PANEL)
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            metavar="FQN",
            help="Say all about one key: its chunks and where they lie, its decoded value.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    files: Annotated[
        bool,
        typer.Option(
            "--files",
            help="List shard files and ranks: bytes, items, balance.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    optimizer: Annotated[
        bool,
        typer.Option(
            "--optimizer",
            help="Show the optimizer's state: parameters by slots.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    stats: Annotated[
        str | None,
        typer.Option(
            "--stats",
            metavar="GLOB",
            help="Read tensors: min, max, mean, std, zeros, NaN and Inf.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    chunks: Annotated[
        bool, typer.Option("--chunks", help="With --json: every chunk of every tensor.")
    ] = False,
    torch: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help="The torch release that is to load it. [default: the installed one]",
            show_default=False,
        ),
    ] = None,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Say what a checkpoint holds and whether training can be resumed from it.

    The default view is one screen: form and releases, files, sections, layout, and the verdict on
    the optimizer's state. A run directory is listed newest first, each save with its verdict; a
    checkpoint in several parts is read as one. Nothing is executed, and torch is not imported.

    Examples:
      dcpctl inspect sample_checkpoints/healthy/step-8500
      dcpctl inspect sample_checkpoints/silent_reset
      dcpctl inspect sample_checkpoints/fsdp_tp_2x2 --keys 'model.layers.0.*'
      dcpctl inspect sample_checkpoints/fsdp_tp_2x2 --key model.norm.weight
      dcpctl inspect sample_checkpoints/healthy/step-8500 --stats '*.exp_avg_sq'
      dcpctl inspect sample_checkpoints/legacy --json --chunks
    """
    out = Output.of(form, json, output, table_style, color)
    if path is None and keys is not None and Path(keys).is_dir():
        path, keys = Path(keys), EVERYTHING
    if path is None:
        raise UsageError("which checkpoint?", hint="dcpctl inspect PATH")
    views = {
        "--keys": keys is not None,
        "--tree": tree,
        "--key": key is not None,
        "--files": files,
        "--optimizer": optimizer,
        "--stats": stats is not None,
    }
    chosen = [name for name, asked in views.items() if asked]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are different views; ask for one at a time")
    if chunks and (not out.is_json or chosen not in ([], ["--keys"], ["--key"])):
        raise UsageError("--chunks is for --json, of all keys or with --keys or --key")
    if torch is not None and chosen:
        raise UsageError(f"--torch is for the default view, not for {chosen[0]}")
    if torch is not None:
        from dcpctl.model.releases import check_release

        check_release(torch)
    what = key or keys or stats or ""
    _run(path, out, chosen[0] if chosen else "", what, chunks=chunks, torch=torch)


def _run(path: Path, out: Output, view: str, what: str, *, chunks: bool, torch: str | None) -> None:
    from dcpctl.model.opening import open_checkpoint

    try:
        checkpoint = open_checkpoint(path)
    except NotACheckpoint as error:
        _list_run(path, out, view, error)
        return
    with checkpoint:
        if not view and _holds_saves(path):
            # A trainer writes its last weights where the saves of the run lie.
            _list_run(path, out, view, NotACheckpoint(f"no saves in {quote(path)}"))
        elif not view:
            _summary(checkpoint, out, chunks, torch)
        elif view == "--keys":
            _keys(checkpoint, out, what, chunks)
        elif view == "--key":
            _key(checkpoint, out, what)
        elif view == "--tree":
            _tree(checkpoint, out)
        elif view == "--files":
            _files(checkpoint, out)
        elif view == "--optimizer":
            _optimizer(checkpoint, out)
        else:
            _stats(checkpoint, out, what)


def _holds_saves(path: Path) -> bool:
    """Whether saves lie below what is a checkpoint itself."""
    from dcpctl.model.saves import look

    try:
        return bool(look(path).runs)
    except DcpctlError:
        return False


def _list_run(path: Path, out: Output, view: str, error: DcpctlError) -> None:
    from dcpctl.inspect.runs import list_runs
    from dcpctl.progress import Progress

    if view or not path.is_dir():
        raise error
    with Progress("looking", 0, unit="saves") as progress:
        runs, found = list_runs(path, progress.advance)
    if not runs:
        raise error
    if out.is_json:
        from dcpctl.reports.inspect_json import run_document
        from dcpctl.reports.json_lines import document

        head, listed = run_document(path, runs, found.unread)
        out.pieces(document(head, run=listed))
    else:
        from dcpctl.reports.run_blocks import run_blocks

        out.blocks(run_blocks(str(path), runs, found))


def _summary(checkpoint: Checkpoint, out: Output, chunks: bool, torch: str | None) -> None:
    from dcpctl.inspect.summary import summarize

    summary = summarize(checkpoint, torch)
    if out.is_json:
        from dcpctl.reports.inspect_json import entry_documents, summary_document
        from dcpctl.reports.json_lines import document

        entries = entry_documents(checkpoint, checkpoint, chunks=chunks)
        out.pieces(document(summary_document(summary), entries=entries))
    else:
        from dcpctl.reports.summary_blocks import summary_blocks

        out.blocks(summary_blocks(summary))


def _keys(checkpoint: Checkpoint, out: Output, glob: str, chunks: bool) -> None:
    from dcpctl.inspect.keys import select

    fqns = select(checkpoint, glob)
    if out.is_json:
        from dcpctl.reports.inspect_json import entry_documents, head
        from dcpctl.reports.json_lines import document

        entries = entry_documents(checkpoint, fqns, chunks=chunks)
        out.pieces(document(head(checkpoint), entries=entries))
    else:
        from dcpctl.reports.key_blocks import keys_blocks

        out.blocks(keys_blocks(checkpoint, fqns))


def _key(checkpoint: Checkpoint, out: Output, fqn: str) -> None:
    from dcpctl.inspect.keys import find

    entry = find(checkpoint, fqn)
    if out.is_json:
        from dcpctl.reports.inspect_json import entry_documents, head
        from dcpctl.reports.json_lines import document

        out.pieces(
            document(head(checkpoint), entries=entry_documents(checkpoint, [fqn], chunks=True))
        )
    else:
        from dcpctl.reports.key_blocks import key_blocks

        out.blocks(key_blocks(checkpoint, entry))


def _tree(checkpoint: Checkpoint, out: Output) -> None:
    from dcpctl.inspect.keys import tree

    root = tree(checkpoint)
    if out.is_json:
        from dcpctl.reports.inspect_json import branch_document, head
        from dcpctl.reports.json_lines import document

        branches = (branch_document(child) for child in root.children.values())
        out.pieces(document(head(checkpoint), tree=branches))
    else:
        from dcpctl.reports.key_blocks import tree_blocks

        out.blocks(tree_blocks(checkpoint, root))


def _files(checkpoint: Checkpoint, out: Output) -> None:
    from dcpctl.inspect.files import survey_files

    survey = survey_files(checkpoint)
    if out.is_json:
        from dcpctl.reports.inspect_json import file_documents, head, rank_documents
        from dcpctl.reports.json_lines import document

        out.pieces(
            document(
                {**head(checkpoint), "imbalance": survey.imbalance},
                files=file_documents(survey.files),
                ranks=rank_documents(survey.ranks),
            )
        )
    else:
        from dcpctl.reports.view_blocks import files_blocks

        out.blocks(files_blocks(survey))


def _optimizer(checkpoint: Checkpoint, out: Output) -> None:
    from dcpctl.model.optimizer.view import OptimizerView

    view = OptimizerView(checkpoint)
    if out.is_json:
        from dcpctl.reports.inspect_json import head, optimizer_document, parameter_documents
        from dcpctl.reports.json_lines import document

        made = {**head(checkpoint), "optimizer": optimizer_document(view)}
        out.pieces(document(made, parameters=parameter_documents(view)))
    else:
        from dcpctl.reports.view_blocks import optimizer_blocks

        out.blocks(optimizer_blocks(view))


def _stats(checkpoint: Checkpoint, out: Output, glob: str) -> None:
    from dcpctl.inspect.keys import select
    from dcpctl.inspect.statistics import Statistics, statistics
    from dcpctl.progress import Progress

    entries = [checkpoint.tensors[fqn] for fqn in select(checkpoint, glob, tensors_only=True)]
    found: list[Statistics] = []
    unread: list[tuple[str, DcpctlError]] = []
    with Progress("reading", sum(entry.nbytes for entry in entries)) as progress:
        for entry in entries:
            try:
                found.append(statistics(entry, progress.advance))
            except DcpctlError as error:  # noqa: PERF203
                unread.append((entry.fqn, error))
    if out.is_json:
        from dcpctl.reports.inspect_json import head, statistics_documents
        from dcpctl.reports.json_lines import document

        out.pieces(document(head(checkpoint), stats=statistics_documents(found, unread)))
    else:
        from dcpctl.reports.view_blocks import statistics_blocks

        out.blocks(statistics_blocks(found, [(fqn, error.message) for fqn, error in unread]))
    if unread:
        raise unread[0][1]
