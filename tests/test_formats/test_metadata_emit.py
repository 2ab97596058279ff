"""`.metadata` written: read back the same, built as each release builds it, loaded by torch."""

from __future__ import annotations

import dataclasses
import pickletools
import re
import shutil

import numpy as np
import pytest

from dcpctl.errors import Refused, UnknownForm
from dcpctl.formats.metadata import DCP, parse_metadata
from dcpctl.formats.metadata_emit import emit_metadata
from dcpctl.formats.metadata_forms import metadata_form
from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.standins import Record
from dcpctl.formats.pickles.vm import Machine
from dcpctl.formats.records import (
    ChunkTable,
    Orphan,
    StoredBytes,
    StoredCheckpoint,
    StoredTensor,
)

SAMPLES = [
    *[
        "healthy/step-8500",
        "fsdp_tp_2x2",
        "legacy",
        "model_only/step-8500",
        "zstd",
        "releases/1.13.1-optim_AdamW",
    ],
    *["releases/2.0.1-optim_AdamW", "releases/2.1.2-optim_AdamW", "releases/2.2.2-optim_AdamW"],
    *["releases/2.13.0-optim_Muon", "releases/2.15.0-optim_AdamW", "releases/2.15.0-zstd"],
]
FORMS = [None, "1.13", "2.0", "2.2", "2.3", "2.4", "2.13", "2.15"]
STRUCTURES = ("extras_w4", "dtensor_zoo", "fsdp1_uneven_fp32", "fsdp2_flat_fp32", "optim_NAdam")
#: Record by record, where the reader would take long runs as columns.
ONE_BY_ONE = dataclasses.replace(policy.METADATA, columnar=False)


# -- what is compared ------------------------------------------------------------------------------


def _entry(stored, entry, *, strides):
    """An entry as plain values; files by name."""
    plain = {
        field.name: getattr(entry, field.name)
        for field in dataclasses.fields(entry)
        if field.name not in ("chunks", "file", "pickled_fields", "strides")
    }
    files = [*stored.files, None]
    if isinstance(entry, StoredBytes):
        return plain | {"file": files[entry.file]}
    chunks = [(*chunk[:2], files[chunk.file], *chunk[3:]) for chunk in entry.chunks]
    return plain | {"chunks": chunks, "strides": entry.strides if strides else None}


def _field(value):
    if isinstance(value, Record):
        return (value.name, [(name, _field(part)) for name, part in value.fields.items()])
    return value


def _plain(stored, *, strides=False, planner_data=True, storage_meta=True):
    left_out = () if storage_meta else ("storage_meta", "version")
    return {
        "entries": [_entry(stored, e, strides=strides) for e in stored.entries.values()],
        "planner_data": list((stored.planner_data or {}).items()) if planner_data else None,
        "fields": [(k, _field(v)) for k, v in stored.fields.items() if k not in left_out],
        "orphans": [
            (o.fqn, o.offsets, stored.files[o.file], o.offset, o.length) for o in stored.orphans
        ],
    }


def _tree(value):
    """A decoded value as nested tuples: every class by its full name, every key in its place."""
    if isinstance(value, Record):
        return ("record", value.type, _tree(value.fields), _tree(value.args))
    if isinstance(value, dict):
        return ("dict", [(_tree(key), _tree(part)) for key, part in value.items()])
    if isinstance(value, (list, tuple)):
        return (type(value).__name__, [_tree(part) for part in value])
    kind = str if isinstance(value, str) else type(value)  # a path comes back as its text
    return (kind.__name__, repr(value))


def _structure(data):
    machine = Machine(data, ONE_BY_ONE, ".metadata", None)
    tree = _tree(machine.run())
    return tree, machine.protocol, frozenset(machine.globals) - {"pathlib.PosixPath"}


def _read(path):
    return parse_metadata((path / ".metadata").read_bytes())


# -- real checkpoints ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_come_back(samples, name, form):
    stored = _read(samples / name)
    if "zstd" in name and form not in (None, "2.13", "2.15"):
        with pytest.raises(Refused, match=r"'stream.zstd/1', which torch reads from 2.7 on"):
            emit_metadata(stored, form=form)
        return
    data = emit_metadata(stored, form=form)
    known = metadata_form(form)
    kept = {
        "strides": known.fields > 5,
        "planner_data": known.planner_data,
        "storage_meta": known.storage_meta,
    }
    assert _plain(parse_metadata(data), **kept) == _plain(stored, **kept)
    assert emit_metadata(stored, form=form) == data
    pickletools.dis(data, out=_Nowhere())


class _Nowhere:
    def write(self, text):
        pass


