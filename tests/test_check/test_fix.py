from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from dcpctl.check.engine import all_rules
from dcpctl.check.finding import CheckResult, Finding
from dcpctl.check.fix import command_of, fix_for
from dcpctl.cli.commands import Commands


@pytest.mark.parametrize("rule_id", [known.id for known in all_rules()])
def test_a_page_ends_with_a_command_that_dcpctl_parses(rule_id: str) -> None:
    program, verb, *arguments = shlex.split(command_of(rule_id))
    assert program == "dcpctl"
    assert Commands()[verb].make_context(verb, arguments)


def result(path: str, against: str | None = None) -> CheckResult:
    return CheckResult(Path(path), "dcp", None, (), against=None if not against else Path(against))


def test_the_words_that_are_known_are_filled_in() -> None:
    lost = Finding("DCP702", "warning", "model.a b.weight", "")
    assert fix_for(result("runs/it's"), lost) == (
        "dcpctl drop 'runs/it'\"'\"'s' 'runs/it'\"'\"'s-fixed' 'model.a b.weight'"
    )
    again = Finding("DCP601", "error", "optimizer", "")
    assert fix_for(result("r/step-2", "r/step-1"), again) == "dcpctl diff r/step-1 r/step-2"


def test_a_word_that_is_not_known_stays() -> None:
    assert fix_for(result("r/step-2"), Finding("DCP601", "error", "", "")).endswith(
        " BEFORE r/step-2"
    )
    missing = Finding("DCP201", "error", "__0_0.distcp", "", file="__0_0.distcp")
    assert fix_for(result("a"), missing) == "dcpctl repair a a-fixed --from SAVE"
    assert fix_for(result("a", "b"), missing) == "dcpctl repair a a-fixed --from b"


def test_a_file_is_no_key() -> None:
    about = Finding("DCP110", "warning", ".metadata", "", file=".metadata")
    assert fix_for(result("a"), about) == "dcpctl inspect a --key KEY"
