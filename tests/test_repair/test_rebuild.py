"""An interrupted save: its metadata rebuilt, or refused with what is in doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dcpctl.errors import NotACheckpoint, Refused
from dcpctl.formats.crc import crc32
from dcpctl.formats.torch_zip import open_item
from dcpctl.formats.torch_zip_emit import tensor_item
from dcpctl.model.opening import open_checkpoint
from dcpctl.storage.buffer import BufferStorage
from tests import corruptors
from tests.hostile.draft import Draft, value_item
from tests.hostile.draft import tensor_item as archive
from tests.test_repair.wrecks import (
    RUN,
    SIBLING,
    WRECK,
    longer,
    meaning,
    meaning_of,
    mend,
    numbers_of,
    places_in,
    wreck,
)

ORIGINALS = [
    (f"{RUN}/step-8500", f"{RUN}/step-9000"),
    (f"{RUN}/step-9500", f"{RUN}/step-8500"),
    *((name, name) for name in ("legacy", "no_collectives", "releases/1.13.1-optim_AdamW")),
]


@pytest.mark.parametrize(("name", "sibling"), ORIGINALS, ids=lambda name: name.replace("/", "-"))
def test_the_metadata_are_what_they_were(
    samples: Path, tmp_path: Path, name: str, sibling: str
) -> None:
    source = wreck(samples / name, tmp_path / "wreck")
    mended = mend("repair", source, tmp_path / "made", samples / sibling)
    with open_checkpoint(samples / name) as checkpoint:
        original = checkpoint.parts[0].stored
        assert meaning(mended.survey.stored) == meaning(original)
        assert mended.survey.stored.planner_data == original.planner_data
        assert mended.draft.planner_data == original.planner_data
    assert mended.survey.verified == mended.survey.items
    assert not mended.remedies
    shards = {file.name for file in (samples / name).glob("*.distcp") if file.stat().st_size}
    made = {file.name for file in (tmp_path / "made").iterdir()}
    assert made == shards | {".metadata", "dcpctl-repair.json"}
    assert numbers_of(tmp_path / "made") == numbers_of(samples / name)


def test_compressed_items_are_walked_too(samples: Path, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    source = wreck(samples / "zstd", tmp_path / "wreck")
    mend("repair", source, tmp_path / "made", samples / "zstd")
    assert meaning_of(tmp_path / "made") == meaning_of(samples / "zstd")


def test_torch_reads_the_same(samples: Path, tmp_path: Path, torch: object) -> None:
    from tests.test_surgery.oracle import by_torch, truth

    source = wreck(samples / WRECK, tmp_path / "wreck")
    mend("repair", source, tmp_path / "made", samples / SIBLING)
    read = by_torch(tmp_path / "made")
    known = truth(samples / WRECK)
    assert known and set(read) >= set(known)
    assert {fqn: read[fqn] for fqn in known} == known


def test_values_of_another_length_move_everything_behind_them(
    samples: Path, tmp_path: Path
) -> None:
    """The sibling's places are then those of no item, and only its order counts."""
    source = longer(samples / WRECK, tmp_path / "longer")
    original = meaning_of(source)
    assert original != meaning_of(samples / WRECK)
    (source / ".metadata").unlink()
    mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert meaning_of(tmp_path / "made") == original


def test_without_a_sibling_it_says_what_is_needed(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    with pytest.raises(Refused, match="the save did not finish") as refused:
        mend("repair", source, tmp_path / "made")
    assert "--from" in (refused.value.hint or "")
    assert not (tmp_path / "made").exists()


def test_whole_temporary_metadata_are_used_when_proved(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=True)
    (source / ".metadata").rename(source / ".metadata.tmp")
    mended = mend("repair", source, tmp_path / "made")
    assert mended.survey.basis == ".metadata.tmp"
    assert numbers_of(tmp_path / "made") == numbers_of(samples / WRECK)


@pytest.mark.parametrize(
    ("name", "keep"),
    [(".metadata", 0), (".metadata", 20_000), (".metadata", -1), (".metadata.tmp", 20_000)],
)
def test_cut_metadata_are_rebuilt(samples: Path, tmp_path: Path, name: str, keep: int) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=True)
    corruptors.truncate(source / ".metadata", keep)
    (source / ".metadata").rename(source / name)
    with pytest.raises(Refused):
        mend("repair", source, tmp_path / "made")
    mended = mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert mended.survey.basis == "rebuilt"
    assert meaning_of(tmp_path / "made") == meaning_of(samples / WRECK)


