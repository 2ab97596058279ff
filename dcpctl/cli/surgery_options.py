"""What the surgical commands have in common: where the result goes, how it is written and told."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from dcpctl.cli.combine import with_options
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
from dcpctl.errors import UsageError, quote
from dcpctl.model.sizes import parse_size

if TYPE_CHECKING:
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.surgery.verbs import Verb
    from dcpctl.writing.options import WriteOptions

_PANEL = "Writing"


class Link(str, Enum):
    """How untouched shard files reach the destination."""

    AUTO = "auto"
    REFLINK = "reflink"
    HARDLINK = "hardlink"
    COPY = "copy"


#: Every surgical command's first argument.
SourceArgument = Annotated[
    Path, typer.Argument(metavar="SRC", help="A checkpoint.", show_default=False)
]
#: Its second, which --in-place makes one word more of what follows.
TargetArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DST", help="The directory to make; none with --in-place.", show_default=False
    ),
]


def _in_panel(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PANEL, **settings)


def common_options(
    in_place: Annotated[
        bool,
        _in_panel("--in-place", help="Change SRC itself; dcpctl undo takes it back."),
    ] = False,
    overwrite: Annotated[
        bool, _in_panel("--overwrite", help="Replace a checkpoint that is at DST.")
    ] = False,
    resume: Annotated[
        bool, _in_panel("--resume", help="Continue where an interrupted run of the same stopped.")
    ] = False,
    dry_run: Annotated[
        bool, _in_panel("--dry-run", help="Say what would be done, and write nothing.")
    ] = False,
    no_side_files: Annotated[
        bool,
        _in_panel("--no-side-files", help="Leave the files beside the shards where they are."),
    ] = False,
    keep_rank: Annotated[
        int | None,
        _in_panel(
            "--keep-rank",
            metavar="R",
            min=0,
            help="Whose copy to keep where ranks saved their own.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        _in_panel("--to", metavar="dcp", help="Write a DCP checkpoint of safetensors too."),
    ] = None,
    link: Annotated[
        Link,
        _in_panel("--link", help="How untouched shard files reach DST; auto never hardlinks."),
    ] = Link.AUTO,
    memory: Annotated[
        str, _in_panel("--memory", metavar="SIZE", help="Memory to stay below: 512M, 2G.")
    ] = "256M",
    jobs: Annotated[
        int | None,
        _in_panel("--jobs", "-j", min=1, help="Threads. [default: one a processor, at most 8]"),
    ] = None,
    progress: Annotated[
        bool, _in_panel("--progress/--no-progress", help="Draw progress on a terminal.")
    ] = True,
    form: FormOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Never called; its parameters are the options."""


@cache
def common_flags() -> frozenset[str]:
    """The flags that every surgical command has, and no verb can have for itself."""
    parameters = inspect.signature(common_options, eval_str=True).parameters.values()
    infos = (get_args(parameter.annotation)[1] for parameter in parameters)
    # In an Annotated, typer takes the first flag for a default until it builds the command.
    flags = (flag for info in infos for flag in (info.default, *(info.param_decls or ())))
    texts = [flag for flag in flags if isinstance(flag, str)]
    return frozenset(["--help", "-h", *(part for flag in texts for part in flag.split("/"))])


@dataclass(frozen=True, slots=True)
class Run:
    """The common options of one command line, and how a surgery runs under them.

    Attributes:
        in_place: the source itself is changed.
        settings: of `WriteOptions`.
        output: how and where the report is printed.
    """

    in_place: bool
    settings: dict[str, Any]
    output: Output

    @classmethod
    def of(cls, given: dict[str, Any]) -> Run:
        """Put the options together.

        Raises:
            UsageError: they contradict each other.
        """
        names = ("form", "json", "output", "table_style", "color")
        output = Output.of(*(given.pop(name) for name in names))
        given["side_files"] = not given.pop("no_side_files")
        settings = {**given, "link": given["link"].value, "memory": parse_size(given["memory"])}
        return cls(given["in_place"], settings, output)

    def destination(
        self, target: str | None, words: Sequence[str] | None, what: str
    ) -> tuple[Path | None, list[str]]:
        """Return the destination and what is to be done.

        Args:
            target: the first word behind SRC; with --in-place one of `words`.
            words: the others.
            what: what the words are, for the message; empty where there need be none.

        Raises:
            UsageError: there is no destination, or there are no words.
        """
        rest = list(words or ())
        if self.in_place and target is not None:
            rest.insert(0, target)
        elif not self.in_place and target is None:
            raise UsageError("no destination", hint="name a new directory, or pass --in-place")
        if what and not rest:
            where = "" if self.in_place else f" after the destination {quote(target)}"
            raise UsageError(f"{what} expected{where}")
        return None if self.in_place else Path(target or ""), rest

    def alone(self, target: str | None) -> Path | None:
        """The destination of a command that has no other words.

        Raises:
            UsageError: there is none, or there is one in spite of --in-place.
        """
        path, rest = self.destination(target, None, "")
        if rest:
            raise UsageError(f"--in-place changes SRC itself, so {quote(rest[0])} is one too many")
        return path

    def options(self) -> WriteOptions:
        """The writer's options.

        Raises:
            UsageError: they contradict each other.
        """
        from dcpctl.writing.options import WriteOptions

        return WriteOptions(**self.settings)

    def carry_out(
        self, verb: str, source: Path, target: Path | None, edits: Sequence[Verb]
    ) -> None:
        """Open, edit, plan, write and report.

        Args:
            verb: the command.
            source: the checkpoint.
            target: the directory to make; None changes the source.
            edits: what to do, in order.

        Raises:
            DcpctlError: of any kind; nothing has been published then.
        """
        from dcpctl.model.opening import open_checkpoint
        from dcpctl.reports.surgery import Surgery
        from dcpctl.surgery.edits import apply_edits
        from dcpctl.writing.plan import plan
        from dcpctl.writing.ranks import speaks
        from dcpctl.writing.report import Report
        from dcpctl.writing.write import write

        options = self.options()
        with ExitStack() as opened:

            def open_(path: Path) -> Checkpoint:
                return opened.enter_context(open_checkpoint(path))

            keep = options.keep_rank
            checkpoint = opened.enter_context(open_checkpoint(source, keep_rank=keep))
            draft, applied = apply_edits(checkpoint, edits, open_)
            made = plan(draft, target or source, options)
            idle = target is None and not any(edit.outcome.changes for edit in applied)
            # An edit in place that changes nothing leaves no backup behind.
            report = Report(source, made.counts) if idle else write(made, options)
        if speaks():
            self.print(Surgery(verb, source, target, tuple(applied), made, report, options.dry_run))

    def print(self, surgery: Any) -> None:
        """Print a report on stdout, and the warnings on stderr."""
        from dcpctl.reports.surgery import surgery_blocks, surgery_document

        for warning in dict.fromkeys(surgery.warnings):
            warn(warning)
        if self.output.is_json:
            from dcpctl.reports.json_lines import document

            self.output.pieces(document(surgery_document(surgery)))
        else:
            alone = self.output.form is Form.MARKDOWN
            self.output.blocks(surgery_blocks(surgery, with_warnings=alone))


#: Gives a command the common options; it takes them as one keyword argument `run`.
with_run = with_options(common_options, "run", Run.of)
#: The same for commands that always make a new directory.
with_run_anew = with_options(common_options, "run", Run.of, hidden=("in_place",))


def warn(sentence: str) -> None:
    """Write a warning to stderr."""
    from dcpctl.errors import printable

    sys.stderr.write(f"warning: {printable(sentence)}\n")
