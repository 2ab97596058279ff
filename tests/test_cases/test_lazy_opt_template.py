"""Exports of weights with a version or a config beside them (composer#2396, KempnerForge#115)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_check.helpers import check, the


@pytest.mark.parametrize("name", ["export-config", "export-flat", "export-version"])
def test_an_export_with_a_version_is_mere_weights(shared: Path, name: str) -> None:
    found = the(check(shared / "reports" / "lazy-opt-template" / name, "DCP501"))
    assert found.severity == "warning"
    assert "these are weights" in found.message


def test_param_groups_without_state_are_a_jobs(shared: Path) -> None:
    case = shared / "reports" / "lazy-opt-template"
    found = the(check(case / "template", "DCP501"))
    assert (found.severity, "param groups are here" in found.message) == ("error", True)
    assert check(case / "ck", "DCP501").findings == ()