@pytest.mark.parametrize("name", [name for name in SAMPLES if name.startswith("releases/")])
def test_is_built_as_the_release_builds_it(samples, name):
    real = (samples / name / ".metadata").read_bytes()
    form = re.search(r"\d+\.\d+", name)[0]
    assert _structure(emit_metadata(parse_metadata(real), form=form)) == _structure(real)


@pytest.mark.parametrize("release", ["2.0.1", "2.2.2", "2.4.1", "2.6.0", "2.9.1", "2.13.0"])
def test_every_real_checkpoint(shared, release):
    paths = sorted((shared / "checkpoints" / release).glob("*/ckpt/.metadata"))
    assert len(paths) > 40
    for path in paths:
        real = path.read_bytes()
        data = emit_metadata(parse_metadata(real), form=release)
        assert _plain(parse_metadata(data)) == _plain(parse_metadata(real)), path
        if path.parent.parent.name in STRUCTURES:
            assert _structure(data) == _structure(real), path


# -- many chunks -----------------------------------------------------------------------------------


def _tensor(fqn, offsets, file, offset, *, shape=None, **kept):
    offsets = np.asarray(offsets, dtype=np.int64)
    sizes = np.ones_like(offsets)
    length = np.arange(1, len(offsets) + 1, dtype=np.int64) * 7
    chunks = ChunkTable(
        offsets,
        sizes,
        np.asarray(file, dtype=np.int32),
        np.asarray(offset, dtype=np.int64),
        length,
    )
    whole = shape or tuple((offsets + sizes).max(axis=0, initial=0).tolist())
    return StoredTensor(fqn, whole, "float32", chunks, **kept)


def _synthetic(count, *, dims=(0, 1, 2, 3, 4, 5), scale=1, files=3):
    stored = StoredCheckpoint(DCP, files=[f"__{rank}_0.distcp" for rank in range(files)])
    for number, d in enumerate(dims):
        rows = np.zeros((count if d else 1, d), dtype=np.int64)
        if d:
            rows[:, d - 1] = np.arange(count) * scale
        at = np.arange(len(rows)) * 1000 * scale + number
        stored.entries[f"t{d}"] = _tensor(f"t{d}", rows, np.arange(len(rows)) % files, at)
        stored.entries[f"b{d}"] = StoredBytes(f"b{d}", d % files, 500 + number, 9)
    stored.planner_data = {fqn: ("state", fqn, 0) for fqn in stored.entries}
    stored.fields = {"version": "1.0.0"}
    return stored


@pytest.mark.parametrize("count", [1, 15, 16, 31, 32, 1000, 1001, 2500])
@pytest.mark.parametrize("scale", [1, 60, 70_000, 3_000_000_000])
def test_columns_say_what_rows_say(count, scale):
    stored = _synthetic(count, scale=scale)
    data = emit_metadata(stored)
    assert _plain(parse_metadata(data)) == _plain(stored)


def test_more_items_than_are_made_at_once():
    stored = _synthetic(30_000, dims=(1, 2, 3), files=700)
    assert _plain(parse_metadata(emit_metadata(stored))) == _plain(stored)


def test_one_file_an_item():
    stored = _synthetic(1500, dims=(1, 2), files=3000)
    assert _plain(parse_metadata(emit_metadata(stored))) == _plain(stored)


@pytest.mark.parametrize("count", [3, 40])
def test_chunks_without_an_item(count):
    stored = _synthetic(count, dims=(2,))
    table = stored.entries["t2"].chunks
    table.file[1::2] = -1
    table.offset[1::2] = 0
    table.length[1::2] = 0
    stored.entries["b2"] = StoredBytes("b2", -1, 0, 0)
    assert _plain(parse_metadata(emit_metadata(stored))) == _plain(stored)


def test_empty_chunks_at_one_place_are_one_item():
    stored = StoredCheckpoint(DCP, files=["__0_0.distcp"])
    stored.entries["t"] = _tensor("t", [[0], [3], [3]], [0, 0, 0], [0, 7, 7], shape=(3,))
    stored.entries["t"].chunks.length[:] = 7
    data = emit_metadata(stored)
    assert str(_structure(data)[0]).count("_StorageInfo") == 2
    assert _plain(parse_metadata(data)) == _plain(stored)


def test_nothing_at_all():
    stored = StoredCheckpoint(DCP)
    stored.entries["empty"] = _tensor("empty", np.zeros((0, 0)), [], [], shape=(0,))
    found = parse_metadata(emit_metadata(stored))
    assert list(found.entries) == ["empty"]
    assert found.planner_data is None
    assert list(parse_metadata(emit_metadata(StoredCheckpoint(DCP))).entries) == []


def test_orphans_stay():
    stored = _synthetic(2, dims=(1,))
    stored.orphans = [Orphan("gone", (4, 0), 1, 77, 5), Orphan("lost", None, 0, 99, 6)]
    found = parse_metadata(emit_metadata(stored))
    assert sorted(map(repr, found.orphans)) == sorted(map(repr, stored.orphans))


