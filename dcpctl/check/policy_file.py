"""Reading a policy: `dcpctl.toml`, or `[tool.dcpctl]` in `pyproject.toml`.

[check]
strict = true
torch = "2.13"

[check.rules]
DCP4xx = "off"
DCP404 = "error"

[check.expect]
sections = ["model", "optimizer"]
optimizer = "AdamW"
contract = "contract.json"

[check.dtypes]
"model.*" = "bfloat16"

[check.limits]
max_size = "40G"
"""

from __future__ import annotations

import re
from pathlib import Path

from dcpctl import limits
from dcpctl.check.finding import SEVERITIES
from dcpctl.check.policy import Expected, Policy, SizeLimits
from dcpctl.check.policy_find import PROJECT, PolicyError, document_of
from dcpctl.check.registry import OFF, all_rules
from dcpctl.documents.fields import Table, shown, suggestion
from dcpctl.errors import UsageError, quote
from dcpctl.formats.dtypes import DTYPES
from dcpctl.model.contract import Contract
from dcpctl.model.contract_file import load_contract
from dcpctl.model.optimizer import verdict
from dcpctl.model.sections import SECTIONS
from dcpctl.model.sizes import parse_size

_STATES = (verdict.COMPLETE, verdict.PARTIAL, verdict.ABSENT)
_FAMILY = re.compile(r"DCP[1-9](?:xx)?")


def read_policy(path: Path) -> Policy:
    """Read a policy; paths in it are relative to its directory.

    Raises:
        PolicyError: it is no TOML, holds no policy, or says what it cannot.
        ReadFailed: it cannot be read.
        InputError: the contract that it names cannot be read.
    """
    document = document_of(path)
    if document is None:
        raise PolicyError(f"{quote(path)} has no [tool.dcpctl]")
    is_project = path.name == PROJECT
    found = document.found["tool"]["dcpctl"] if is_project else document.found
    top = _Top(document, ("tool", "dcpctl") if is_project else (), found)
    check = top.table("check")
    top.done()
    settings = {name: check.flag(name) for name in ("strict", "verify_data", "values")}
    release = check.text("torch")
    if release is not None and not release[:1].isdigit():
        raise check.wrong("torch", f"{quote(release)} is no release such as 2.13")
    baseline = check.text("baseline")
    made = Policy(
        path=path,
        severities=_severities(check.table("rules")),
        expect=_expected(check.table("expect"), path.parent),
        dtypes=_dtypes(check.table("dtypes")),
        limits=_limits(check.table("limits")),
        torch=release,
        max_findings=check.number("max_findings"),
        may_skip=check.texts("may_skip"),
        baseline=None if baseline is None else path.parent / baseline,
        **settings,
    )
    check.done()
    return made


class _Top(Table):
    """The document itself, whose name is the file's."""

    @property
    def name(self) -> str:
        return super().name if self.where else "the policy"


def _severities(table: Table) -> dict[str, str]:
    """Rule id to severity; a rule's own name counts more than its family's."""
    ids = [rule.id for rule in all_rules()]
    found: dict[str, str] = {}
    for name in sorted(table.rest, key=lambda name: len(name.rstrip("x"))):
        severity = table.text(name, (*SEVERITIES, OFF))
        is_family = _FAMILY.fullmatch(name) is not None
        named = [one for one in ids if one.startswith(name.rstrip("x"))] if is_family else []
        named = named or [one for one in ids if one == name]
        if not named:
            hint = suggestion(name, [*ids, *(f"{one[:4]}xx" for one in ids)])
            message = f"{quote(name)} is no rule and no family of rules"
            raise table.wrong(name, message, hint or "dcpctl explain lists the rules")
        found.update(dict.fromkeys(named, str(severity)))
    return found


def _expected(table: Table, base: Path) -> Expected:
    sections = table.texts("sections", SECTIONS)
    optimizer = table.texts("optimizer")
    state = table.text("optimizer_state", _STATES)
    contract = table.text("contract")
    made = Expected(
        sections=sections,
        optimizer=optimizer,
        optimizer_state=state,
        contract=None if contract is None else _contract(table, base / contract),
        contract_path=None if contract is None else base / contract,
        step_advance=table.number("step_advance"),
    )
    table.done()
    return made


def _contract(table: Table, path: Path) -> Contract:
    if path.exists():
        return load_contract(path)
    raise table.wrong("contract", f"there is no {quote(path)}")


def _dtypes(table: Table) -> tuple[tuple[str, tuple[str, ...]], ...]:
    globs = list(table.rest)
    if len(globs) > limits.GLOBS:
        raise PolicyError(f"check.dtypes has {len(globs):,} globs, more than {limits.GLOBS:,}")
    return tuple((glob, table.texts(glob, DTYPES)) for glob in globs)


def _limits(table: Table) -> SizeLimits:
    made = SizeLimits(*(_size(table, key) for key in ("max_size", "min_size", "max_file_size")))
    table.done()
    return made


def _size(table: Table, key: str) -> int | None:
    """Bytes, from a number or a text such as `40G`; None where it is not there."""
    found = table.take(key, object)
    if found is None:
        return None
    try:
        if not isinstance(found, (int, str)):
            raise UsageError(f"{shown(found)} is no size", hint="such as 256M or 2G")
        return parse_size(found if isinstance(found, str) else shown(found))
    except UsageError as error:
        raise table.wrong(key, f"{quote(key)}: {error.message}", error.hint) from None
