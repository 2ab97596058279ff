from __future__ import annotations

import math
from pathlib import Path

import pytest

from dcpctl.check import item_reader, scan
from tests import corruptors
from tests.hostile.draft import Draft, healthy, value_item
from tests.test_check.helpers import check, rules, skipped, tensor_of, the
from tests.test_formats.archives import tensor_pickle, tensor_zip, with_record
from tests.test_formats.wrappers import plain, wrapper, wrapper_zip


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    healthy().write(tmp_path / "ckpt")
    return tmp_path / "ckpt"


@pytest.mark.parametrize("whole", [False, True])
def test_a_sound_checkpoint_has_no_finding(checkpoint: Path, whole: bool) -> None:
    result = check(checkpoint, "DCP3", verify_data=whole)
    assert result.findings == ()
    assert skipped(result) == {"DCP307": "it reads all numbers, which --values asks for"}
    assert (result.items, result.items_verified) == (4, 4)
    assert result.notes == ("Every byte of 4 storage items was read.",)


@pytest.mark.parametrize("whole", [False, True])
def test_a_flipped_bit_in_the_numbers(checkpoint: Path, whole: bool) -> None:
    corruptors.flip_data(checkpoint, "model.weight", row=1)
    found = the(check(checkpoint, "DCP3", verify_data=whole))
    assert (found.rule, found.severity, found.subject) == ("DCP301", "error", "model.weight")
    assert found.file == "__1_0.distcp"
    _, record = corruptors.record_of(checkpoint, "model.weight", "data/0", 1)
    assert found.offset == record.data_offset
    assert found.message.startswith("record 'data/0' of 24 bytes has CRC-32 ")


def test_a_flipped_bit_in_a_pickle(checkpoint: Path) -> None:
    corruptors.flip_pickle(checkpoint, "model.bias")
    found = the(check(checkpoint, "DCP3"))
    assert (found.rule, found.subject) == ("DCP302", "model.bias")
    assert "record 'data.pkl'" in found.message


def test_the_committed_sample(samples: Path) -> None:
    result = check(samples / "flipped_bit")
    found = next(found for found in result.findings if found.severity == "error")
    assert (found.rule, found.subject) == ("DCP301", "model.tok_embeddings.weight")
    assert result.failed()


def test_no_checksum(tmp_path: Path) -> None:
    draft = healthy()
    archive = tensor_zip(tensor_pickle((3,), numel=3), b"\0" * 12, crc=False)
    draft.replace_item("model.bias", archive.build())
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP3"))
    assert (found.rule, found.severity) == ("DCP303", "info")
    assert found.message.startswith("1 of 4 storage items record no checksum (torch.serialization")


def test_another_tensor(tmp_path: Path) -> None:
    draft = healthy()
    draft.replace_item("model.bias", tensor_of(1, 2, 3, 4))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP3"))
    assert (found.rule, found.subject) == ("DCP304", "model.bias")
    assert found.message == "the item holds float32[4], .metadata describes float32[3]"


def test_exchanged_shard_files(checkpoint: Path) -> None:
    corruptors.exchange_files(checkpoint / "__0_0.distcp", checkpoint / "__1_0.distcp")
    assert check(checkpoint).failed()


@pytest.mark.parametrize("changes", [{"size": 1 << 30}, {"method": 8}, {"raw_name": b"\xff"}])
def test_malformed(tmp_path: Path, changes: dict[str, object]) -> None:
    draft = healthy()
    good = tensor_zip(tensor_pickle((3,), numel=3), b"\0" * 12)
    draft.replace_item("model.bias", with_record(good, "data/0", **changes).build())
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP3"))
    assert (found.rule, found.subject) == ("DCP305", "model.bias")
    assert found.message.startswith("malformed torch.save archive")


def test_unknown_form(tmp_path: Path) -> None:
    draft = healthy()
    record = tensor_zip(tensor_pickle((3,), numel=3), b"\0" * 12)
    draft.replace_item("model.bias", with_record(record, "byteorder", data=b"big").build())
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP3"))
    assert (found.rule, found.severity) == ("DCP306", "error")
    assert found.message == "written on a big-endian machine"


LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e" + bytes(64)


@pytest.mark.parametrize(
    ("fqn", "severity", "message"),
    [
        # No DCP release writes it into an item; torch reads that of a tensor with weights_only.
        ("model.bias", "error", "written by torch.save before 1.6 (no ZIP archive)"),
        ("step", "error", "torch unpickles it without restriction, which runs its code"),
    ],
)
def test_the_form_before_1_6(tmp_path: Path, fqn: str, severity: str, message: str) -> None:
    draft = healthy()
    draft.replace_item(fqn, LEGACY)
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP306"))
    assert (found.subject, found.severity) == (fqn, severity)
    assert found.message.endswith(message)


def test_an_unknown_transform_is_what_no_torch_loads(tmp_path: Path) -> None:
    draft = healthy()
    draft.item("model.bias").transform_descriptors = ["stream.rot13/1"]
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP306"))
    assert (found.severity, found.message) == (
        "error",
        "unknown stream transform 'stream.rot13/1', which torch refuses",
    )


def test_a_tensor_entry_without_a_tensor(tmp_path: Path) -> None:
    draft = healthy()
    draft.replace_item("model.bias", value_item(b"\x80\x02K\x05."))
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP306"))
    assert (found.severity, found.message) == ("error", "holds a 'int', not a tensor")


def test_a_tensor_subclass_is_a_remark(tmp_path: Path) -> None:
    draft = healthy()
    codes, scale = plain((3,), "0", "ByteStorage"), plain((1,), "1", "FloatStorage")
    pickle = wrapper("my.own.Packed", (3,), codes=codes, scale=scale)
    draft.replace_item("model.bias", wrapper_zip(pickle, b"\0" * 3, b"\0" * 4).build())
    draft.write(tmp_path)
    found = the(check(tmp_path, "DCP1", "DCP3", verify_data=True))
    assert (found.rule, found.severity, found.subject) == ("DCP308", "info", "model.bias")
    assert found.message == (
        "1 entry holds tensors of the class 'my.own.Packed', kept whole and compared by checksum; "
        "the first is made of 'codes' uint8[3], 'scale' float32[1] (7 B for 12 B); loading them "
        "needs 'my.own' to be imported"
    )


@pytest.mark.parametrize(
    ("kind", "dtype", "shape"),
    [("my.own.Packed", "float16", (3,)), ("my.own.Packed", "float32", (4,))],
)
def test_a_subclass_of_another_dtype_or_shape(
    tmp_path: Path, kind: str, dtype: str, shape: tuple[int, ...]
) -> None:
    draft = healthy()
    codes = plain(shape, "0", "ByteStorage")
    pickle = wrapper(kind, shape, dtype=dtype, codes=codes)
    draft.replace_item("model.bias", wrapper_zip(pickle, bytes(shape[0])).build())
    draft.write(tmp_path)
    assert the(check(tmp_path, "DCP304")).message == (
        f"the item holds {dtype}{list(shape)}, .metadata describes float32[3]"
    )


def test_a_subclass_that_calls_code_besides(tmp_path: Path) -> None:
    draft = healthy()
    codes = plain((3,), "0", "ByteStorage")
    evil = b"cposix\nsystem\n(X\x04\x00\x00\x00truetR"
    pickle = wrapper("my.own.Packed", (3,), codes=codes, hook=evil)
    draft.replace_item("model.bias", wrapper_zip(pickle, b"\0" * 3).build())
    draft.write(tmp_path)
    found = {one.rule: one for one in check(tmp_path, "DCP1", "DCP3").findings}
    assert set(found) == {"DCP110", "DCP308"}
    assert found["DCP110"].message == (
        "its pickle calls 'posix.system'; loading this runs code: posix.system"
    )