def test_stale_metadata_are_told_and_the_files_rebuilt(samples: Path, tmp_path: Path) -> None:
    source = longer(samples / WRECK, tmp_path / "longer")
    original = meaning_of(source)
    (source / ".metadata").write_bytes((samples / SIBLING / ".metadata").read_bytes())
    with pytest.raises(Refused, match="another save") as refused:
        mend("repair", source, tmp_path / "made")
    assert "SRC itself" in (refused.value.hint or "")
    mended = mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert mended.survey.basis == "rebuilt"
    assert meaning_of(tmp_path / "made") == original
    mend("repair", source, tmp_path / "again", source)
    assert meaning_of(tmp_path / "again") == original


def test_whole_temporary_metadata_of_the_later_save_are_found(
    samples: Path, tmp_path: Path
) -> None:
    """A save into the same directory was killed just before it renamed its metadata."""
    source = longer(samples / WRECK, tmp_path / "longer")
    (source / ".metadata").rename(source / ".metadata.tmp")
    (source / ".metadata").write_bytes((samples / SIBLING / ".metadata").read_bytes())
    mended = mend("repair", source, tmp_path / "made")
    assert mended.survey.basis == ".metadata.tmp"
    assert "another save" in mended.survey.why_basis
    (source / ".metadata").unlink()
    (source / ".metadata.tmp").rename(source / ".metadata")
    assert numbers_of(tmp_path / "made") == numbers_of(source)


def test_files_of_two_saves_are_refused(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / f"{RUN}/step-9000", tmp_path / "wreck")
    newer = samples / f"{RUN}/step-8500" / "__1_0.distcp"
    (source / "__1_0.distcp").write_bytes(newer.read_bytes())
    with pytest.raises(Refused, match=r"different saves: .*__1_0\.distcp"):
        mend("repair", source, tmp_path / "made", samples / f"{RUN}/step-9500")


@pytest.mark.parametrize("metadata", [False, True], ids=["rebuilt", "described"])
@pytest.mark.parametrize(("one", "other"), [(1, 2), (0, 3)])
def test_exchanged_files_are_told(
    samples: Path, tmp_path: Path, one: int, other: int, metadata: bool
) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=metadata)
    corruptors.exchange_files(source / f"__{one}_0.distcp", source / f"__{other}_0.distcp")
    with pytest.raises(Refused) as refused:
        mend("repair", source, tmp_path / "made", samples / SIBLING)
    said = f"{refused.value} {refused.value.hint}"
    assert f"__{one}_0.distcp" in said
    assert f"__{other}_0.distcp" in said
    assert "name of the rank that wrote it" in said
    assert not (tmp_path / "made").exists()


