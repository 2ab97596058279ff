"""Archives of torch.save: read by ranges, and refused where they lie."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from dcpctl import limits
from dcpctl.errors import (
    DcpctlError,
    LimitExceeded,
    MalformedItem,
    MalformedPickle,
    TruncatedFile,
    UnknownForm,
)
from dcpctl.formats.crc import crc32
from dcpctl.formats.pickles.standins import TensorRef
from dcpctl.formats.tensor_read import read_box
from dcpctl.formats.torch_zip import open_item
from dcpctl.storage.buffer import BufferStorage
from tests.test_formats.archives import Rec, Zip, item_of, tensor_pickle, tensor_zip, with_record

NUMBERS = np.arange(6, dtype="<f4")
GOOD = tensor_zip(tensor_pickle((2, 3), numel=6), NUMBERS.tobytes())


# -- what is right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("zip64", [True, False])
@pytest.mark.parametrize("before", [b"", b"PK\5\6 another item"])
def test_reads_a_tensor(zip64, before):
    item = item_of(replace(GOOD, zip64=zip64).build(), before=before, after=b"PK\5\6" * 9)
    assert list(item.records) == ["data.pkl", ".format_version", "byteorder", "data/0", "version"]
    record = item.records["data/0"]
    assert record.size == 24
    assert (record.data_offset - len(before)) % 64 == 0
    assert record.crc32 == crc32(NUMBERS.tobytes())
    assert item.storage.read(item.file, record.data_offset, 24) == NUMBERS.tobytes()
    assert item.read("version") == b"3\n"
    assert item.read("data/0", 4, 8) == NUMBERS[1:2].tobytes()
    assert item.problems == []
    ref = item.tensor()
    assert (ref.dtype, ref.shape, ref.stride, ref.key) == ("float32", (2, 3), (3, 1), "0")
    assert read_box(item, ref).tolist() == NUMBERS.reshape(2, 3).tolist()
    assert all(item.check_crc(name) for name in item.records)


@pytest.mark.parametrize("prefix", ["archive/", "x/", "a.b c/", "täg/"])
def test_any_prefix_will_do(prefix):
    assert item_of(replace(GOOD, prefix=prefix).build()).read("byteorder") == b"little"


def test_records_of_older_releases():
    # Before 2.1 there was no byteorder.
    old = replace(GOOD, records=[rec for rec in GOOD.records if rec.name in ("data.pkl", "data/0")])
    assert item_of(old.build()).tensor().shape == (2, 3)


def test_data_that_look_like_an_archive_are_data():
    inner = GOOD.build()
    data = inner + b"\0" * (-len(inner) % 4)
    outer = tensor_zip(tensor_pickle((len(data) // 4,), numel=len(data) // 4), data)
    item = item_of(outer.build())
    assert item.tensor().shape == (len(data) // 4,)
    assert item.read("data/0", 0, len(inner)) == inner


def test_no_checksum_recorded():
    item = item_of(replace(GOOD, crc=False).build())
    assert all(record.crc32 is None for record in item.records.values())
    assert item.check_crc("data/0") is None


def test_a_checksum_of_zero_among_others_is_a_checksum():
    archive = with_record(GOOD, "data/0", crc=0)
    assert item_of(archive.build()).check_crc("data/0") is False


def test_an_empty_record_needs_no_checksum():
    archive = tensor_zip(tensor_pickle((0, 3)), b"", crc=False)
    item = item_of(archive.build())
    assert item.records["data/0"].crc32 == 0
    assert item.check_crc("data/0") is True
    assert read_box(item, item.tensor()).shape == (0, 3)


def test_a_flipped_bit_is_found():
    data = bytearray(GOOD.build())
    data[data.index(NUMBERS.tobytes()) + 5] ^= 0x10
    assert item_of(bytes(data)).check_crc("data/0") is False


def test_unused_bytes_are_a_problem_but_no_error():
    item = item_of(replace(GOOD, after_directory=b"....").build())
    assert item.problems == ["4 unused bytes after the directory"]
    size = sum(46 + len("archive/" + rec.name) for rec in GOOD.records)
    longer = replace(GOOD, end64={7: size + 4}, end={4: size + 4}, after_directory=b"....")
    assert item_of(longer.build()).problems == ["4 unused bytes in the directory"]


def test_large_items_take_few_small_reads():
    asked = []

    class Counting(BufferStorage):
        def read(self, name, offset, length):
            asked.append(length)
            return super().read(name, offset, length)

    numbers = np.zeros(1 << 20, dtype="<f4")
    data = tensor_zip(tensor_pickle((1 << 20,), numel=1 << 20), numbers.tobytes()).build()
    storage = Counting("x")
    storage.append(b"#" * 1000 + data)
    item = open_item(storage, "f", 1000, len(data), subject="x")
    assert item.tensor().shape == (1 << 20,)
    assert asked == [4096, 4096]


def test_small_items_take_one_read():
    class Counting(BufferStorage):
        asked = 0

        def read(self, name, offset, length):
            Counting.asked += 1
            return super().read(name, offset, length)

    storage = Counting("x")
    storage.append(GOOD.build())
    open_item(storage, "f", 0, storage.size(), subject="x").tensor()
    assert Counting.asked == 1


def test_sizes_over_4_gib_come_from_the_extra_field():
    # A record that claims 5 GiB in an item of 1 KiB is refused for its true size.
    wide = b"\1\0\x18\0" + b"".join(n.to_bytes(8, "little") for n in (5 << 30, 5 << 30, 0))
    lie = with_record(GOOD, "data.pkl", size=0xFFFFFFFF, packed=0xFFFFFFFF, header=0xFFFFFFFF)
    with pytest.raises(MalformedItem, match="5368709120 bytes does not fit"):
        item_of(with_record(lie, "data.pkl", extra=wide).build())
    size = len(GOOD.records[0].data)
    true = b"XX\2\0ab" + b"\1\0\x18\0" + b"".join(n.to_bytes(8, "little") for n in (size, size, 0))
    assert item_of(with_record(lie, "data.pkl", extra=true).build()).tensor().shape == (2, 3)
    for short in (b"", b"\1\0\x08\0" + bytes(8), b"\1\0\xff\xff", b"\2\0\x18\0" + bytes(24)):
        with pytest.raises(MalformedItem, match="ZIP64 size is missing"):
            item_of(with_record(lie, "data.pkl", extra=short).build())


# -- what is cut -----------------------------------------------------------------------------------


def test_an_item_cut_anywhere_is_malformed():
    whole = GOOD.build()
    for length in range(len(whole)):
        with pytest.raises(MalformedItem):
            item_of(whole[:length], after=whole[length:])
    for length in range(1, len(whole)):
        with pytest.raises(MalformedItem):
            item_of(whole[length:])


def test_a_file_cut_anywhere_is_truncated():
    whole = GOOD.build()
    for length in range(len(whole)):
        storage = BufferStorage("x")
        storage.append(whole[:length])
        with pytest.raises(TruncatedFile):
            open_item(storage, "f", 0, len(whole), subject="x")


def test_every_flipped_byte_is_found_or_harmless():
    whole = GOOD.build()
    true = {name: item_of(whole).read(name) for name in item_of(whole).records}
    for position in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            data = bytearray(whole)
            data[position] ^= mask
            try:
                item = item_of(bytes(data))
            except DcpctlError:
                continue
            found = {name: item.read(name) for name in item.records}
            rotten = [name for name in item.records if item.check_crc(name) is False]
            assert found == true or rotten or set(found) != set(true)


# -- what lies -------------------------------------------------------------------------------------

LIES: dict[str, tuple[Zip, str]] = {
    "size_beyond_item": (
        with_record(GOOD, "data/0", size=1 << 20, packed=1 << 20),
        "does not fit before the directory",
    ),
    "size_reaches_directory": (
        with_record(GOOD, "version", size=200, packed=200),
        "does not fit before the directory",
    ),
    "packed_differs": (with_record(GOOD, "data/0", packed=23), "compressed or encrypted"),
    "size_differs": (with_record(GOOD, "data/0", size=23), "compressed or encrypted"),
    "deflated": (with_record(GOOD, "data/0", method=8), "compressed or encrypted"),
    "deflated_in_header": (with_record(GOOD, "data/0", local_method=8), "contradicts"),
    "encrypted": (with_record(GOOD, "data/0", flags=0x0809), "compressed or encrypted"),
    "encrypted_in_header": (with_record(GOOD, "data/0", local_flags=0x0809), "contradicts"),
    "header_sizes": (
        with_record(GOOD, "data/0", flags=0x0800, local_sizes=(0, 24, 25)),
        "contradicts",
    ),
    "header_crc": (
        with_record(GOOD, "data/0", flags=0x0800, local_sizes=(1, 24, 24)),
        "contradicts",
    ),
    "header_beyond": (with_record(GOOD, "data/0", header=1 << 30), "said to begin at byte"),
    "header_elsewhere": (with_record(GOOD, "data/0", header=3), "no record 'archive/data/0' at"),
    "header_of_another": (with_record(GOOD, "data/0", header=0), "no record 'archive/data/0' at"),
    "header_name": (with_record(GOOD, "data/0", local_name=b"archive/data/1"), "no record"),
    "header_name_length": (with_record(GOOD, "data/0", local_name=b"archive/data"), "no record"),
    "data_behind_directory": (
        with_record(GOOD, "data/0", local_extra=0xFFFF),
        "does not fit before the directory",
    ),
    "overlap": (
        with_record(GOOD, "data.pkl", size=400, packed=400),
        "overlap",
    ),
    "doubled": (
        replace(GOOD, records=[*GOOD.records, Rec("data/0", b"other")]),
        "two records are named 'data/0'",
    ),
    "other_folder": (
        with_record(GOOD, "version", raw_name=b"other/version"),
        "not in the folder 'archive/'",
    ),
    "no_folder": (with_record(GOOD, "data.pkl", raw_name=b"data.pkl"), "not in the folder"),
    "folder_itself": (with_record(GOOD, "version", raw_name=b"archive/"), "not in the folder"),
    "name_not_utf8": (with_record(GOOD, "version", raw_name=b"archive/\xff"), "not UTF-8"),
    "record_on_disk_7": (with_record(GOOD, "version", disk=7), "several disks"),
    "end_on_disk_1": (replace(GOOD, zip64=False, end={0: 1}), "several disks"),
    "end64_on_disk_1": (replace(GOOD, end64={3: 1}, end={0: 1}), "several disks"),
    "counts_differ": (replace(GOOD, zip64=False, end={2: 4}), "several disks"),
    "ends_disagree": (replace(GOOD, end64={5: 4, 6: 4}), "end records disagree"),
    "end64_missing": (replace(GOOD, zip64=False, end={3: 0xFFFF, 2: 0xFFFF}), "ZIP64 end record"),
    "end64_elsewhere": (replace(GOOD, locator={1: 8}), "no ZIP64 end record at byte 8"),
    "end64_beyond": (replace(GOOD, locator={1: 1 << 63}), "said to be at byte 9223372036854775808"),
    "end64_on_a_disk": (replace(GOOD, locator={0: 2}), "ZIP64 end record"),
    "end64_size": (replace(GOOD, end64={0: 1 << 40}), "no ZIP64 end record"),
    "directory_beyond": (replace(GOOD, zip64=False, end={5: 1 << 30}), "do not fit before"),
    "directory_too_small": (replace(GOOD, zip64=False, end={4: 45 * 5}), "do not fit before"),
    "directory_cut": (replace(GOOD, zip64=False, end={4: 46 * 5}), "breaks off|ends in record"),
    "directory_elsewhere": (replace(GOOD, zip64=False, end={5: 0}), "breaks off at record 0"),
    "count_too_high": (replace(GOOD, zip64=False, end={2: 6, 3: 6}), "ends in record 5 of 6"),
    "comment": (replace(GOOD, comment=b"hello"), "does not end with an end record"),
    "empty": (Zip([Rec("a", b"")], zip64=False, end={2: 9, 3: 9, 4: 0, 5: 0}), "do not fit"),
}


@pytest.mark.parametrize("lie", LIES)
def test_archives_that_lie_are_refused(lie):
    archive, message = LIES[lie]
    with pytest.raises(MalformedItem, match=message) as caught:
        item_of(archive.build())
    assert str(caught.value).startswith("'x': ")


def test_too_many_records_are_refused():
    with pytest.raises(LimitExceeded, match="100001 records"):
        item_of(replace(GOOD, end={2: 0xFFFF, 3: 0xFFFF}, end64={5: 100001, 6: 100001}).build())
    with pytest.raises(LimitExceeded, match="directory of 1099511627776 bytes"):
        item_of(replace(GOOD, end={4: 0xFFFFFFFF}, end64={7: 1 << 40}).build())


@pytest.mark.parametrize("data", [b"", b"x", b"PK\5\6", bytes(22), bytes(5000), b"\x80\x02}." * 50])
def test_what_is_no_archive_is_malformed(data):
    with pytest.raises(MalformedItem, match=r"malformed torch\.save archive"):
        item_of(data)


def test_an_archive_of_nothing_has_no_records():
    item = item_of(Zip([]).build())
    assert item.records == {}
    with pytest.raises(MalformedItem, match=r"no record 'data\.pkl'"):
        item.tensor()


@pytest.mark.parametrize(("offset", "length"), [(-1, 100), (0, -5), (0, 1 << 70), (1 << 70, 100)])
def test_impossible_places_are_refused(offset, length):
    storage = BufferStorage("x")
    storage.append(GOOD.build())
    with pytest.raises((MalformedItem, TruncatedFile)):
        open_item(storage, "f", offset, length, subject="x")


def test_reads_outside_a_record_are_refused():
    item = item_of(GOOD.build())
    for start, stop in ((0, 25), (-1, 3), (5, 4), (25, None)):
        with pytest.raises(MalformedItem, match=r"bytes .* are asked for"):
            item.read("data/0", start, stop)
    with pytest.raises(MalformedItem, match="no record 'data/1'"):
        item.read("data/1")


# -- tensors that do not fit -----------------------------------------------------------------------

MISFITS: dict[str, tuple[Zip, type[DcpctlError], str]] = {
    "too_big": (
        tensor_zip(tensor_pickle((3, 3), numel=6), NUMBERS.tobytes()),
        MalformedItem,
        r"float32\[3, 3\] needs 36 bytes, its record 'data/0' has 24",
    ),
    "offset_too_big": (
        tensor_zip(tensor_pickle((6,), numel=6, offset=1), NUMBERS.tobytes()),
        MalformedItem,
        "needs 28 bytes",
    ),
    "stride_too_big": (
        tensor_zip(tensor_pickle((2, 3), numel=6, stride=(1 << 60, 1)), NUMBERS.tobytes()),
        MalformedItem,
        "needs",
    ),
    "expanded": (
        tensor_zip(tensor_pickle((1 << 40,), numel=6, stride=(0,)), NUMBERS.tobytes()),
        UnknownForm,
        "shows the same bytes more than once",
    ),
    "no_data": (
        tensor_zip(tensor_pickle((2, 3), numel=6, key="1"), NUMBERS.tobytes()),
        MalformedItem,
        "no record 'data/1'",
    ),
    "key_elsewhere": (
        tensor_zip(tensor_pickle((2, 3), numel=6, key="../../etc/passwd"), NUMBERS.tobytes()),
        MalformedItem,
        "no record",
    ),
    "many_dims": (
        tensor_zip(tensor_pickle((1,) * 65, numel=6), NUMBERS.tobytes()),
        UnknownForm,
        "65 dimensions",
    ),
    "no_tensor": (tensor_zip(b"\x80\x02}.", b""), UnknownForm, "holds a 'dict'"),
    "other_class": (
        tensor_zip(b"\x80\x02cmy.own\nTensor\n)R.", b""),
        UnknownForm,
        "holds a 'my.own.Tensor', not a tensor",
    ),
    "sparse_without_parts": (
        tensor_zip(b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.", b""),
        MalformedPickle,
        "operand",
    ),
    "big_endian": (with_record(GOOD, "byteorder", data=b"big"), UnknownForm, "big-endian"),
    "byteorder": (with_record(GOOD, "byteorder", data=b"middle"), MalformedItem, "neither"),
    "byteorder_long": (with_record(GOOD, "byteorder", data=b"x" * 999), MalformedItem, "neither"),
    "pickle": (with_record(GOOD, "data.pkl", data=b"\x80\x02"), MalformedPickle, "'x'"),
    "long_pickle": (
        with_record(GOOD, "data.pkl", data=bytes(limits.TENSOR_PICKLE_BYTES + 1)),
        LimitExceeded,
        "a pickle of 1048577 bytes",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_are_refused(misfit):
    archive, error, message = MISFITS[misfit]
    with pytest.raises(error, match=message):
        item_of(archive.build()).tensor()


def test_an_empty_tensor_fits_anywhere():
    archive = tensor_zip(tensor_pickle((0, 1 << 60), numel=0, stride=(1 << 61, 1)), b"")
    assert item_of(archive.build()).tensor().shape == (0, 1 << 60)


def test_the_form_before_1_6_is_named(torch):
    out = io.BytesIO()
    torch.save(torch.ones(3), out, _use_new_zipfile_serialization=False)
    with pytest.raises(UnknownForm, match=r"written by torch.save before 1\.6"):
        item_of(out.getvalue())


# -- torch as the oracle ---------------------------------------------------------------------------


def saved(torch, value):
    out = io.BytesIO()
    torch.save(value, out)
    return item_of(out.getvalue())


def bytes_of(torch, tensor):
    flat = tensor.resolve_conj().resolve_neg().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def test_every_dtype_that_torch_saves(torch):
    raw = torch.arange(48, dtype=torch.uint8)
    names = [
        "float64 float32 float16 bfloat16 complex128 complex64 int64 int32 int16 int8 uint8 bool",
        "uint64 uint32 uint16 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz",
        "float8_e8m0fnu float4_e2m1fn_x2",
    ]
    for name in " ".join(names).split():
        if not hasattr(torch, name):
            continue
        tensor = (raw.bool() if name == "bool" else raw.view(getattr(torch, name))).view(3, -1)
        item = saved(torch, tensor)
        ref = item.tensor()
        assert (ref.dtype, ref.shape) == (name, tuple(tensor.shape))
        assert read_box(item, ref).tobytes() == bytes_of(torch, tensor), name


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_strides_and_lazy_bits(torch):
    base = torch.arange(120.0).view(2, 3, 4, 5)
    half = torch.arange(12, dtype=torch.float16).view(2, 3, 2)
    tensors = [
        base.transpose(1, 3),
        base.to(memory_format=torch.channels_last),
        base[:, 1:, ::2],
        base.to(torch.complex64).conj(),
        base.to(torch.complex128).mT.conj(),
        base.to(torch.complex64).conj().imag,
        torch.view_as_complex(half).conj(),
        torch.tensor(3.5),
        torch.zeros(3, 0, 2),
        base[0, 0, 0],
    ]
    for tensor in tensors:
        item = saved(torch, tensor)
        assert read_box(item, item.tensor()).tobytes() == bytes_of(torch, tensor)


def test_no_checksum_option(torch):
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this torch always computes checksums")
    torch.serialization.set_crc32_options(False)
    try:
        item = saved(torch, torch.ones(3))
    finally:
        torch.serialization.set_crc32_options(True)
    assert {record.crc32 for record in item.records.values()} == {None}
    assert item.tensor().shape == (3,)


def test_lazy_bits_on_other_dtypes_are_refused():
    for dtype, storage, bit in (
        ("float32", "FloatStorage", "conj"),
        ("int32", "IntStorage", "neg"),
        ("bool", "BoolStorage", "neg"),
    ):
        archive = tensor_zip(
            tensor_pickle((2, 3), numel=6, storage=storage, metadata=[bit]), NUMBERS.tobytes()
        )
        item = item_of(archive.build())
        ref = item.tensor()
        assert isinstance(ref, TensorRef)
        with pytest.raises(UnknownForm, match=f"negative bit on {dtype}"):
            read_box(item, ref)


def test_real_items_are_sound(shared):
    """The first item of a shard file: it ends with its end record."""
    for name in ("2.0.1", "2.4.1", "2.13.0"):
        path = shared / "checkpoints" / name / "base_step8500" / "ckpt" / "__0_0.distcp"
        if not path.is_file():
            pytest.skip("no base_step8500")
        data = path.read_bytes()
        end = data.index(b"PK\5\6") + 22
        item = item_of(data[:end])
        assert all(item.check_crc(record) for record in item.records)
        assert item.problems == []
