"""`check --security`: code, paths and ambiguous bytes, in every item and in no numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.check.engine import run_checks
from dcpctl.check.options import CheckOptions
from dcpctl.errors import InputError, NothingSelected
from tests.hostile.draft import STEP, healthy, value_item

SECURITY = CheckOptions(security=True)


def test_healthy(samples: Path) -> None:
    result = run_checks(samples / "healthy" / "step-8500", SECURITY)
    assert not result.findings
    assert set(result.rules_run) >= {"DCP110", "DCP206", "DCP209", "DCP305"}
    assert not any(rule.startswith(("DCP5", "DCP6", "DCP7", "DCP8")) for rule in result.rules_run)


def test_every_item_is_opened_and_no_long_record_is_read(
    samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcpctl.check.scan.SAMPLE_ITEMS", 1)
    monkeypatch.setattr("dcpctl.check.item_reader._SMALL_RECORD", 1 << 10)
    result = run_checks(samples / "healthy" / "step-8500", SECURITY)
    assert result.items_verified < result.items
    assert result.bytes_read < result.bytes_stored
    assert any("were opened" in note for note in result.notes)


def test_a_link_that_leads_out(samples: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "step"
    shutil.copytree(samples / "healthy" / "step-8500", copy)
    (copy / "__0_0.distcp").rename(tmp_path / "elsewhere")
    (copy / "__0_0.distcp").symlink_to(tmp_path / "elsewhere")
    result = run_checks(copy, SECURITY)
    assert "DCP206" in {finding.rule for finding in result.findings}


def test_rules_that_are_left(samples: Path) -> None:
    with pytest.raises(NothingSelected, match="--security"):
        run_checks(samples / "legacy", CheckOptions(security=True, select=("DCP5",)))


def test_the_attacks_are_all_found(shared: Path) -> None:
    passed = []
    for metadata in sorted((shared / "attacks").rglob(".metadata")):
        if metadata.parent.name == "original":
            continue
        try:
            if not run_checks(metadata.parent, SECURITY).errors:
                passed.append(str(metadata.parent))
        except InputError:
            continue
    assert not passed


def test_no_object_is_left_to_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --security too, where tensors are opened in a sample."""
    monkeypatch.setattr("dcpctl.check.scan.SAMPLE_ITEMS", 1)
    draft = healthy()
    for number in range(20):
        draft.value(f"lr.{number}", STEP)
    draft.replace_item("lr.11", value_item(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."))
    draft.write(tmp_path / "ckpt")
    result = run_checks(tmp_path / "ckpt", CheckOptions(select=("DCP110",)))
    assert [finding.subject for finding in result.findings] == ["lr.11"]
