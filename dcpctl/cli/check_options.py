"""The options of `dcpctl check`, and what they ask for together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dcpctl.errors import UsageError, quote

PathsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Checkpoints, or run directories.", show_default=False),
]
AgainstOption = Annotated[
    Path | None,
    typer.Option(
        "--against",
        metavar="PATH",
        help="The save of the same run that came before; a run directory's saves have theirs.",
    ),
]
VerifyOption = Annotated[
    bool, typer.Option("--verify-data", help="Read every byte and compare every checksum.")
]
ValuesOption = Annotated[
    bool, typer.Option("--values", help="Read all numbers; find NaN and infinities.")
]
TorchOption = Annotated[
    str | None,
    typer.Option(
        "--torch",
        metavar="RELEASE",
        help="The torch release that shall load it. [default: the installed one]",
    ),
]
StepOption = Annotated[
    int | None,
    typer.Option("--expect-step", metavar="N", help="The step that the optimizer should have."),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select", metavar="RULES", help="Only these: DCP103, DCP2xx; several with commas."
    ),
]
IgnoreOption = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="RULES", help="Not these.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Warnings fail the check too.")]
ExitZeroOption = Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever is found.")]
MaxFindingsOption = Annotated[
    int,
    typer.Option(
        "--max-findings", min=0, help="List no more than so many a checkpoint; 0 for all."
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", min=1, help="How much at once. [default: one a processor, at most 8]"
    ),
]


def release(torch: str | None) -> str | None:
    """Return the value of `--torch`.

    Raises:
        UsageError: it is no release.
    """
    if torch is not None and not torch[:1].isdigit():
        raise UsageError(f"--torch takes a release such as 2.13, not {quote(torch)}")
    return torch


def split(names: list[str] | None) -> tuple[str, ...]:
    """Return the names that an option with commas, given once or more, stands for."""
    return tuple(name.strip() for one in names or () for name in one.split(",") if name.strip())
