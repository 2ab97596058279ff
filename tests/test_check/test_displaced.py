"""DCP212: shard files that hold another one's content are one finding, not one for each item."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from dcpctl.check.finding import CheckResult
from tests.hostile.draft import Draft
from tests.test_check.helpers import check, rules, skipped, the

NAMES = ["__0_0.distcp", "__1_0.distcp", "__2_0.distcp"]


def sharded(path: Path) -> Path:
    """A checkpoint of three ranks, each with other items."""
    draft = Draft()
    for number in range(6):
        draft.tensor(f"model.{number}.weight", (12, 3), [6, 4, 2])
    for number in range(3):
        draft.value(f"step.{number}", pickle.dumps(number, 2), rank=number)
    draft.write(path)
    return path


def put(path: Path, contents: dict[str, str]) -> CheckResult:
    """Give files other files' contents, and check."""
    kept = {name: (path / name).read_bytes() for name in NAMES}
    for name, source in contents.items():
        (path / name).write_bytes(kept[source])
    return check(path, "DCP1", "DCP2", "DCP3")


def test_files_of_their_own(tmp_path: Path) -> None:
    assert rules(put(sharded(tmp_path), {})) == set()


@pytest.mark.parametrize("verify", [True, False])
def test_two_files_that_are_swapped(tmp_path: Path, verify: bool) -> None:
    result = put(sharded(tmp_path), {NAMES[0]: NAMES[2], NAMES[2]: NAMES[0]})
    found = the(result)
    assert (found.rule, found.severity, found.file) == ("DCP212", "error", NAMES[0])
    assert "'__0_0.distcp' and '__2_0.distcp' are swapped" in found.message
    assert skipped(result)["DCP305"] == "2 files hold another file's content, as DCP212 says"


def test_three_files_that_are_rotated(tmp_path: Path) -> None:
    found = the(put(sharded(tmp_path), dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))))
    assert "3 files have each other's content" in found.message
    assert "that of '__1_0.distcp' is in '__0_0.distcp'" in found.message


def test_a_file_that_is_a_copy_of_another(tmp_path: Path) -> None:
    found = the(put(sharded(tmp_path), {NAMES[1]: NAMES[0]}))
    assert found.subject == NAMES[1]
    assert "it holds the content of '__0_0.distcp'" in found.message


def test_a_file_that_is_nobodys(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    (path / NAMES[1]).write_bytes(b"\0" * (path / NAMES[1]).stat().st_size)
    assert "DCP212" not in rules(check(path, "DCP2", "DCP3"))
    assert "DCP305" in rules(check(path, "DCP2", "DCP3"))


def test_one_broken_item_is_one_broken_item(tmp_path: Path) -> None:
    path = sharded(tmp_path)
    data = bytearray((path / NAMES[0]).read_bytes())
    data[4:400] = bytes(396)
    (path / NAMES[0]).write_bytes(data)
    assert "DCP212" not in rules(check(path, "DCP2", "DCP3"))
