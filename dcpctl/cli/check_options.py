"""The options of `dcpctl check`, and what they ask for together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dcpctl import limits
from dcpctl.cli.options import Color, ColorOption, JsonOption, OutputOption, StyleOption
from dcpctl.cli.report_options import FormatOption, ReportOption, Reports
from dcpctl.errors import UsageError

if TYPE_CHECKING:
    from dcpctl.check.baseline import Baseline
    from dcpctl.check.like import Like
    from dcpctl.check.options import CheckOptions
    from dcpctl.check.policy import Policy
    from dcpctl.model.receipt import Receipt

PathsArgument = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Checkpoints, or run directories.", show_default=False),
]


def _gate(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Gate", **settings)


def _load(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="Loads", **settings)


def check_options(
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="PATH",
            help="The save of the same run that came before; a run directory's saves have theirs.",
        ),
    ] = None,
    verify_data: Annotated[
        bool, typer.Option("--verify-data", help="Read every byte and compare every checksum.")
    ] = False,
    values: Annotated[
        bool, typer.Option("--values", help="Read all numbers; find NaN and infinities.")
    ] = False,
    security: Annotated[
        bool,
        typer.Option(
            "--security",
            help="Only what a load would run, paths, and ambiguous bytes; fast, reads no numbers.",
        ),
    ] = False,
    torch: Annotated[
        str | None,
        typer.Option(
            "--torch",
            metavar="RELEASE",
            help="The torch release that is to load it. [default: the installed one]",
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
    max_findings: Annotated[
        int | None,
        typer.Option(
            "--max-findings",
            min=0,
            help="List no more than so many a checkpoint; 0 for all. [default: 200]",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, help="How much at once. [default: one a processor, at most 8]"
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        _gate(
            "--policy",
            metavar="FILE",
            help="What is asked of checkpoints. [default: dcpctl.toml, or pyproject.toml, if here]",
        ),
    ] = None,
    no_policy: Annotated[bool, _gate("--no-policy", help="Look for no policy.")] = False,
    like: Annotated[
        Path | None,
        _load(
            "--like",
            metavar="PATH",
            help="Predict its load by a run with this state dict: a contract, or a checkpoint.",
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        _load("--receipt", metavar="FILE", help="The receipt of a load of it, by dcpctl.training."),
    ] = None,
    may_skip: Annotated[
        list[str] | None,
        _load("--may-skip", metavar="GLOB", help="Keys that a load may leave on disk."),
    ] = None,
    baseline: Annotated[
        Path | None,
        _gate("--baseline", metavar="FILE", help="Findings that are let pass: waivers."),
    ] = None,
    update_baseline: Annotated[
        bool,
        _gate("--update-baseline", help="Waive all that is found, in the file of --baseline."),
    ] = False,
    strict: Annotated[bool, _gate("--strict", help="Warnings fail the check too.")] = False,
    exit_zero: Annotated[bool, _gate("--exit-zero", help="Exit 0 whatever is found.")] = False,
    form: FormatOption = None,
    report: ReportOption = None,
    json: JsonOption = False,
    output: OutputOption = None,
    table_style: StyleOption = None,
    color: ColorOption = Color.AUTO,
) -> None:
    """Never called; its parameters are the options."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of one command line.

    Attributes:
        reports: how and where the result is printed and written.
        given: the other options by name.
    """

    reports: Reports
    given: dict[str, Any]

    @classmethod
    def of(cls, given: dict[str, Any]) -> Asked:
        """Put the options together.

        Raises:
            UsageError: they contradict each other.
        """
        names = ("form", "json", "output", "table_style", "color", "report")
        reports = Reports.of(*(given.pop(name) for name in names))
        if given["torch"] is not None:
            from dcpctl.model.releases import check_release

            check_release(given["torch"])
        if given["policy"] is not None and given["no_policy"]:
            raise UsageError("--policy and --no-policy contradict")
        return cls(reports, given)

    @property
    def exit_zero(self) -> bool:
        """Whether findings do not count for the exit code."""
        return bool(self.given["exit_zero"])

    @property
    def updates_baseline(self) -> bool:
        """Whether all that is found is written to the baseline."""
        return bool(self.given["update_baseline"])

    @property
    def has_receipt(self) -> bool:
        """Whether a receipt is named; it is of one load."""
        return self.given["receipt"] is not None

    def options(self, paths: Sequence[Path]) -> CheckOptions:
        """Return the options of the check, with those of the policy.

        Args:
            paths: what is going to be checked.

        Raises:
            PolicyError, BaselineError: the policy or the baseline says what it cannot.
            InputError: `--like` or `--receipt` is not what it should be.
            ReadFailed: one of them cannot be read.
        """
        from dcpctl.check.options import CheckOptions

        given = self.given
        kept = (
            "against",
            "verify_data",
            "values",
            "security",
            "torch",
            "expect_step",
            "jobs",
            "strict",
        )
        asked = CheckOptions(
            select=_split(given["select"]),
            ignore=_split(given["ignore"]),
            max_findings=limits.LISTED_FINDINGS,
            may_skip=tuple(given["may_skip"] or ()),
            **{name: given[name] for name in kept},
        )
        policy = self._policy(paths)
        options = asked if policy is None else policy.applied(asked)
        if given["max_findings"] is not None:
            options = replace(options, max_findings=given["max_findings"] or None)
        return replace(
            options, baseline=self._baseline(policy), like=self._like(), receipt=self._receipt()
        )

    def _policy(self, paths: Sequence[Path]) -> Policy | None:
        from dcpctl.check.policy_find import find_policy

        if self.given["no_policy"]:
            return None
        path = self.given["policy"] or find_policy(paths)
        if path is None:
            return None
        from dcpctl.check.policy_file import read_policy

        return read_policy(path)

    def _like(self) -> Like | None:
        if self.given["like"] is None:
            return None
        from dcpctl.check.like import read_like

        return read_like(self.given["like"])

    def _receipt(self) -> Receipt | None:
        if self.given["receipt"] is None:
            return None
        from dcpctl.model.receipt import read_receipt

        return read_receipt(self.given["receipt"])

    def _baseline(self, policy: Policy | None) -> Baseline | None:
        path: Path | None = self.given["baseline"]
        if path is None and policy is not None:
            path = policy.baseline
        if path is not None:
            from dcpctl.check.baseline import Baseline
            from dcpctl.check.baseline_file import read_baseline

            begins = self.updates_baseline and not path.exists()
            return Baseline(path, {}) if begins else read_baseline(path)
        if self.updates_baseline:
            raise UsageError("--update-baseline needs a file", hint="--baseline names one")
        return None


def _split(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for one in names or () for name in one.split(",") if name.strip())
