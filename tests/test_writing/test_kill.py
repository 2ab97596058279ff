"""SIGKILL at every step: never a loadable half, the source as it was, and the rest can be done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import DcpctlError
from tests.test_writing import killing
from tests.test_writing.building import assert_same, hashes

pytestmark = pytest.mark.slow
SOURCE = "healthy/step-8500"


@pytest.fixture(scope="module")
def source(samples: Path, tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("killed") / "source"
    shutil.copytree(samples / SOURCE, copy)
    return copy


def killed(job: str, source: Path, place: Path) -> list[dict]:
    command = [sys.executable, "-m", "tests.test_writing.killing", job, str(source), str(place)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def done(job: str, source: Path, place: Path) -> dict[str, str]:
    killing.prepare(job, source, place)
    killing.JOBS[job](source, place, False)
    return hashes(place)


@pytest.mark.parametrize("job", ["reshard", "one_file", "overwrite"])
def test_a_new_directory_is_there_whole_or_not_at_all(job, source, tmp_path):
    before = hashes(source)
    whole = done(job, source, tmp_path / "whole")
    killing.prepare(job, source, tmp_path / "untouched")
    nothing = hashes(tmp_path / "untouched")
    seen = killed(job, source, tmp_path / "place")
    names = [one["step"] for one in seen]
    assert {"stage", "write", "publish", "published", "clean up"} <= set(names)
    assert any(name.startswith("journal") for name in names)
    assert len(seen) > 12
    for one in seen:
        out = {name: sum_ for name, sum_ in one["after"].items() if name.startswith("out/")}
        assert out in (nothing, whole), one["step"]
        if one["step"] in ("published", "clean up"):
            assert out == whole
        if job != "overwrite" and one["step"] in ("published", "clean up"):
            assert one["status"] == 1  # it exists by now, and stays as it is
            out = {name: sum_ for name, sum_ in one["end"].items() if name.startswith("out/")}
            assert out == whole
        else:
            assert one["status"] == 0, one["step"]
            assert one["end"] == whole, one["step"]
    assert hashes(source) == before


def test_an_edit_in_place_is_done_or_not(source, tmp_path):
    whole = done("edit", source, tmp_path / "whole")
    seen = killed("edit", source, tmp_path / "place")
    assert {"back up", "place __0_1.distcp", "publish", "published"} <= {s["step"] for s in seen}
    metadata = {hashes(source)[".metadata"], whole["out/.metadata"]}
    for one in seen:
        assert one["after"]["out/.metadata"] in metadata, one["step"]
        assert one["status"] == 0
        kept = {name: one["end"].get(name) for name in whole}
        assert kept == whole, one["step"]
        # What is left when the edit itself was done is cleared away by the next change.
        more = set(one["end"]) - set(whole)
        assert not more or one["step"] in ("published", "clean up")


def test_an_undo_is_done_or_not(source, tmp_path):
    killing.prepare("undo", source, tmp_path / "edited")
    edited = hashes(tmp_path / "edited")
    before = {f"out/{name}": sum_ for name, sum_ in hashes(source).items()}
    seen = killed("undo", source, tmp_path / "place")
    assert {"restore", "restored", "remove __0_1.distcp"} <= {one["step"] for one in seen}
    for one in seen:
        metadata = one["after"]["out/.metadata"]
        assert metadata in (edited["out/.metadata"], before["out/.metadata"])
        assert one["status"] == 0
        assert before.items() <= one["end"].items(), one["step"]
        more = set(one["end"]) - set(before)
        assert not more or one["step"].startswith(("restored", "remove", "clean up"))


def test_what_a_killed_change_left_is_cleared_away(source, tmp_path):
    from dcpctl.writing.unfinished import recover

    killing.prepare("edit", source, tmp_path / "place")
    out = tmp_path / "place/out"
    left = out / ".dcpctl-1.tmp"
    left.mkdir()
    (left / "added.json").write_text('["__0_1.distcp", "../x", "__0_0.distcp"]')
    (out / "__0_1.distcp").write_bytes(b"moved, and then killed")
    shutil.copy(out / ".metadata", out / ".metadata.dcpctl-1.bak")
    assert recover(out)
    assert hashes(out) == hashes(source)


def test_a_result_killed_midway_is_no_checkpoint(source, tmp_path):
    """What a staging directory holds before `.metadata` is written is not taken for one."""
    killing.prepare("reshard", source, tmp_path / "place")
    steps: list[str] = []

    class Stop(Exception):
        pass

    def observer(name: str) -> None:
        steps.append(name)
        if name == "write .metadata":
            staged = next((tmp_path / "place").iterdir()) / "files"
            assert sorted(path.name for path in staged.iterdir()) == [
                "__0_0.distcp",
                "__1_0.distcp",
                "__2_0.distcp",
            ]
            with pytest.raises(DcpctlError):
                open_checkpoint(staged)
            raise Stop

    with killing.observed(observer), pytest.raises(Stop):
        killing.reshard(source, tmp_path / "place", False)
    assert list((tmp_path / "place").iterdir()) == []
    killing.reshard(source, tmp_path / "place", False)
    assert_same(source, tmp_path / "place/out")
