"""`../shared/attacks`: checkpoints on which torch and a careless reader disagree."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dcpctl.cli.app import app
from dcpctl.errors import DcpctlError, Refused
from dcpctl.formats.metadata import parse_metadata
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.writing.plan import plan
from tests.test_check.helpers import check, the


@pytest.fixture(scope="module")
def attacks(shared: Path) -> Path:
    return shared / "attacks"


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("frame-fork-hides-code", "malformed-pickle", "across the end of a frame"),
        ("pop-after-block", "malformed-pickle", "opcode 0x30"),
        ("layout-flip-healthy", "malformed-pickle", "no layout 'torch.rtrided'"),
        ("shared-chunk-list-memory", "limit-exceeded", "share their chunk lists"),
    ],
)
def test_the_metadata_are_refused(attacks: Path, where: str, error: str, says: str) -> None:
    with pytest.raises(DcpctlError, match=says) as caught:
        open_checkpoint(attacks / where / "ckpt")
    assert caught.value.id == error


def test_one_byte_put_behind_a_run_is_refused(attacks: Path) -> None:
    data = (attacks / "pop-after-block" / "mutant" / "metadata.bin").read_bytes()
    with pytest.raises(DcpctlError, match="opcode 0x30"):
        parse_metadata(data)


class TestDuplicateIndex:
    """Two equal `MetadataIndex`."""

    def test_it_reads_as_torch_does(self, attacks: Path) -> None:
        with open_checkpoint(attacks / "duplicate-bytes-index" / "ckpt") as checkpoint:
            assert checkpoint["optimizer.param_groups.0.lr"].value == 0.777

    def test_it_is_an_error(self, attacks: Path) -> None:
        found = the(check(attacks / "duplicate-bytes-index" / "ckpt", "DCP112"))
        assert (found.severity, found.subject) == ("error", "optimizer.param_groups.0.lr")

    def test_no_writer_takes_it(self, attacks: Path, tmp_path: Path) -> None:
        path = attacks / "duplicate-bytes-index" / "ckpt"
        with open_checkpoint(path) as checkpoint, pytest.raises(Refused, match="DCP112"):
            plan(Draft.of(checkpoint), tmp_path / "out")


@pytest.mark.parametrize(
    ("where", "fqn", "rule", "says"),
    [
        ("one-bit-silent-value-change/ckpt", "model.w", "DCP305", "external attributes 16"),
        ("polyglot-item/tensor", "model.w", "DCP306", "before 1.6"),
        ("healthy-but-torch-fails/constants_pkl", "model.w", "DCP305", "archive"),
        ("healthy-but-torch-fails/eight_args", "model.w", "DCP305", "archive"),
        ("healthy-but-torch-fails/storage_numel_1", "model.w", "DCP305", "archive"),
        ("healthy-but-torch-fails/version_99", "model.w", "DCP305", "archive"),
        ("healthy-but-torch-fails/version_missing", "model.w", "DCP305", "archive"),
    ],
)
class TestItems:
    """Storage items that torch reads otherwise, or not at all."""

    def test_it_is_an_error(
        self, attacks: Path, where: str, fqn: str, rule: str, says: str
    ) -> None:
        found = the(check(attacks / where, "DCP3xx", verify_data=True))
        assert (found.rule, found.severity, found.subject) == (rule, "error", fqn)
        assert says in found.message

    def test_it_is_not_read(
        self, attacks: Path, where: str, fqn: str, rule: str, says: str
    ) -> None:
        with open_checkpoint(attacks / where) as checkpoint, pytest.raises(DcpctlError):
            checkpoint[fqn].numpy()


def test_the_original_of_the_flipped_bit_is_sound(attacks: Path) -> None:
    original = attacks / "one-bit-silent-value-change" / "original"
    assert not check(original, "DCP3xx", verify_data=True).findings


METADATA = ["frame-fork-hides-code", "pop-after-block", "layout-flip-healthy"]
ITEMS = [
    "one-bit-silent-value-change/ckpt",
    "polyglot-item/tensor",
    *(
        f"healthy-but-torch-fails/{name}"
        for name in ("constants_pkl", "eight_args", "storage_numel_1", "version_99")
    ),
    "healthy-but-torch-fails/version_missing",
]
DUPLICATE = "duplicate-bytes-index/ckpt"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("where", [*(f"{name}/ckpt" for name in METADATA), *ITEMS, DUPLICATE])
class TestCommands:
    """What reads them, and what writes."""

    @pytest.mark.parametrize(
        "command",
        [
            ("reshard", "-n", "1"),
            ("rename", "model.w=model.v"),
            ("drop", "model.b*"),
            ("select", "model.*", "optimizer.*"),
            ("upgrade", "--torch", "2.13"),
            ("cast", "--dtype", "bfloat16"),
            ("repair",),
        ],
        ids=lambda command: command[0],
    )
    def test_no_writer_takes_it(
        self, attacks: Path, tmp_path: Path, where: str, command: tuple[str, ...]
    ) -> None:
        verb, *rest = command
        made = run(verb, attacks / where, tmp_path / "out", *rest)
        assert made.exit_code in (3, 4), made.output
        assert not list(tmp_path.iterdir())

    def test_salvage_leaves_it_behind(self, attacks: Path, tmp_path: Path, where: str) -> None:
        made = run("salvage", attacks / where, tmp_path / "out")
        if where not in ITEMS:
            assert made.exit_code in (3, 4), made.output
            assert not list(tmp_path.iterdir())
            return
        assert "1 key lost: 'model.w'" in made.output
        with open_checkpoint(tmp_path / "out") as checkpoint:
            assert "model.w" not in checkpoint
        assert not check(tmp_path / "out", "DCP3xx", verify_data=True).findings

    def test_inspect_and_diff_read_nothing_of_it(
        self, attacks: Path, tmp_path: Path, where: str
    ) -> None:
        if where == DUPLICATE:
            seen = run("inspect", attacks / where, "--key", "optimizer.param_groups.0.lr")
            assert "0.777" in seen.output
            return
        path = attacks / where
        assert run("inspect", path, "--stats", "*").exit_code == 3
        copy = shutil.copytree(path, tmp_path / "copy")
        assert run("diff", "--values", path, copy).exit_code == 3


class TestTraining:
    """`dcpctl.training`, with the model that the attacked checkpoints are of."""

    @pytest.mark.parametrize("where", METADATA)
    def test_preview_load_refuses_the_metadata(self, torch: Any, attacks: Path, where: str) -> None:
        from dcpctl.training import preview_load

        with pytest.raises(DcpctlError):
            preview_load({"w": torch.zeros(2)}, attacks / where / "ckpt")

    @pytest.mark.parametrize("where", ITEMS)
    def test_assert_resumed_refuses_the_item(self, torch: Any, attacks: Path, where: str) -> None:
        from dcpctl.training import assert_resumed

        model = torch.nn.Module()
        with open_checkpoint(attacks / where) as checkpoint:
            model.w = torch.nn.Parameter(torch.zeros(checkpoint["model.w"].shape))
        with pytest.raises(DcpctlError, match=r"model\.w"):
            assert_resumed(model, None, attacks / where)
