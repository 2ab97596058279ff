"""An edit of safetensors gives safetensors: consolidated with its index, or DCP's shards."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from dcpctl import open_checkpoint
from dcpctl.errors import Refused, UsageError
from dcpctl.formats.safetensors_emit import Piece, emit_header, emit_index
from dcpctl.model.draft import Draft
from dcpctl.model.rename_rules import literal
from dcpctl.model.source import Fill
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.merge import Merge
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.verbs import Verb
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import Plan, plan
from dcpctl.writing.write import write
from tests.test_writing.building import hashes, numbers, run


def file(path: Path, tensors: Mapping[str, np.ndarray], **metadata: str) -> None:
    """A safetensors file, made here and not by what is tested."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    data, codes = b"", {"<f4": "F32", "<f2": "F16", "|u1": "U8"}
    for name, array in tensors.items():
        span = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": codes[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": span,
        }
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The same, read here; offsets are checked to be aligned and without a hole."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    metadata = header.pop("__metadata__", {})
    found, end = {}, 0
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        kind = {"F32": "<f4", "F16": "<f2", "U8": "|u1", "F64": "<f8"}[entry["dtype"]]
        assert first == end and (8 + size + first) % np.dtype(kind).itemsize == 0
        piece = raw[8 + size + first : 8 + size + last]
        found[name] = np.frombuffer(piece, dtype=kind).reshape(entry["shape"])
        end = last
    assert 8 + size + end == len(raw)
    return found, metadata


W, B, E = numbers(6, 4), numbers(5, dtype="<f2"), numbers(3, dtype="<u1")


@pytest.fixture
def consolidated(tmp_path: Path) -> Path:
    path = tmp_path / "hf"
    path.mkdir()
    file(path / "model-00001-of-00002.safetensors", {"l.0.w": W, "l.0.e": E}, format="pt")
    file(path / "model-00002-of-00002.safetensors", {"l.1.b": B}, format="pt")
    weights = {
        "l.0.w": "model-00001-of-00002.safetensors",
        "l.0.e": "model-00001-of-00002.safetensors",
    }
    weights["l.1.b"] = "model-00002-of-00002.safetensors"
    index = {"metadata": {"total_size": 109, "total_parameters": 32}, "weight_map": weights}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text('{"torch_dtype": "float32"}')
    (path / "tokenizer.json").write_text("{}")
    return path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    path = tmp_path / "sharded"
    path.mkdir()
    for rank in range(2):
        info = {"w": {"saved_offsets": [rank * 3, 0]}}
        file(
            path / f"shard-{rank + 1:05}-model-00001-of-00001.safetensors",
            {"w": np.ascontiguousarray(W[rank * 3 : rank * 3 + 3])},
            DCP_SHARDING_INFO=json.dumps(info),
            DCP_VERSION="1.0",
        )
    return path


def edited(source: Path, target: Path, *wanted: Verb, to: str | None = None) -> Plan:
    options = WriteOptions(to=to)
    with open_checkpoint(source) as checkpoint:
        draft, _ = apply_edits(checkpoint, wanted, lambda path: checkpoint)
        made = plan(draft, target, options)
        write(made, options)
    return made


def weights(path: Path) -> dict[str, bytes]:
    with open_checkpoint(path) as checkpoint:
        return {fqn: entry.numpy().tobytes() for fqn, entry in checkpoint.tensors.items()}


def test_what_is_untouched_is_the_same_file(consolidated: Path, tmp_path: Path) -> None:
    made = edited(consolidated, tmp_path / "out", Select(("*",)))
    assert made.counts.files_whole == 2
    before, after = hashes(consolidated), hashes(tmp_path / "out")
    assert before.pop("model.safetensors.index.json")
    assert after.pop("model.safetensors.index.json")
    assert after == before


def test_a_rename_rewrites_its_file_and_the_index(consolidated: Path, tmp_path: Path) -> None:
    made = edited(consolidated, tmp_path / "out", Rename((literal("l.0=m"),)))
    assert (made.counts.files, made.counts.files_whole) == (2, 1)
    tensors, metadata = read(tmp_path / "out/model-00001-of-00002.safetensors")
    assert metadata == {"format": "pt"}
    assert {n: a.tobytes() for n, a in tensors.items()} == {"m.w": W.tobytes(), "m.e": E.tobytes()}
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 109, "total_parameters": 32}
    assert index["weight_map"] == {
        "m.w": "model-00001-of-00002.safetensors",
        "m.e": "model-00001-of-00002.safetensors",
        "l.1.b": "model-00002-of-00002.safetensors",
    }
    assert not list((tmp_path / "out").glob("*.distcp"))
    assert set(hashes(tmp_path / "out")) == set(hashes(consolidated))


def test_drop_cast_and_fill(consolidated: Path, tmp_path: Path) -> None:
    wanted = [
        Drop(("l.1.b",)),
        Cast("float64", ("l.0.w",)),
        Set((assignment("l.0.e=7"),), fill=True),
    ]
    made = edited(consolidated, tmp_path / "out", *wanted)
    tensors, _ = read(tmp_path / "out/model-00001-of-00002.safetensors")
    assert tensors["l.0.w"].dtype == "<f8" and (tensors["l.0.w"] == W).all()
    assert (tensors["l.0.e"] == 7).all()
    assert not (tmp_path / "out/model-00002-of-00002.safetensors").exists()
    assert made.warnings == ("'config.json' is carried over as it is and says float32",)


