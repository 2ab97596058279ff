"""Directories as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.errors import ReadFailed
from dcpctl.model import directories
from tests.hostile.draft import healthy


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("step-8500", 8500),
        ("step_10", 10),
        ("global_step17", 17),
        ("iter_0000003", 3),
        ("epoch=0-step=3", 3),
        ("epoch_4", 4),
        ("checkpoint-500", 500),
        ("12", 12),
        ("model", None),
        ("misstep-3", None),
        ("", None),
    ],
)
def test_steps(name: str, step: int | None) -> None:
    assert directories.step_of(name) == step


def test_numbers_of_any_length_do_no_harm() -> None:
    directories.step_of("step-" + "9" * 200)
    directories.step_of("9" * 200)


def test_saves_are_newest_first(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        healthy().write(tmp_path / f"step-{step}")
    (tmp_path / "step-100" / ".metadata").unlink()
    (tmp_path / "step-7").mkdir()
    found = directories.find_steps(tmp_path)
    assert [(each.step, each.state) for each in found] == [
        (100, "interrupted"),
        (10, "complete"),
        (9, "complete"),
    ]


def test_saves_one_level_down(tmp_path: Path) -> None:
    healthy().write(tmp_path / "checkpoint" / "step-1")
    assert [each.step for each in directories.find_steps(tmp_path)] == [1]


def test_parts(tmp_path: Path) -> None:
    for name in ("pytorch_model_fsdp_0", "optimizer_0", "unrelated"):
        healthy().write(tmp_path / name)
    assert [part.name for part in directories.parts_of(tmp_path)] == [
        "optimizer_0",
        "pytorch_model_fsdp_0",
    ]


def test_links_that_lead_to_themselves_are_no_directories(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert directories.subdirectories(tmp_path) == [tmp_path / "there"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("run/step-1/.metadata", "run/step-1"),
        ("run/step-1/__3.metadata", "run/step-1"),
        ("run/step-1/__0_0.distcp", "run/step-1"),
        (".metadata", "."),
        ("run/step-1", "run/step-1"),
        ("run/step-1/model.safetensors", "run/step-1/model.safetensors"),
        ("odd.distcp", "odd.distcp"),
    ],
)
def test_files_of_a_checkpoint_mean_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.distcp").mkdir()
    assert directories.meant_by(Path(path)) == Path(meant)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed):
        directories.subdirectories(tmp_path / "nope")
