"""Files of ranks that are elsewhere, and metadata of two saves in one directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dcpctl.errors import InterruptedSave
from dcpctl.formats.layouts.fit import BOTH, NEITHER, ONE, PER_RANK, fitting
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.shard_file import missing_ranks, rank_words, ranks_among
from dcpctl.storage.local import LocalStorage
from tests.test_check.helpers import check, the
from tests.test_diff.helpers import differ


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([3], "rank 3"),
        ([0, 1], "ranks 0 and 1"),
        ([0, 2, 3], "ranks 0, 2 and 3"),
        ([4, 5, 6, 7], "ranks 4 to 7"),
        ([*range(0, 20, 2)], "ranks 0, 2, 4, 6, 8 and 5 more"),
    ],
)
def test_ranks_in_words(ranks: list[int], words: str) -> None:
    assert rank_words(ranks) == words


def test_which_ranks_are_not_here() -> None:
    names = ["__1_0.distcp", "__4_0.distcp", "__4_1.distcp", ".metadata", "x"]
    assert ranks_among(names) == (1, 4)
    assert missing_ranks(ranks_among(names)) == (0, 2, 3)
    assert missing_ranks(()) == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["__1_0.distcp"], "of rank 1, and no .metadata; the files of rank 0 are not here"),
        (["__1_0.distcp", "__4_0.distcp"], "the files of ranks 0, 2 and 3 are not here"),
        (["__0_0.distcp", "__1_0.distcp"], "has 2 shard files, of ranks 0 and 1, and no .metadata"),
    ],
)
def test_files_without_metadata(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InterruptedSave) as error:
        open_checkpoint(tmp_path)
    assert message in str(error.value)
    assert "gather the files of all nodes" in (error.value.hint or "")
    assert "dcpctl repair" in (error.value.hint or "")


def test_an_interrupted_save_is_one(tmp_path: Path) -> None:
    for name in ("__0_0.distcp", ".metadata.tmp"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InterruptedSave, match="the save did not finish") as error:
        open_checkpoint(tmp_path)
    assert "gather" not in (error.value.hint or "")


def test_files_of_ranks_are_one_finding(samples: Path, tmp_path: Path) -> None:
    made = tmp_path / "ck"
    shutil.copytree(samples / "healthy" / "step-8500", made)
    shards = sorted(made.glob("__*.distcp"))
    for shard in shards[1:]:
        shard.unlink()
    found = the(check(made, "DCP201"))
    gone = [int(shard.name.split("_")[2]) for shard in shards[1:]]
    assert found.message.startswith(f"the files of {rank_words(gone)} are not here: ")
    assert "gather them" in found.message


def test_a_rank_that_described_its_own_files_and_is_not_here(shared: Path, tmp_path: Path) -> None:
    source = shared / "reports" / "no-collectives-replicas" / "ck"
    for path in source.glob("__1*"):
        shutil.copy(path, tmp_path)
    found = the(check(tmp_path, "DCP201"))
    assert "the metadata and the files of rank 0 are not here" in found.message


@pytest.fixture
def twice(shared: Path, tmp_path: Path) -> Path:
    """A directory with the metadata of both forms; the files are for the test to add."""
    of = shared / "checkpoints" / "2.13.0"
    for source in (of / "no_collectives" / "ckpt", of / "fsdp2_list_fp32" / "ckpt"):
        for path in source.glob("*metadata"):
            shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "fits", "severity", "form"),
    [
        ("fsdp2_list_fp32", ONE, "warning", "dcp"),
        ("no_collectives", PER_RANK, "error", "dcp-per-rank"),
        (None, NEITHER, "error", "dcp"),
    ],
)
def test_two_kinds_of_metadata(
    shared: Path, twice: Path, files: str | None, fits: str, severity: str, form: str
) -> None:
    for path in (shared / "checkpoints" / "2.13.0" / str(files) / "ckpt").glob("*.distcp"):
        shutil.copy(path, twice)
    with LocalStorage(twice) as storage:
        assert fitting(storage) == fits
    found = the(check(twice, "DCP211"))
    assert found.severity == severity
    with open_checkpoint(twice) as checkpoint:
        assert checkpoint.format == form


def test_both_kinds_may_fit(shared: Path, tmp_path: Path) -> None:
    source = shared / "checkpoints" / "2.13.0" / "no_collectives" / "ckpt"
    for path in source.glob("__0*"):
        shutil.copy(path, tmp_path)
    shutil.copy(tmp_path / "__0.metadata", tmp_path / ".metadata")
    with LocalStorage(tmp_path) as storage:
        assert fitting(storage) == BOTH
    assert "fit both" in the(check(tmp_path, "DCP211")).message


def test_param_groups_in_a_file_that_is_not_here(shared: Path, tmp_path: Path) -> None:
    source = shared / "checkpoints" / "2.2.2" / "ddp_w4" / "ckpt"  # one pickled list of groups
    made = tmp_path / "ck"
    made.mkdir()
    for path in source.iterdir():
        if path.name != "__0_0.distcp":
            (made / path.name).write_bytes(path.read_bytes())
    with open_checkpoint(made) as checkpoint:
        view = OptimizerView(checkpoint)
        assert view.groups_unread is not None
        assert (view.verdict, view.notes) == ("partial", ())
        assert "the param groups could not be read" in view.how
    found = differ(source, made).optimizer
    assert found is not None
    assert (found.kinds_differ, found.steps_differ, found.changes) == (False, False, ())
    assert (found.groups_told, found.changed) == (False, 1)  # the verdict