def test_a_sibling_of_another_layout_is_refused(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    with pytest.raises(Refused):
        mend("repair", source, tmp_path / "made", samples / "fsdp_tp_2x2")


def test_files_that_the_sibling_lacks_are_not_passed_over(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    (source / "__4_0.distcp").write_bytes((source / "__3_0.distcp").read_bytes())
    with pytest.raises(Refused, match=r"__4_0\.distcp"):
        mend("repair", source, tmp_path / "made", samples / SIBLING)


def test_bytes_behind_the_last_item_are_not_passed_over(samples: Path, tmp_path: Path) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck")
    corruptors.append(source / "__3_0.distcp", b"\0" * 64)
    with pytest.raises(Refused, match="bytes that belong to none"):
        mend("repair", source, tmp_path / "made", samples / SIBLING)


def test_a_directory_without_files_is_no_wreck(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotACheckpoint):
        mend("repair", tmp_path / "empty", tmp_path / "made", samples / SIBLING)


def test_what_is_not_unique_is_refused_by_name(tmp_path: Path) -> None:
    """Of two tensors of one shape one is gone from the middle: which, nothing tells."""
    sibling = Draft()
    for fqn, shape in (("a", (4,)), ("b", (4,)), ("c", (8,))):
        sibling.tensor(fqn, shape)
    sibling.write(tmp_path / "sibling")
    (tmp_path / "wreck").mkdir()
    left = archive(4) + archive(8)
    (tmp_path / "wreck" / "__0_0.distcp").write_bytes(left)
    with pytest.raises(Refused, match=r"2 keys in doubt \('a', 'b'\)"):
        mend("repair", tmp_path / "wreck", tmp_path / "made", tmp_path / "sibling")
    mended = mend("salvage", tmp_path / "wreck", tmp_path / "made", tmp_path / "sibling")
    assert list(mended.draft.entries) == ["c"]


def test_an_item_of_another_shape_is_refused(tmp_path: Path) -> None:
    sibling = Draft()
    sibling.tensor("a", (4,))
    sibling.tensor("b", (8,))
    sibling.write(tmp_path / "sibling")
    (tmp_path / "wreck").mkdir()
    (tmp_path / "wreck" / "__0_0.distcp").write_bytes(archive(4) + value_item(b"\x80\x02N."))
    with pytest.raises(Refused, match=r"item 2 at byte .* is an object, the sibling's is float32"):
        mend("repair", tmp_path / "wreck", tmp_path / "made", tmp_path / "sibling")


def _reordered(source: Path, target: Path, name: str, exchange: dict[str, str]) -> Path:
    """A save whose state dict had keys in each other's place: a file's items are exchanged."""
    wreck(source, target)
    with open_checkpoint(source) as checkpoint:
        number = [file.name for file in checkpoint.files].index(name)
        place = {
            fqn: next((c.offset, c.length) for c in entry.chunks if c.file == number)
            for fqn, entry in checkpoint.tensors.items()
            if fqn in {*exchange, *exchange.values()}
        }
    data = (target / name).read_bytes()
    made = bytearray(data)
    for one, other in exchange.items():
        (a, length), (b, same) = place[one], place[other]
        assert length == same
        made[a : a + length], made[b : b + length] = data[b : b + length], data[a : a + length]
    (target / name).write_bytes(made)
    return target


@pytest.mark.parametrize(
    "exchange",
    [
        {"model.layers.0.attention.wq.weight": "model.layers.0.attention.wo.weight"},
        {"model.tok_embeddings.weight": "model.output.weight"},
        {
            f"optimizer.state.layers.0.feed_forward.w1.weight.{slot}": (
                f"optimizer.state.layers.0.feed_forward.w3.weight.{slot}"
            )
            for slot in ("exp_avg", "exp_avg_sq")
        },
        {
            "optimizer.state.output.weight.exp_avg": "optimizer.state.output.weight.exp_avg_sq",
        },
    ],
    ids=["of a layer", "of the model", "state", "slots"],
)
def test_items_in_another_order_are_told(
    samples: Path, tmp_path: Path, exchange: dict[str, str]
) -> None:
    """They have one shape, so nothing but their numbers tells."""
    source = _reordered(samples / WRECK, tmp_path / "wreck", "__1_0.distcp", exchange)
    with pytest.raises(Refused, match="not in the order") as refused:
        mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert any(name in str(refused.value) for name in (*exchange, *exchange.values()))


def test_a_sibling_of_another_run_has_to_be_trusted(samples: Path, tmp_path: Path) -> None:
    """The same layout with other numbers: only order and form speak for the names."""
    sibling = corruptors.copy(samples / SIBLING, tmp_path / "sibling")
    source = wreck(samples / WRECK, tmp_path / "wreck")
    for file in sorted(source.glob("*.distcp")):
        _scramble(file, places_in(samples / WRECK, file.name))
    with pytest.raises(Refused, match=r"none of \d+ tensors") as refused:
        mend("repair", source, tmp_path / "made", sibling)
    assert "--trust-order" in (refused.value.hint or "")
    mended = mend("repair", source, tmp_path / "made", sibling, trust_order=True)
    assert "order, dtypes and shapes alone" in mended.warnings[0]
    assert meaning_of(tmp_path / "made") == meaning_of(samples / WRECK)


def _scramble(file: Path, places: list[tuple[int, int]]) -> None:
    """Give tensors other numbers, with their checksums: random ones between 1 and 2."""
    random = np.random.default_rng(1)
    data = bytearray(file.read_bytes())
    for offset, length in places:
        held = BufferStorage("item")
        held.append(bytes(data[offset : offset + length]))
        item = open_item(held, "", 0, length, subject="item")
        record = item.records.get("data/0")
        if record is None or record.size < 64:
            continue
        layout = tensor_item(item.tensor().dtype, item.tensor().shape)
        numbers = random.uniform(1, 2, record.size // 4).astype(np.float32).tobytes()
        made = layout.prefix + numbers + layout.suffix(crc32(numbers))
        assert len(made) == length
        data[offset : offset + length] = made
    file.write_bytes(data)
