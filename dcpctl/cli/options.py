"""Options that several commands have, and where their output goes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from dcpctl.errors import UsageError
from dcpctl.storage.whole_file import whole_file

if TYPE_CHECKING:
    from dcpctl.reports.blocks import Block


class Form(str, Enum):
    """Output formats."""

    TEXT = "text"
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


class Color(str, Enum):
    """When to use colours."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_PANEL = "Output"

FormOption = Annotated[
    Form | None,
    typer.Option("--format", help="How to print. [default: text]", rich_help_panel=_PANEL),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Short for --format json.", rich_help_panel=_PANEL)
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write to a file.", rich_help_panel=_PANEL),
]
StyleOption = Annotated[
    str | None,
    typer.Option(
        "--table-style",
        metavar="STYLE",
        help="Tabulate's style for --format table: simple, grid, github, tsv, html ...",
        rich_help_panel=_PANEL,
    ),
]
ColorOption = Annotated[
    Color, typer.Option("--color", help="When to use colours.", rich_help_panel=_PANEL)
]


@dataclass(frozen=True, slots=True)
class Output:
    """How and where a command prints; made from the options of one command line.

    Attributes:
        form: the format.
        path: file to write; None for stdout.
        color: when to use colours.
        table_style: tabulate's style.
    """

    form: Form
    path: Path | None
    color: Color
    table_style: str

    @classmethod
    def of(
        cls, form: Form | None, json: bool, path: Path | None, style: str | None, color: Color
    ) -> Output:
        """Put the options together.

        Raises:
            UsageError: they contradict each other.
        """
        if json and form not in (None, Form.JSON):
            raise UsageError(f"--json and --format {form.value if form else ''} contradict")
        if style is not None and form not in (None, Form.TABLE):
            raise UsageError("--table-style is for --format table")
        if style is not None and json:
            raise UsageError("--table-style is for --format table, not for --json")
        chosen = Form.JSON if json else form or (Form.TABLE if style else Form.TEXT)
        return cls(chosen, path, color, style or "simple")

    @property
    def is_json(self) -> bool:
        """Whether JSON is asked for."""
        return self.form is Form.JSON

    @property
    def is_markdown(self) -> bool:
        """Whether Markdown is asked for."""
        return self.form is Form.MARKDOWN

    def pieces(self, pieces: Iterable[str]) -> None:
        """Write text piece by piece, as JSON documents come."""
        with report_file(self.path) as stream:
            stream.writelines(pieces)

    def blocks(self, blocks: Iterable[Block]) -> None:
        """Print a report in the chosen format."""
        from dcpctl.reports.console import wants_color
        from dcpctl.reports.render import render

        with report_file(self.path) as stream:
            color = wants_color(self.color.value, stream)
            render(blocks, stream, form=self.form.value, color=color, table_style=self.table_style)


def report_file(path: Path | None) -> AbstractContextManager[TextIO]:
    """Give stdout, or a file that appears under its name only when it is whole."""
    return nullcontext(sys.stdout) if path is None else whole_file(path)
