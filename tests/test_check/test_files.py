from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import corruptors
from tests.hostile.draft import healthy
from tests.test_check.helpers import check, rules, skipped, the


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    healthy().write(tmp_path / "ckpt")
    return tmp_path / "ckpt"


def test_a_sound_checkpoint_has_no_finding(checkpoint: Path) -> None:
    result = check(checkpoint, "DCP2")
    assert result.findings == ()
    assert result.skipped == ()
    assert len(result.rules_run) == 13


def test_missing(checkpoint: Path) -> None:
    (checkpoint / "__1_0.distcp").unlink()
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.severity, found.subject) == ("DCP201", "error", "__1_0.distcp")
    assert "is missing from" in found.message
    assert "; 1 item in it: 'model.weight'" in found.message


def test_a_directory_of_the_name_is_no_file(checkpoint: Path) -> None:
    (checkpoint / "__1_0.distcp").unlink()
    (checkpoint / "__1_0.distcp").mkdir()
    assert "is a directory, not a regular file" in the(check(checkpoint, "DCP2")).message


def test_truncated(checkpoint: Path) -> None:
    file = checkpoint / "__0_0.distcp"
    size = file.stat().st_size
    corruptors.truncate(file, -100)
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.offset) == ("DCP202", size - 100)
    assert found.message == (f"has {size - 100:,} of {size:,} bytes; 1 item cut or gone: 'step'")


def test_truncated_to_nothing(checkpoint: Path) -> None:
    corruptors.truncate(checkpoint / "__0_0.distcp", 0)
    found = the(check(checkpoint, "DCP2"))
    assert found.rule == "DCP202"
    assert "3 items cut or gone: 'model.weight', 'model.bias', 'step'" in found.message


def test_longer(checkpoint: Path) -> None:
    size = (checkpoint / "__1_0.distcp").stat().st_size
    corruptors.append(checkpoint / "__1_0.distcp", b"12345")
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.severity, found.offset) == ("DCP203", "warning", size)
    assert found.message.startswith("has 5 bytes behind the last item")


@pytest.mark.parametrize(
    ("offset", "length"),
    [(-1, 100), (0, -1), (1 << 40, 100), (0, (1 << 63) - 1), ((1 << 63) - 1, (1 << 63) - 1)],
)
def test_past_end(tmp_path: Path, offset: int, length: int) -> None:
    draft = healthy()
    item = draft.item("step")
    item.offset, item.length = offset, length
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP204"))
    assert (found.subject, found.file, found.offset) == ("step", "__0_0.distcp", offset)
    assert "DCP202" not in rules(check(tmp_path, "DCP2"))


def test_overlapping(tmp_path: Path) -> None:
    draft = healthy()
    draft.item("step").offset -= 7
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP205"))
    assert found.subject == "step"
    assert found.message == "its item shares 7 bytes with that of 'model.bias'"


def test_two_entries_with_one_item(tmp_path: Path) -> None:
    draft = healthy()
    item, other = draft.item("step"), draft.item("model.bias")
    item.offset, item.length = other.offset, other.length
    draft.write(tmp_path)
    assert rules(check(tmp_path, "DCP2"), "error") == {"DCP205"}


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "a/../../b", "C:\\x", "C:/x", "a\\b", "a\0b", ""]
)
def test_outside(tmp_path: Path, path: str) -> None:
    draft = healthy()
    draft.item("step").relative_path = path
    draft.write(tmp_path)
    result = check(tmp_path, "DCP206", "DCP201")
    found = the(result)
    assert found.rule == "DCP206"
    assert found.message.isprintable()


def test_a_link_to_elsewhere_is_outside(checkpoint: Path, tmp_path: Path) -> None:
    corruptors.link_outside(checkpoint / "__1_0.distcp", tmp_path / "elsewhere")
    assert rules(check(checkpoint, "DCP2")) == {"DCP206", "DCP209"}


def test_a_link_inside_is_fine(checkpoint: Path) -> None:
    (checkpoint / "data").mkdir()
    (checkpoint / "__1_0.distcp").rename(checkpoint / "data" / "1")
    (checkpoint / "__1_0.distcp").symlink_to("data/1")
    assert check(checkpoint, "DCP2").findings == ()


@pytest.mark.parametrize("name", [".metadata.tmp", "__3.metadata.tmp", "model.tmp"])
def test_leftovers(checkpoint: Path, name: str) -> None:
    (checkpoint / name).write_bytes(b"half")
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.severity, found.file) == ("DCP207", "warning", name)


def test_stray(checkpoint: Path) -> None:
    (checkpoint / "__7_0.distcp").write_bytes(b"another save's")
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.severity, found.subject) == ("DCP208", "warning", "__7_0.distcp")


def test_an_empty_shard_file_is_no_stray(checkpoint: Path) -> None:
    (checkpoint / "__7_0.distcp").touch()
    assert check(checkpoint, "DCP2").findings == ()


def test_odd(checkpoint: Path) -> None:
    os.mkfifo(checkpoint / "pipe")
    found = the(check(checkpoint, "DCP2"))
    assert (found.rule, found.severity, found.subject) == ("DCP209", "warning", "pipe")


def test_unused(tmp_path: Path) -> None:
    draft = healthy()
    draft.put("__0_0.distcp", b"nobody's")
    draft.value("last", b"\x80\x02N.")
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP2"))
    assert (found.rule, found.severity) == ("DCP210", "info")
    assert found.message == "8 bytes in 1 gap between items belong to none"


def test_what_cannot_be_read_skips_the_payload_rules(checkpoint: Path) -> None:
    (checkpoint / "__1_0.distcp").unlink()
    result = check(checkpoint, "DCP3", "DCP110")
    assert set(skipped(result)) >= {"DCP301", "DCP302", "DCP304", "DCP305", "DCP110"}
    assert skipped(result)["DCP301"].startswith("1 storage item could not be read ('model.weight')")