@pytest.mark.parametrize(
    ("numbers", "severity", "message"),
    [
        ((1.0, math.nan, 2.0), "error", "1 NaN and 0 infinities among 3 numbers"),
        ((math.inf, -math.inf, 2.0), "warning", "0 NaN and 2 infinities among 3 numbers"),
    ],
)
def test_not_finite(
    tmp_path: Path, numbers: tuple[float, ...], severity: str, message: str
) -> None:
    draft = healthy()
    draft.replace_item("model.bias", tensor_of(*numbers))
    draft.write(tmp_path)
    assert "DCP307" not in rules(check(tmp_path, "DCP3"))
    found = the(check(tmp_path, "DCP3", values=True))
    assert (found.rule, found.subject, found.severity) == ("DCP307", "model.bias", severity)
    assert found.message == message


def test_values_that_cannot_be_read_skip_the_rule(checkpoint: Path) -> None:
    corruptors.truncate(checkpoint / "__1_0.distcp", 10)
    result = check(checkpoint, "DCP307", values=True)
    assert skipped(result)["DCP307"].startswith("1 tensor could not be read ('model.weight')")
    assert result.rules_run == ()


# -- the sample and the threads --


@pytest.fixture
def many(tmp_path: Path) -> Path:
    draft = Draft()
    for number in range(200):
        draft.tensor(f"model.{number}.weight", (64, 2), [16] * 4)
    draft.write(tmp_path / "many")
    return tmp_path / "many"


def test_a_sample_says_of_how_much(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "SAMPLE_ITEMS", 50)
    monkeypatch.setattr(scan, "SAMPLE_BYTES", 10_000)
    monkeypatch.setattr(item_reader, "_SMALL_RECORD", 100)
    result = check(many, "DCP3")
    assert 5 <= result.items_verified <= 10
    assert result.notes[0].startswith(
        "A sample was read: 50 of 800 storage items were opened and "
        f"{result.items_verified} of them read whole"
    )
    assert "--verify-data" in result.notes[0]
    assert check(many, "DCP3").notes == result.notes


def test_a_sample_of_headers_finds_what_it_opens(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SAMPLE_BYTES", 0)
    corruptors.flip_pickle(many, "model.7.weight", row=2)
    assert rules(check(many, "DCP3")) == {"DCP302"}


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_thread_finds_the_same(
    many: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    monkeypatch.setattr(scan, "_BATCH_BYTES", 2_000)
    for number in (3, 77, 199):
        corruptors.flip_data(many, f"model.{number}.weight", row=number % 4)
    seen: list[tuple[int, int]] = []
    result = check(
        many, "DCP3", verify_data=True, jobs=jobs, progress=lambda *done: seen.append(done)
    )
    files = [(found.file, found.offset) for found in result.findings]
    assert [found.subject for found in result.findings] == [
        "model.77.weight",
        "model.3.weight",
        "model.199.weight",
    ]
    assert files == sorted(files)
    assert seen == sorted(seen)
    assert seen[-1] == (result.bytes_stored, result.bytes_stored)
    assert result.items_verified == result.items == 800


@pytest.mark.parametrize("name", ["zstd", "no_collectives", "releases/2.13.0-hf_sharded"])
def test_other_forms(samples: Path, name: str) -> None:
    if name == "zstd":
        pytest.importorskip("zstandard")
    result = check(samples / name, "DCP1", "DCP2", "DCP3", verify_data=True, values=True)
    assert rules(result, "error", "warning") == set()
    assert result.items_verified == result.items


def test_a_compressed_item_with_a_wrong_bit(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    path = corruptors.copy(samples / "zstd", tmp_path / "zstd")
    size = (path / "__1_0.distcp").stat().st_size
    for offset in range(200, size, size // 5):
        corruptors.flip_bit(path / "__1_0.distcp", offset)
    assert rules(check(path, "DCP3", verify_data=True), "error") & {"DCP301", "DCP302", "DCP305"}


def test_an_interrupt_stops_the_threads(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_BATCH_BYTES", 1_000)
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(many, "DCP3", verify_data=True, jobs=4, progress=interrupt)
    assert calls <= 4 + 1
