"""`../shared/attacks`: checkpoints on which torch and a careless reader disagree."""

from __future__ import annotations

from pathlib import Path

import pytest

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
