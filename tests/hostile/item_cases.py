"""Storage items that lie: archives, tensor pickles and values."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

from tests.hostile.draft import STEP, healthy, numbers, value_item
from tests.hostile.opcodes import call, doubled, name, payload, text
from tests.hostile.registry import case
from tests.test_formats.archives import (
    Rec,
    Zip,
    tensor_opcodes,
    tensor_pickle,
    tensor_zip,
    with_record,
)


def _bias(directory: Path, archive: Zip | bytes) -> None:
    """Write a healthy draft whose bias, float32[3], has this item."""
    draft = healthy()
    draft.replace_item("model.bias", archive.build() if isinstance(archive, Zip) else archive)
    draft.write(directory)


def _step(directory: Path, pickle: bytes) -> None:
    """Write a healthy draft whose bytes entry has this data.pkl."""
    draft = healthy()
    draft.replace_item("step", value_item(pickle))
    draft.write(directory)


def _good(**options: object) -> Zip:
    return tensor_zip(tensor_pickle((3,), numel=3), numbers(3), **options)


FINDINGS = {"unknown-form": "DCP306"}


def _lie(name: str, reads: str, make: Callable[[], Zip], finding: str = "") -> None:
    """Register an archive for the bias as a case."""

    def write(directory: Path) -> None:
        _bias(directory, make())

    write.__name__ = name
    case(reads=reads, finding=finding or FINDINGS.get(reads, "DCP305"))(write)


BAD = "malformed-item"
_lie(
    "record_is_larger_than_the_archive",
    BAD,
    lambda: with_record(_good(), "data/0", size=1 << 31, packed=1 << 31),
)
_lie(
    "record_says_other_sizes_packed_and_not",
    BAD,
    lambda: with_record(_good(), "data/0", size=12, packed=6),
)
_lie(
    "record_is_smaller_than_the_tensor",
    BAD,
    lambda: with_record(_good(), "data/0", size=8, packed=8),
)
_lie("record_is_deflated", BAD, lambda: with_record(_good(), "data/0", method=8))
_lie("record_is_encrypted", BAD, lambda: with_record(_good(), "data/0", flags=0x0809))
_lie("record_begins_outside", BAD, lambda: with_record(_good(), "data/0", header=1 << 31))
_lie("record_begins_inside_another", BAD, lambda: with_record(_good(), "data/0", header=10))
_lie("local_header_is_deflated", BAD, lambda: with_record(_good(), "data/0", local_method=8))
_lie(
    "local_header_has_another_name",
    BAD,
    lambda: with_record(_good(), "data/0", local_name=b"archive/data/9"),
)
_lie("local_extra_leads_outside", BAD, lambda: with_record(_good(), "version", local_extra=0xFFFF))
_lie(
    "record_name_is_not_utf_8",
    BAD,
    lambda: with_record(_good(), "data/0", raw_name=b"archive/\xff\xfe"),
)
_lie(
    "record_name_leads_outside",
    BAD,
    lambda: with_record(_good(), "data/0", raw_name=b"../../etc/passwd"),
)
_lie(
    "zip64_size_is_missing",
    BAD,
    lambda: with_record(_good(), "data/0", size=0xFFFFFFFF, packed=0xFFFFFFFF),
)
_lie(
    "zip64_size_is_2_to_the_63", BAD,
    lambda: with_record(
        _good(), "data/0", size=0xFFFFFFFF, packed=0xFFFFFFFF,
        extra=struct.pack("<HHQQ", 1, 16, 1 << 63, 1 << 63),
    ),
)  # fmt: skip
_lie("end_record_points_outside", BAD, lambda: _good(zip64=False, end={5: 0xFFFFFF00}))
_lie("end_record_counts_too_many", BAD, lambda: _good(zip64=False, end={2: 60_000, 3: 60_000}))
_lie("end_record_counts_too_few", BAD, lambda: _good(zip64=False, end={2: 1, 3: 1}))
_lie("end_record_spans_disks", BAD, lambda: _good(zip64=False, end={0: 3}))
_lie("zip64_end_record_points_outside", BAD, lambda: _good(end64={8: 1 << 60}, end={5: 0xFFFFFFFF}))
_lie(
    "zip64_end_record_counts_2_to_the_63", "limit-exceeded",
    lambda: _good(end64={5: 1 << 63, 6: 1 << 63}, end={2: 0xFFFF, 3: 0xFFFF}),
)  # fmt: skip
_lie("zip64_locator_points_outside", BAD, lambda: _good(locator={1: 1 << 62}))
_lie("end_records_disagree", BAD, lambda: _good(end={4: 99}))
_lie("archive_with_a_comment", BAD, lambda: _good(comment=b"PK\5\6" + bytes(18)))
_lie("two_records_of_one_name", BAD, lambda: Zip([*_good().records, Rec("data/0", numbers(3))]))
_lie("no_data_pkl", BAD, lambda: Zip([Rec("data/0", numbers(3)), Rec("version", b"3\n")]))
_lie("no_data_record", BAD, lambda: Zip([Rec("data.pkl", tensor_pickle((3,), numel=3))]))
_lie("big_endian", "unknown-form", lambda: with_record(_good(), "byteorder", data=b"big"))
_lie("byteorder_is_rubbish", BAD, lambda: with_record(_good(), "byteorder", data=b"middle"))
_lie("empty_archive", BAD, lambda: Zip([]))


def _tensor(name: str, reads: str, pickle: bytes, finding: str = "") -> None:
    _lie(name, reads, lambda: tensor_zip(pickle, numbers(3)), finding)


BAD_PICKLE = "malformed-pickle"
_tensor("item_of_another_shape", BAD, tensor_pickle((1, 3), numel=3), "DCP304")
_tensor("item_of_another_dtype", BAD, tensor_pickle((3,), numel=3, storage="IntStorage"), "DCP304")
_tensor("item_with_a_negative_size", BAD_PICKLE, tensor_pickle((-3,), stride=(1,), numel=3))
_tensor("item_with_a_huge_stride", BAD_PICKLE, tensor_pickle((3,), stride=(1 << 61,), numel=3))
_tensor("item_with_a_huge_offset", BAD_PICKLE, tensor_pickle((3,), offset=1 << 61, numel=3))
_tensor(
    "item_of_integers_that_require_gradients",
    BAD_PICKLE,
    tensor_pickle((3,), numel=3, storage="IntStorage").replace(b"\x89c", b"\x88c"),
)
_tensor(  # torch's own _rebuild_tensor_v3 fails on every tensor that does
    "item_of_torch_2_1s_form_that_requires_gradients",
    BAD_PICKLE,
    tensor_pickle((12,), storage="UntypedStorage", numel=12, dtype="float8_e4m3fn").replace(
        b"\x89c", b"\x88c"
    ),
)
_tensor(
    "item_with_a_stride_of_2_to_the_62", BAD_PICKLE, tensor_pickle((3,), stride=(1 << 62,), numel=3)
)
_lie(
    "item_that_shows_one_number_often", "unknown-form",
    lambda: tensor_zip(tensor_pickle((3,), stride=(0,), numel=1), numbers(1)),
)  # fmt: skip
_tensor("item_of_another_key", BAD, tensor_pickle((3,), numel=3, key="../../x"))
_tensor(
    "item_with_other_strides_than_dims", BAD_PICKLE, tensor_pickle((3,), stride=(1, 1), numel=3)
)
_tensor(
    "item_of_an_unknown_storage", BAD_PICKLE, tensor_pickle((3,), numel=3, storage="EvilStorage")
)
_lie("item_that_holds_a_number", "unknown-form", lambda: tensor_zip(STEP, None))
_lie(
    "item_that_holds_an_unknown_class",
    "unknown-form",
    lambda: tensor_zip(b"\x80\x02cevil\nTensor\n)R.", None),
)
_tensor(
    "item_with_a_conjugate_bit_on_floats",
    "unknown-form",
    tensor_pickle((3,), numel=3, metadata=["conj"]),
)
_tensor("item_with_another_persistent_id", BAD_PICKLE, b"\x80\x02" + text("module") + b"\x85Q.")
_tensor("item_of_empty_pickle", BAD_PICKLE, b"")


@case(reads="unknown-form", finding="DCP306")
def tensor_item_that_calls_os_system(directory: Path) -> None:
    _bias(directory, tensor_zip(b"\x80\x02" + payload(directory) + b".", None))


@case(reads="malformed-pickle", finding="DCP305", subject="os.system")
def tensor_item_with_a_payload_in_front(directory: Path) -> None:
    """No tensor is what is left when something was called."""
    pickle = b"\x80\x02" + payload(directory) + b"0" + tensor_opcodes((3,), numel=3) + b"."
    _bias(directory, tensor_zip(pickle, numbers(3)))


@case(reads="limit-exceeded", finding="DCP305")
def tensor_pickle_of_two_megabytes(directory: Path) -> None:
    _bias(directory, tensor_zip(b"\x80\x02" + b"N0" * (1 << 20) + STEP[2:], numbers(3)))


@case(reads="limit-exceeded", finding="DCP305")
def archive_of_200_000_records(directory: Path) -> None:
    records = [Rec(f"data/{n}", b"") for n in range(200_000)]
    _bias(directory, Zip(records, align=1, end={2: 0xFFFF, 3: 0xFFFF}))


@case(finding="DCP110")
def value_that_calls_os_system(directory: Path) -> None:
    """Shown as an opaque object."""
    _step(directory, b"\x80\x02" + payload(directory) + b".")


@case(reads="malformed-pickle", finding="DCP305")
def value_with_inst_obj_and_build(directory: Path) -> None:
    inst = b"(" + text("touch x") + b"ios\nsystem\n"
    obj = b"(" + name("subprocess:Popen") + text("true") + b"o"
    build = name("evil:Class") + b")\x81}" + text("__setstate__") + name("os:system") + b"sb"
    _step(directory, b"\x80\x02(" + inst + obj + build + b"t.")


@case(reads="unknown-form")
def value_in_itself(directory: Path) -> None:
    _step(directory, b"\x80\x02]q\x00h\x00a.")


@case(reads="limit-exceeded")
def value_of_doubled_lists(directory: Path) -> None:
    _step(directory, b"\x80\x02" + doubled(40) + b".")


@case(reads="limit-exceeded")
def value_of_ten_thousand_levels(directory: Path) -> None:
    _step(directory, b"\x80\x02" + b"]" * 10_000 + b"a" * 9999 + b".")


@case(reads="limit-exceeded", finding="DCP305")
def value_of_five_million_lists(directory: Path) -> None:
    batch = b"(" + b"]" * 10_000 + b"e"
    _step(directory, b"\x80\x02]" + batch * 500 + b".")


@case(reads="limit-exceeded", finding="DCP305")
def value_of_twenty_million_nones(directory: Path) -> None:
    batch = b"(" + b"N" * 10_000 + b"e"
    _step(directory, b"\x80\x02]" + batch * 2000 + b".")


@case(reads="limit-exceeded", finding="DCP305")
def value_of_three_million_dicts(directory: Path) -> None:
    batch = b"(" + b"}K\x01Ns" * 10_000 + b"e"
    _step(directory, b"\x80\x02]" + batch * 300 + b".")


@case(reads="limit-exceeded", finding="DCP305")
def value_of_ten_million_texts(directory: Path) -> None:
    batch = b"(" + b"\x8c\x02ab" * 10_000 + b"e"
    _step(directory, b"\x80\x02]" + batch * 1000 + b".")


@case(reads="malformed-pickle", finding="DCP305")
def value_with_a_tuple_hash_bomb(directory: Path) -> None:
    tuples = b"".join(b"h%c" % n + b"\x86q%c" % (n + 1) for n in range(60))
    _step(directory, b"\x80\x02}K\x01q\x00" + tuples + b"Ns.")


@case()
def value_with_a_record_of_doubled_lists_as_key(directory: Path) -> None:
    record = name("torch.distributed.checkpoint.metadata:MetadataIndex") + b")\x81}"
    key = record + text("fqn") + doubled(40) + b"sb"
    _step(directory, b"\x80\x02}" + key + b"Ns.")


@case(reads="malformed-pickle", finding="DCP305")
def value_device_of_doubled_lists(directory: Path) -> None:
    _step(directory, b"\x80\x02" + name("torch:device") + doubled(40) + b"\x85R.")


@case(reads="malformed-pickle", finding="DCP305")
def value_storage_at_a_location_of_doubled_lists(directory: Path) -> None:
    storage = text("storage") + name("torch:FloatStorage") + text("0")
    _step(directory, b"\x80\x02(" + storage + doubled(40) + b"K\x03tQ.")


@case(reads="malformed-pickle", finding="DCP305")
def value_with_a_tensor_of_2_to_the_60(directory: Path) -> None:
    """It has no storage."""
    shape = (1 << 30, 1 << 30)
    _step(directory, b"\x80\x02" + tensor_opcodes(shape, numel=4) + b".")


@case(reads="malformed-pickle", finding="DCP305")
def value_with_an_array_of_lies(directory: Path) -> None:
    """An array of one object, and no object: NumPy follows a null pointer."""
    dtype = call("numpy:dtype", text("O8"), b"\x89", b"\x88")
    dtype += b"(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    array = call(
        "numpy._core.multiarray:_reconstruct", name("numpy:ndarray"), b"K\x00\x85", text("b")
    )
    _step(directory, b"\x80\x02" + array + b"(K\x01K\x01\x85" + dtype + b"\x89]tb.")


@case(reads="malformed-pickle", finding="DCP305")
def value_with_an_array_larger_than_its_bytes(directory: Path) -> None:
    dtype = call("numpy:dtype", text("f8"), b"\x89", b"\x88")
    dtype += b"(K\x03" + text("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = call(
        "numpy._core.multiarray:_reconstruct", name("numpy:ndarray"), b"K\x00\x85", text("b")
    )
    raw = call("_codecs:encode", text("12345678"), text("latin1"))
    shape = b"\x8a\x08" + struct.pack("<q", 1 << 60) + b"\x85"
    _step(directory, b"\x80\x02" + array + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb.")


@case(reads="limit-exceeded", finding="DCP305")
def zstd_bomb_as_a_tensor(directory: Path) -> None:
    _bomb(directory, "model.bias", 64 << 20)


@case(reads="limit-exceeded", finding="DCP305")
def zstd_bomb_as_a_value(directory: Path) -> None:
    """64 GiB of zeros in 6 MB."""
    _bomb(directory, "step", 64 << 30)


def _bomb(directory: Path, fqn: str, size: int) -> None:
    """One zstd frame without a content size, of blocks that stand for 128 KiB of zeros each."""
    block = ((128 << 10) << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    end = (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    draft = healthy()
    draft.replace_item(fqn, b"\x28\xb5\x2f\xfd\0\x58" + block * (size >> 17) + end)
    draft.item(fqn).transform_descriptors = ["stream.zstd/1"]
    draft.write(directory)


def _packed_bias(directory: Path, packed: Callable[[bytes], bytes]) -> None:
    """Write a healthy draft whose bias is compressed by `packed`."""
    draft = healthy()
    draft.replace_item("model.bias", packed(_good().build()))
    draft.item("model.bias").transform_descriptors = ["stream.zstd/1"]
    draft.write(directory)


@case(reads="malformed-item", finding="DCP305")
def zstd_of_two_frames(directory: Path) -> None:
    """Readers differ in whether they go on behind the first one, which is all that torch writes."""
    import zstandard

    pack = zstandard.compress
    _packed_bias(directory, lambda item: pack(item[:200]) + pack(item[200:]))


@case(reads="malformed-item", finding="DCP305")
def zstd_of_a_skippable_frame_and_one(directory: Path) -> None:
    import zstandard

    skipped = b"\x50\x2a\x4d\x18\4\0\0\0dcpc"
    _packed_bias(directory, lambda item: skipped + zstandard.compress(item))


@case(reads="malformed-item", finding="DCP305")
def zstd_with_rubbish_behind_it(directory: Path) -> None:
    import zstandard

    _packed_bias(directory, lambda item: zstandard.compress(item) + b"rubbish")


@case(reads="malformed-item", finding="DCP305")
def zstd_without_its_last_block(directory: Path) -> None:
    import zstandard

    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    _packed_bias(directory, lambda item: pack(item)[:-4])