def test_one_file_without_an_index_stays_one(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    file(tmp_path / "hf/model.safetensors", {"w": W, "e": E})
    edited(tmp_path / "hf", tmp_path / "out", Rename((literal("w=v"),)))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]
    assert set(read(tmp_path / "out/model.safetensors")[0]) == {"v", "e"}


def test_two_models_become_one_with_an_index(consolidated: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    file(tmp_path / "more/model-00001-of-00002.safetensors", {"head": W})
    with open_checkpoint(consolidated) as a, open_checkpoint(tmp_path / "more") as b:
        draft = Merge((tmp_path / "more",)).apply(Draft.of(a), lambda path: b).draft
        run(draft, tmp_path / "out")
    index = json.loads((tmp_path / "out/model.safetensors.index.json").read_text())["weight_map"]
    assert index["head"] == "model-00001-of-00002-2.safetensors"
    assert weights(tmp_path / "out") == {**weights(consolidated), "head": W.tobytes()}


def test_shards_stay_shards(sharded: Path, tmp_path: Path) -> None:
    made = edited(sharded, tmp_path / "same", Select(("*",)))
    assert made.counts.files_whole == 2 and hashes(tmp_path / "same") == hashes(sharded)
    edited(sharded, tmp_path / "v", Rename((literal("w=v"),)))
    edited(sharded, tmp_path / "three", Reshard(3))
    assert weights(tmp_path / "v") == {"v": W.tobytes()}
    assert weights(tmp_path / "three") == {"w": W.tobytes()}
    for rank in range(3):
        name = f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"
        tensors, metadata = read(tmp_path / "three" / name)
        assert json.loads(metadata["DCP_SHARDING_INFO"]) == {"w": {"saved_offsets": [2 * rank, 0]}}
        assert metadata["DCP_VERSION"] == "1.0"
        assert (tensors["w"] == W[2 * rank : 2 * rank + 2]).all()


@pytest.mark.parametrize("name", ["consolidated", "sharded"])
def test_dcp_where_it_is_asked_for(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    source = request.getfixturevalue(name)
    made = edited(source, tmp_path / "out", Select(("*",)), to="dcp")
    assert (tmp_path / "out/.metadata").is_file() and made.warnings == ()
    with open_checkpoint(tmp_path / "out") as checkpoint:
        assert checkpoint.format == "dcp"
        assert checkpoint.planner_data == {fqn: (fqn,) for fqn in checkpoint}
    assert weights(tmp_path / "out") == weights(source)
    assert not (tmp_path / "out/model.safetensors.index.json").exists()


def test_a_layout_that_it_cannot_say(consolidated: Path, tmp_path: Path) -> None:
    made = edited(consolidated, tmp_path / "out", Reshard(2))
    assert made.parts[0].stored.form.name == "dcp"
    assert "cannot say which rank holds what" in made.warnings[0]


def test_upgrade_changes_the_form_only_where_the_release_cannot_read_it(
    consolidated: Path, tmp_path: Path
) -> None:
    edited(consolidated, tmp_path / "new", Upgrade("2.13"))
    edited(consolidated, tmp_path / "old", Upgrade("2.6"))
    assert (tmp_path / "new/model.safetensors.index.json").is_file()
    assert (tmp_path / "old/.metadata").is_file()


def test_what_is_refused(consolidated: Path, tmp_path: Path) -> None:
    with open_checkpoint(consolidated) as checkpoint:
        draft = Draft.of(checkpoint)
        with pytest.raises(Refused, match="in place"):
            plan(draft, consolidated, WriteOptions(in_place=True))
        new = dataclasses.replace(draft.entries["l.0.w"], fqn="x", source=Fill(0.0))
        with pytest.raises(Refused, match="nothing says which") as raised:
            plan(draft.with_entries([*draft.entries.values(), new], None), tmp_path / "out")
        assert "--to dcp" in (raised.value.hint or "")
    with pytest.raises(UsageError, match="no form 'zip'"):
        WriteOptions(to="zip")
    with pytest.raises(Refused, match="safetensors cannot hold"):
        emit_header([Piece("w", "quint8", (0,), (1,))], {}, sharded=False)


def test_headers_of_odd_names_and_packed_numbers() -> None:
    pieces = [Piece("\udc80\u2028", "float4_e2m1fn_x2", (0, 0), (2, 3)), Piece("", "int8", (), ())]
    data = emit_header(pieces, {}, sharded=False)
    assert len(data) % 8 == 0
    header = json.loads(data[8:])
    assert header["\udc80\u2028"]["shape"] == [2, 6] and header[""]["data_offsets"] == [6, 7]
    assert json.loads(emit_index({"a": "f"}, 3)) == {
        "metadata": {"total_size": 3},
        "weight_map": {"a": "f"},
    }
