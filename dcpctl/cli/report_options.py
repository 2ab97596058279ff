"""Where the reports of `dcpctl check` go, and in which formats: `--format` and `--report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dcpctl.cli.options import Color, report_file
from dcpctl.errors import UsageError, quote
from dcpctl.reports import check_formats

if TYPE_CHECKING:
    from dcpctl.check.finding import Checked

_PANEL = "Output"
#: Formats in which a checkpoint that cannot be read is an error on stderr and nothing on stdout.
_QUIET = ("text", "table", "markdown", "json")

FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help=f"How to print: {', '.join(check_formats.names())}. [default: text]",
        rich_help_panel=_PANEL,
    ),
]
ReportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="FORMAT=FILE",
        help="Write a report to a file, beside what is printed; may be given several times.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Reports:
    """What `check` writes; made from the options of one command line.

    Attributes:
        form: the format of what is printed.
        path: file to print it to; None for stdout.
        color: when to use colours.
        table_style: tabulate's style.
        files: formats and files of further reports.
    """

    form: str
    path: Path | None
    color: Color
    table_style: str
    files: tuple[tuple[str, Path], ...]

    @classmethod
    def of(
        cls,
        form: str | None,
        json: bool,
        path: Path | None,
        style: str | None,
        color: Color,
        reports: list[str] | None,
    ) -> Reports:
        """Put the options together.

        Raises:
            UsageError: they contradict each other, name no format, or one file twice.
        """
        if form is not None:
            _known(form, "--format")
        if json and form not in (None, "json"):
            raise UsageError(f"--json and --format {form} contradict")
        if style is not None and (json or form not in (None, "table")):
            raise UsageError("--table-style is for --format table")
        chosen = "json" if json else form or ("table" if style else "text")
        files = tuple(_report(text) for text in reports or ())
        seen: set[Path] = set()
        for target in (*(file for _, file in files), *([path] if path else [])):
            if target.resolve() in seen:
                raise UsageError(f"two reports would be written to {quote(target)}")
            seen.add(target.resolve())
        return cls(chosen, path, color, style or "simple", files)

    def write(self, checked: Checked, *, strict: bool, one: bool) -> None:
        """Write every report, those in files first: stdout may have no reader any more.

        Args:
            checked: what was found.
            strict: warnings fail the check too.
            one: a single checkpoint was asked for.

        Raises:
            ReadFailed: a file cannot be written.
        """
        from dcpctl.reports.console import wants_color

        plain = check_formats.Look(strict=strict, one=one, table_style=self.table_style)
        for form, path in self.files:
            with report_file(path) as stream:
                check_formats.write(form, checked, stream, plain)
        if one and not checked.results and self.form in _QUIET:
            return
        with report_file(self.path) as stream:
            look = check_formats.Look(
                strict, one, wants_color(self.color.value, stream), self.table_style
            )
            check_formats.write(self.form, checked, stream, look)


def _report(text: str) -> tuple[str, Path]:
    form, equals, path = text.partition("=")
    if not equals or not path:
        raise UsageError(f"--report takes FORMAT=FILE, not {quote(text)}")
    _known(form, "--report")
    if path == "-":
        raise UsageError(
            f"--report writes to files, not to {quote(path)}",
            hint=f"--format {form} prints to stdout",
        )
    if not Path(path).resolve().parent.is_dir():  # say so now and not after hours of reading
        raise UsageError(f"there is no directory for {quote(path)}")
    return form, Path(path)


def _known(form: str, option: str) -> None:
    if form not in check_formats.names():
        raise UsageError(
            f"{option}: there is no format {quote(form)}",
            hint=f"the formats are {', '.join(check_formats.names())}",
        )
