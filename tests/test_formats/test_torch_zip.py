"""Archives of torch.save: read by ranges, and refused where they lie."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

from dcpctl import limits
from dcpctl.errors import (
    BigEndianItem,
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


@pytest.mark.parametrize("before", [b"", b"PK\5\6 another item"])
def test_reads_a_tensor(before):
    item = item_of(GOOD.build(), before=before, after=b"PK\5\6" * 9)
    assert list(item.records) == [rec.name for rec in GOOD.records]
    record = item.records["data/0"]
    assert record.size == 24
    assert (record.data_offset - len(before)) % 64 == 0
    assert record.crc32 == crc32(NUMBERS.tobytes())
    assert item.storage.read(item.file, record.data_offset, 24) == NUMBERS.tobytes()
    assert item.read("version") == b"3\n"
    assert item.read("data/0", 4, 8) == NUMBERS[1:2].tobytes()
    ref = item.tensor()
    assert (ref.dtype, ref.shape, ref.stride, ref.key) == ("float32", (2, 3), (3, 1), "0")
    assert read_box(item, ref).tolist() == NUMBERS.reshape(2, 3).tolist()
    assert all(item.check_crc(name) for name in item.records)


@pytest.mark.parametrize("prefix", ["x/", "a.b c/", "täg/", "ARCHIVE/", "archive//"])
def test_the_folder_is_archive(prefix):
    with pytest.raises(MalformedItem):
        item_of(replace(GOOD, prefix=prefix).build())


OLDER = {
    "2.6": ("data.pkl", "byteorder", "data/0", "version", ".data/serialization_id"),
    "2.0": ("data.pkl", "data/0", "version"),
}


@pytest.mark.parametrize("release", OLDER)
def test_records_of_older_releases(release):
    old = replace(GOOD, records=[rec for rec in GOOD.records if rec.name in OLDER[release]])
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


def test_every_byte_is_a_records():
    size = sum(46 + len("archive/" + rec.name) for rec in GOOD.records)
    for spoilt in (
        replace(GOOD, after_directory=b"...."),
        replace(GOOD, before_directory=b"...."),
        replace(GOOD, end64={7: size + 4}, end={4: size + 4}, after_directory=b"...."),
    ):
        with pytest.raises(MalformedItem):
            item_of(spoilt.build())
    with pytest.raises(MalformedItem, match="end records"):
        item_of(b"PK\3\4" + GOOD.build())


OTHER_RECORDS = {
    "constants.pkl": [*GOOD.records, Rec("constants.pkl", b"\x80\x02).")],
    "no version": [rec for rec in GOOD.records if rec.name != "version"],
    "no pickle": GOOD.records[1:],
    "another order": [GOOD.records[1], GOOD.records[0], *GOOD.records[2:]],
    "storage 1 without 0": [replace(r, name=r.name.replace("/0", "/1")) for r in GOOD.records],
    "version 99": [
        replace(r, data=b"99\n" if r.name == "version" else r.data) for r in GOOD.records
    ],
    "form 2": [
        replace(r, data=b"2" if r.name == ".format_version" else r.data) for r in GOOD.records
    ],
    "alignment": [
        replace(r, data=b"63" if r.name == ".storage_alignment" else r.data) for r in GOOD.records
    ],
    "id": [replace(r, data=b"x" * 40 if "_id" in r.name else r.data) for r in GOOD.records],
}


@pytest.mark.parametrize("records", OTHER_RECORDS)
def test_records_are_those_of_torch_save(records):
    with pytest.raises(MalformedItem):
        item_of(replace(GOOD, records=OTHER_RECORDS[records]).build())


@pytest.mark.parametrize("name", [rec.name for rec in GOOD.records])
@pytest.mark.parametrize(
    "change",
    [
        *({"attributes": 0x10}, {"attributes": 1}, {"disk": 1}, {"flags": 0x0008}),
        *({"local_flags": 0x0008}, {"local_sizes": (1, 0, 0)}, {"extra": b"XX\0\0"}),
    ],
    ids=repr,
)
def test_fields_are_the_constants_of_torch(name, change):
    """The directory bit of `data/0` made torch read uninitialised memory."""
    with pytest.raises(MalformedItem):
        item_of(with_record(GOOD, name, **change).build())


def test_alignment_is_as_the_record_says():
    wider = replace(
        GOOD,
        align=4096,
        records=[
            replace(rec, data=b"4096" if rec.name == ".storage_alignment" else rec.data)
            for rec in GOOD.records
        ],
    )
    assert item_of(wider.build()).tensor().shape == (2, 3)
    with pytest.raises(MalformedItem, match="padding"):
        item_of(replace(GOOD, align=4096).build())


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
    wide = b"\1\0\x10\0" + b"".join(n.to_bytes(8, "little") for n in (5 << 30, 5 << 30))
    lie = with_record(GOOD, "data.pkl", size=0xFFFFFFFF, packed=0xFFFFFFFF)
    with pytest.raises(MalformedItem):
        item_of(with_record(lie, "data.pkl", extra=wide).build())
    size = len(GOOD.records[0].data)
    small = b"\1\0\x10\0" + b"".join(n.to_bytes(8, "little") for n in (size, size))
    for extra in (small, b"", b"\1\0\x08\0" + bytes(8), b"\1\0\xff\xff", b"\2\0\x18\0" + bytes(24)):
        with pytest.raises(MalformedItem):
            item_of(with_record(lie, "data.pkl", extra=extra).build())


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

ARCHIVE = r"malformed torch\.save archive"
LIES: dict[str, tuple[Zip, str]] = {
    "size_beyond_item": (
        with_record(GOOD, "data/0", size=1 << 20, packed=1 << 20),
        ARCHIVE,
    ),
    "size_reaches_directory": (
        with_record(GOOD, "version", size=200, packed=200),
        ARCHIVE,
    ),
    "packed_differs": (with_record(GOOD, "data/0", packed=23), ARCHIVE),
    "size_differs": (with_record(GOOD, "data/0", size=23), ARCHIVE),
    "deflated": (with_record(GOOD, "data/0", method=8), ARCHIVE),
    "deflated_in_header": (with_record(GOOD, "data/0", local_method=8), ARCHIVE),
    "encrypted": (with_record(GOOD, "data/0", flags=0x0809), ARCHIVE),
    "encrypted_in_header": (with_record(GOOD, "data/0", local_flags=0x0809), ARCHIVE),
    "header_sizes": (
        with_record(GOOD, "data/0", flags=0x0800, local_sizes=(0, 24, 25)),
        ARCHIVE,
    ),
    "header_crc": (
        with_record(GOOD, "data/0", flags=0x0800, local_sizes=(1, 24, 24)),
        ARCHIVE,
    ),
    "header_beyond": (with_record(GOOD, "data/0", header=1 << 30), ARCHIVE),
    "header_elsewhere": (with_record(GOOD, "data/0", header=3), ARCHIVE),
    "header_of_another": (with_record(GOOD, "data/0", header=0), ARCHIVE),
    "header_name": (with_record(GOOD, "data/0", local_name=b"archive/data/1"), ARCHIVE),
    "header_name_length": (with_record(GOOD, "data/0", local_name=b"archive/data"), ARCHIVE),
    "data_behind_directory": (
        with_record(GOOD, "data/0", local_extra=0xFFFF),
        ARCHIVE,
    ),
    ARCHIVE: (
        with_record(GOOD, "data.pkl", size=400, packed=400),
        ARCHIVE,
    ),
    "doubled": (
        replace(GOOD, records=[*GOOD.records, Rec("data/0", b"other")]),
        "two records are named 'data/0'",
    ),
    "other_folder": (
        with_record(GOOD, "version", raw_name=b"other/version"),
        ARCHIVE,
    ),
    "no_folder": (with_record(GOOD, "data.pkl", raw_name=b"data.pkl"), ARCHIVE),
    "folder_itself": (with_record(GOOD, "version", raw_name=b"archive/"), ARCHIVE),
    "name_not_utf8": (with_record(GOOD, "version", raw_name=b"archive/\xff"), ARCHIVE),
    "record_on_disk_7": (with_record(GOOD, "version", disk=7), ARCHIVE),
    "end_on_disk_1": (replace(GOOD, zip64=False, end={0: 1}), ARCHIVE),
    "end64_on_disk_1": (replace(GOOD, end64={3: 1}, end={0: 1}), ARCHIVE),
    "counts_differ": (replace(GOOD, zip64=False, end={2: 4}), ARCHIVE),
    "ends_disagree": (replace(GOOD, end64={5: 4, 6: 4}), ARCHIVE),
    "end64_missing": (replace(GOOD, zip64=False, end={3: 0xFFFF, 2: 0xFFFF}), ARCHIVE),
    "end64_elsewhere": (replace(GOOD, locator={1: 8}), ARCHIVE),
    "end64_beyond": (replace(GOOD, locator={1: 1 << 63}), ARCHIVE),
    "end64_on_a_disk": (replace(GOOD, locator={0: 2}), ARCHIVE),
    "end64_size": (replace(GOOD, end64={0: 1 << 40}), ARCHIVE),
    "directory_beyond": (replace(GOOD, zip64=False, end={5: 1 << 30}), ARCHIVE),
    "directory_too_small": (replace(GOOD, zip64=False, end={4: 45 * 5}), ARCHIVE),
    "directory_cut": (replace(GOOD, zip64=False, end={4: 46 * 5}), ARCHIVE),
    "directory_elsewhere": (replace(GOOD, zip64=False, end={5: 0}), ARCHIVE),
    "count_too_high": (replace(GOOD, zip64=False, end={2: 6, 3: 6}), ARCHIVE),
    "comment": (replace(GOOD, comment=b"hello"), "does not end with an end record"),
    "empty": (Zip([Rec("a", b"")], zip64=False, end={2: 9, 3: 9, 4: 0, 5: 0}), ARCHIVE),
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


def test_an_archive_of_nothing_is_malformed():
    with pytest.raises(MalformedItem, match="it lacks"):
        item_of(Zip([]).build())


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
        MalformedPickle,
        r"float32\[3, 3\] needs 36 bytes, its storage has 24",
    ),
    "offset_too_big": (
        tensor_zip(tensor_pickle((6,), numel=6, offset=1), NUMBERS.tobytes()),
        MalformedPickle,
        "needs 28 bytes",
    ),
    "stride_too_big": (
        tensor_zip(tensor_pickle((2, 3), numel=6, stride=(1 << 60, 1)), NUMBERS.tobytes()),
        MalformedPickle,
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
    "no_tensor": (tensor_zip(b"\x80\x02}.", None), UnknownForm, "holds a 'dict'"),
    "other_class": (
        tensor_zip(b"\x80\x02cmy.own\nTensor\n)R.", None),
        UnknownForm,
        "holds a 'my.own.Tensor', not a tensor",
    ),
    "sparse_without_parts": (
        tensor_zip(b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n)R.", None),
        MalformedPickle,
        "arguments of",
    ),
    "big_endian": (with_record(GOOD, "byteorder", data=b"big"), BigEndianItem, "big-endian"),
    "byteorder": (with_record(GOOD, "byteorder", data=b"middle"), MalformedItem, "torch writes"),
    "byteorder_long": (
        with_record(GOOD, "byteorder", data=b"x" * 999),
        MalformedItem,
        "torch writes",
    ),
    "pickle": (with_record(GOOD, "data.pkl", data=b"\x80\x02"), MalformedPickle, "'x'"),
    "long_pickle": (
        with_record(GOOD, "data.pkl", data=b"\x80\x02" + bytes(limits.TENSOR_PICKLE_BYTES + 1)),
        LimitExceeded,
        "a pickle of 1048579 bytes",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_tensors_that_do_not_fit_are_refused(misfit):
    archive, error, message = MISFITS[misfit]
    with pytest.raises(error, match=message):
        item_of(archive.build()).tensor()


def test_storages_are_the_records():
    """torch refuses a storage of another size than its record, or reads beyond it."""
    for numel in (1, 5, 7, 1 << 40):
        with pytest.raises(MalformedItem, match="its storage"):
            item_of(
                tensor_zip(tensor_pickle((1,), numel=numel), NUMBERS.tobytes()).build()
            ).tensor()
    with pytest.raises(MalformedItem, match="no tensor refers to record 'data/0'"):
        item_of(tensor_zip(b"\x80\x02N.", NUMBERS.tobytes()).build()).value()


@pytest.mark.parametrize(
    "change",
    [
        (b"OrderedDict\n)R", b"OrderedDict\n)RN"),
        (b"OrderedDict\n)R", b"OrderedDict\n)R}N"),
        (b"OrderedDict\n)R", b"OrderedDict\n)R}X\4\0\0\0conj\x89s"),
        (b"OrderedDict\n)R", b"OrderedDict\n)R}X\4\0\0\0none\x88s"),
        (b"ccollections\nOrderedDict\n)R", b"N"),
        (b"\x89ccoll", b"Nccoll"),
        (b"cpu", b"CPU"),
        (b"\x80\x02", b"\x80\x03"),
        (b"torch\nFloatStorage", b"torch.storage\nFloatStorage"),
        (b"tR.", b"tRN0."),
    ],
)
def test_what_weights_only_would_not_load_is_refused(change):
    """Arguments, opcodes and globals beside those that torch writes."""
    pickle = tensor_pickle((2, 3), numel=6)
    assert pickle.count(change[0])
    spoilt = pickle.replace(*change, 1)
    with pytest.raises(DcpctlError):
        item_of(tensor_zip(spoilt, NUMBERS.tobytes()).build()).tensor()


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
            tensor_pickle((2, 3), numel=6, storage=storage, metadata=[bit]),
            NUMBERS.tobytes()[: 6 if dtype == "bool" else 24],
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
