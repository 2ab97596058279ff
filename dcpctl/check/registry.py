"""The rules: each is a function with an id, found in the modules of `dcpctl.check.rules`.

A new file in that package, or a new function in one of its files, is a new rule; it needs a page
in `dcpctl/check/pages` and nothing else.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from dcpctl.errors import NothingSelected, quote

if TYPE_CHECKING:
    from dcpctl.check.options import CheckOptions
    from dcpctl.check.run import Run

#: The severity, in a policy, of a rule that is not to run.
OFF = "off"

_RULE_ID = re.compile(r"DCP[1-9]\d\d")


@dataclass(frozen=True, slots=True)
class Hit:
    """A finding as a rule makes it: the engine adds the rule's id and severity.

    Attributes:
        subject: as `Finding.subject`.
        message: as `Finding.message`.
        file: as `Finding.file`.
        offset: as `Finding.offset`.
        severity: where it is not the rule's own.
    """

    subject: str
    message: str
    file: str | None = None
    offset: int | None = None
    severity: str | None = None


class CannotRun(Exception):
    """Raised by a rule that cannot run, or cannot go on; its message says because of what."""


class NotAsked(Exception):
    """Raised by a rule that this check does not ask for: it is neither run nor skipped."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: stable id; its first digit is the family.
        severity: of its findings, where they do not say otherwise.
        title: what a finding means, in a few words.
        find: yields the findings.
        security: it is about code that a load would run, about paths, or about bytes that two
            readers take for different things: what the receiver of a checkpoint has to know.
    """

    id: str
    severity: str
    title: str
    find: Callable[[Run], Iterable[Hit]]
    security: bool = False


_rules: dict[str, Rule] = {}
Find = Callable[["Run"], Iterator[Hit]]


def rule(
    rule_id: str, severity: str, title: str, *, security: bool = False
) -> Callable[[Find], Find]:
    """Register the decorated generator function as a rule; the arguments are as in `Rule`."""
    if not _RULE_ID.fullmatch(rule_id) or rule_id in _rules:
        raise ValueError(f"rule id {rule_id} is malformed or taken")

    def register(find: Find) -> Find:
        _rules[rule_id] = Rule(rule_id, severity, title, find, security)
        return find

    return register


@cache
def _load() -> None:
    from dcpctl.check import rules

    for module in pkgutil.iter_modules(rules.__path__):
        importlib.import_module(f"{rules.__name__}.{module.name}")


def all_rules() -> tuple[Rule, ...]:
    """Return every rule, by id."""
    _load()
    return tuple(_rules[rule_id] for rule_id in sorted(_rules))


def chosen_rules(select: Sequence[str], ignore: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules that `CheckOptions.select` and `.ignore` leave.

    Raises:
        NothingSelected: a name stands for no rule, or no rule is left.
    """
    names = [known.id for known in all_rules()]
    wanted = {name for pattern in select for name in _matching(pattern, names)}
    unwanted = {name for pattern in ignore for name in _matching(pattern, names)}
    left = [name for name in names if (not select or name in wanted) and name not in unwanted]
    if not left:
        raise NothingSelected("no rule is left to run", hint="dcpctl explain lists the rules")
    return tuple(_rules[name] for name in left)


def rules_of(options: CheckOptions) -> tuple[Rule, ...]:
    """Return the rules that options, and the policy in them, leave.

    Raises:
        NothingSelected: a name stands for no rule, or no rule is left.
    """
    chosen = chosen_rules(options.select, options.ignore)
    if options.security:
        chosen = tuple(rule for rule in chosen if rule.security)
        if not chosen:
            raise NothingSelected("no rule is left to run: --security keeps none of those selected")
    policy = options.policy
    if policy is None:
        return chosen
    left = tuple(rule for rule in chosen if policy.severities.get(rule.id) != OFF)
    if not left:
        raise NothingSelected(
            f"no rule is left to run: the policy {quote(policy.path)} turns them off",
            hint="--no-policy checks without it",
        )
    return left


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    start = pattern.strip().upper().rstrip("X*")
    found = [name for name in names if start and name.startswith(start)]
    if not found:
        raise NothingSelected(
            f"{quote(pattern)} is no rule and no family of rules",
            hint="rules are named like DCP103, families like DCP1xx; dcpctl explain lists them",
        )
    return found


def explain(rule_id: str) -> str:
    """Return the page of a rule, in Markdown: what it means, why it matters, how to fix it.

    It ends with a fenced block of the dcpctl command to run next (`check.fix` fills it in).

    Raises:
        NothingSelected: there is no such rule.
    """
    name = rule_id.strip().upper()
    if name not in {known.id for known in all_rules()}:
        raise NothingSelected(
            f"there is no rule {quote(rule_id)}", hint="dcpctl explain lists the rules"
        )
    from importlib import resources

    page = resources.files("dcpctl.check") / "pages" / f"{name}.md"
    return page.read_text(encoding="utf-8")
