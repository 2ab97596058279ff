"""A policy: what a team asks of its checkpoints, beyond that nothing is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dcpctl.model.contract import Contract

if TYPE_CHECKING:
    from dcpctl.check.options import CheckOptions


@dataclass(frozen=True, slots=True)
class Expected:
    """What a checkpoint shall hold (`[check.expect]`).

    Attributes:
        sections: sections that there must be: `model`, `optimizer`, `scheduler` ...
        optimizer: kinds of the optimizer, all of them; empty for any.
        optimizer_state: `complete`, `partial` or `absent`; None for any.
        contract: the keys, shapes, dtypes and group keys that there must be; None for any.
        contract_path: where the contract was read.
        step_advance: steps that the optimizer goes on from one save to the next; None for any.
    """

    sections: tuple[str, ...] = ()
    optimizer: tuple[str, ...] = ()
    optimizer_state: str | None = None
    contract: Contract | None = None
    contract_path: Path | None = None
    step_advance: int | None = None


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """How large a checkpoint may be (`[check.limits]`); bytes, None for no limit.

    Attributes:
        max_size: most bytes of all shard files.
        min_size: fewest bytes of all shard files.
        max_file_size: most bytes of one shard file.
    """

    max_size: int | None = None
    min_size: int | None = None
    max_file_size: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as its file says it.

    Attributes:
        path: the file.
        severities: rule id to `error`, `warning`, `info` or `off`, of the rules that it names.
        expect: what a checkpoint shall hold.
        dtypes: globs over FQNs, each with the dtypes that are allowed; the first that matches a
            tensor decides.
        limits: how large it may be.
        strict: warnings fail the check too.
        verify_data: every byte is read.
        values: all numbers are read.
        torch: release that shall load it; None for the installed one.
        max_findings: most findings to list; 0 for all, None for the default.
        baseline: file of findings that are waived.
        may_skip: globs of keys that a load may leave on disk.
    """

    path: Path
    severities: Mapping[str, str] = field(default_factory=dict)
    expect: Expected = Expected()
    dtypes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    limits: SizeLimits = SizeLimits()
    strict: bool = False
    verify_data: bool = False
    values: bool = False
    torch: str | None = None
    max_findings: int | None = None
    baseline: Path | None = None
    may_skip: tuple[str, ...] = ()

    def applied(self, options: CheckOptions) -> CheckOptions:
        """Return options with what the policy says where they say nothing."""
        most = options.max_findings if self.max_findings is None else self.max_findings or None
        return replace(
            options,
            policy=self,
            strict=options.strict or self.strict,
            verify_data=options.verify_data or self.verify_data,
            values=options.values or self.values,
            torch=options.torch or self.torch,
            max_findings=most,
            may_skip=(*options.may_skip, *self.may_skip),
        )
