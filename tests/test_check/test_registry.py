from __future__ import annotations

from importlib import resources

import pytest

from dcpctl.check.engine import all_rules, explain
from dcpctl.check.registry import chosen_rules, rule
from dcpctl.errors import NothingSelected

FAMILIES = {
    "1": "structure",
    "2": "files",
    "3": "payload",
    "4": "form",
    "5": "optimizer",
    "6": "run",
    "7": "policy",
    "8": "loading",
}


def test_every_rule_has_a_page_and_every_page_a_rule() -> None:
    pages = (resources.files("dcpctl.check") / "pages").iterdir()
    assert sorted(page.name for page in pages) == [f"{known.id}.md" for known in all_rules()]


@pytest.mark.parametrize("rule_id", [known.id for known in all_rules()])
def test_a_page_says_what_why_and_how(rule_id: str) -> None:
    page = explain(rule_id.lower())
    known = next(known for known in all_rules() if known.id == rule_id)
    assert page.startswith(f"# {rule_id}: {known.title}\n")
    assert f"Severity: {known.severity}" in page
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    assert headings == ["## What it means", "## Why it matters", "## How to fix it"]


def test_a_rule_lies_in_the_file_of_its_family() -> None:
    for known in all_rules():
        module = known.find.__module__.rpartition(".")[2]
        assert module.startswith(FAMILIES[known.id[3]]), known.id


def test_every_rule_says_what_it_looks_for() -> None:
    assert all(known.find.__doc__ for known in all_rules())
    assert all(known.severity in ("error", "warning", "info") for known in all_rules())


def test_explaining_nothing_is_refused() -> None:
    with pytest.raises(NothingSelected, match="'DCP999'"):
        explain("DCP999")


@pytest.mark.parametrize("path", ["../engine", "DCP103/..", ""])
def test_explain_opens_no_other_file(path: str) -> None:
    with pytest.raises(NothingSelected):
        explain(path)


def ids(select: tuple[str, ...] = (), ignore: tuple[str, ...] = ()) -> list[str]:
    return [known.id for known in chosen_rules(select, ignore)]


def test_rules_are_chosen_by_id_and_by_family() -> None:
    assert ids(("DCP103",)) == ["DCP103"]
    assert ids(("dcp1xx", "DCP201")) == [*ids(("DCP1",)), "DCP201"]
    assert ids(ignore=("DCP5",)) == [known for known in ids() if known[3] != "5"]
    assert ids(("DCP1",), ("DCP103",)) == [known for known in ids(("DCP1",)) if known != "DCP103"]


@pytest.mark.parametrize("select", ["DCP9", "E501", "", "DCP103x4"])
def test_a_name_that_stands_for_no_rule_is_refused(select: str) -> None:
    with pytest.raises(NothingSelected):
        ids((select,))


def test_choosing_nothing_is_refused() -> None:
    with pytest.raises(NothingSelected, match="no rule"):
        ids(("DCP103",), ("DCP1",))


@pytest.mark.parametrize("rule_id", ["DCP103", "DCP1", "X"])
def test_ids_are_unique_and_of_one_form(rule_id: str) -> None:
    with pytest.raises(ValueError, match="malformed or taken"):
        rule(rule_id, "error", "")