def test_names_of_any_kind():
    stored = StoredCheckpoint(DCP, files=["ß" * 200 + ".distcp"])
    for number, fqn in enumerate(["", "a\nb", "ü" * 300, "\U0001f600", "x" * 70_000]):
        stored.entries[fqn] = StoredBytes(fqn, 0, number, 1)
    stored.planner_data = {fqn: (fqn, 0, 70_000) for fqn in stored.entries}
    assert _plain(parse_metadata(emit_metadata(stored))) == _plain(stored)


def test_fields_of_frameworks_stay():
    stored = _synthetic(2, dims=(1,))
    stored.fields["mcore_data"] = {"a": [1, 2.5, None, ("x", Record("pathlib.Nothing"))]}
    stored.fields["mcore_data"]["a"].pop()
    assert parse_metadata(emit_metadata(stored)).fields == stored.fields
    assert "mcore_data" in parse_metadata(emit_metadata(stored, form="2.2")).fields


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "pickle"])
def test_refuses_other_encodings(encoding):
    stored = _synthetic(1, dims=(1,))
    entry = stored.entries["b1"]
    stored.entries["b1"] = dataclasses.replace(entry, encoding=encoding)
    with pytest.raises(Refused, match=f"'b1' is stored as {encoding}"):
        emit_metadata(stored)


@pytest.mark.parametrize("path", [(1.5,), (None,), (True,), ((),)])
def test_refuses_other_object_paths(path):
    stored = _synthetic(1, dims=(1,))
    stored.planner_data["t1"] = path
    with pytest.raises(Refused, match="an object path holds a"):
        emit_metadata(stored)


@pytest.mark.parametrize("release", ["1.12", "2.16", "3.0", "", "x", "2", "2.x"])
def test_unknown_releases(release):
    with pytest.raises(UnknownForm, match=r"expected a torch release from 1\.13 to 2\.15"):
        metadata_form(release)


@pytest.mark.parametrize("release", ["1.13", "1.13.1", "2.0.1", "2.4.1+cu121", "2.15.0a0", "2.9"])
def test_known_releases(release):
    assert metadata_form(release).fields == (6 if release.startswith("2.15") else 5)


# -- torch -----------------------------------------------------------------------------------------


def _state_dict(torch, metadata):
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    return {
        fqn: torch.zeros(entry.size, dtype=entry.properties.dtype)
        if isinstance(entry, TensorStorageMetadata)
        else object()
        for fqn, entry in metadata.state_dict_metadata.items()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["healthy/step-8500", "fsdp_tp_2x2", "legacy", "model_only/step-8500"]
)
def test_torch_reads_the_same(torch, samples, tmp_path, name):
    from torch.distributed.checkpoint import FileSystemReader, load
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    copy = tmp_path / "copy"
    shutil.copytree(samples / name, copy)
    stored = _read(copy)
    (copy / ".metadata").write_bytes(emit_metadata(stored))
    real = FileSystemReader(samples / name).read_metadata()
    found = FileSystemReader(copy).read_metadata()
    assert found.state_dict_metadata == real.state_dict_metadata
    assert found.storage_data == real.storage_data
    assert {k.offset: k.index for k in found.storage_data} == {
        k.offset: k.index for k in real.storage_data
    }
    assert found.planner_data == real.planner_data
    both = []
    for path in (samples / name, copy):
        values = _state_dict(torch, real)
        planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
        load(values, storage_reader=FileSystemReader(path), planner=planner)
        both.append(values)
    for fqn, value in both[0].items():
        other = both[1][fqn]
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, other), fqn
        else:
            assert str(value) == str(other), fqn


@pytest.mark.parametrize("form", [None, "2.13"])
def test_torch_reads_many_chunks(torch, tmp_path, form):
    from torch.distributed.checkpoint import FileSystemReader

    stored = _synthetic(2500, scale=3_000_000)
    (tmp_path / ".metadata").write_bytes(emit_metadata(stored, form=form))
    found = FileSystemReader(tmp_path).read_metadata()
    assert len(found.storage_data) == 5 * 2500 + 1 + 6
    chunks = stored.entries["t3"].chunks
    for index, info in found.storage_data.items():
        if index.fqn == "t3":
            row = chunks[index.index]
            assert tuple(index.offset) == row.offsets
            assert (info.relative_path, info.offset, info.length) == (
                stored.files[row.file],
                row.offset,
                row.length,
            )
    described = found.state_dict_metadata["t3"].chunks
    assert [tuple(chunk.offsets) for chunk in described] == [row.offsets for row in chunks]
    assert [tuple(chunk.sizes) for chunk in described] == [row.sizes for row in chunks]
    assert isinstance(described[0].sizes, torch.Size)
