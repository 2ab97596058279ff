"""Files that are missing, cut off or damaged: what is good is found, what is lost is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dcpctl.errors import Refused
from dcpctl.model.opening import open_checkpoint
from dcpctl.repair.engine import NothingToRepair
from tests import corruptors
from tests.test_repair.wrecks import (
    RUN,
    SIBLING,
    WRECK,
    keys_in,
    longer,
    mend,
    numbers_of,
    places_in,
    wreck,
)

METADATA = pytest.mark.parametrize("metadata", [False, True], ids=["rebuilt", "described"])


def salvaged(source: Path, target: Path, samples: Path, metadata: bool) -> set[str]:
    """Salvage, see that every number is right, and return the keys that are lost."""
    mend("salvage", source, target, None if metadata else samples / SIBLING)
    made, original = numbers_of(target), numbers_of(samples / WRECK)
    assert made.items() <= original.items()
    assert list(made) == [fqn for fqn in original if fqn in made]
    return set(original) - set(made)


@METADATA
@pytest.mark.parametrize("rank", [0, 1, 3], ids=["first", "middle", "last"])
def test_a_file_is_missing(samples: Path, tmp_path: Path, rank: int, metadata: bool) -> None:
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=metadata)
    name = f"__{rank}_0.distcp"
    (source / name).unlink()
    with pytest.raises(Refused, match="it is missing") as refused:
        mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert "--allow-older" in (refused.value.hint or "")
    assert salvaged(source, tmp_path / "good", samples, metadata) == keys_in(samples / WRECK, name)


@METADATA
@pytest.mark.parametrize(
    ("items", "more"), [(0, 0), (0, 40), (1, 0), (7, 30), (30, 0), (30, 800), (51, -1), (52, -1)]
)
def test_a_file_is_cut_off(
    samples: Path, tmp_path: Path, items: int, more: int, metadata: bool
) -> None:
    """At the start, between items, in headers and in numbers, and one byte before the end."""
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=metadata)
    name = "__2_0.distcp"
    places = places_in(source if metadata else samples / WRECK, name)
    size = (sum(places[items - 1]) if items else 0) + more
    corruptors.truncate(source / name, size)
    whole = sum(offset + length <= size for offset, length in places)
    with pytest.raises(Refused) as refused:
        mend("repair", source, tmp_path / "made", samples / SIBLING)
    assert f"{name}: it ends at byte {size:,}" in str(refused.value)
    lost = salvaged(source, tmp_path / "good", samples, metadata)
    assert lost == _keys_at(samples / WRECK, name, places[whole:])


def _keys_at(path: Path, name: str, places: list[tuple[int, int]]) -> set[str]:
    """The keys that have an item at one of these places."""
    with open_checkpoint(path) as checkpoint:
        number = [file.name for file in checkpoint.files].index(name)
        return {
            fqn
            for fqn, entry in checkpoint.entries.items()
            for item in (entry.chunks if fqn in checkpoint.tensors else (entry,))
            if item.file == number and (item.offset, item.length) in places
        }


@METADATA
def test_a_hole_in_a_file_costs_what_was_in_it(
    samples: Path, tmp_path: Path, metadata: bool
) -> None:
    """A block of zeros over two items: what is before and behind them is found from the ends."""
    source = wreck(samples / WRECK, tmp_path / "wreck", metadata=metadata)
    name = "__1_0.distcp"
    places = places_in(samples / WRECK, name)
    begin = places[20][0] + 100
    with (source / name).open("r+b") as file:
        file.seek(begin)
        file.write(b"\0" * (places[21][0] + 200 - begin))
    lost = salvaged(source, tmp_path / "good", samples, metadata)
    assert lost == _keys_at(samples / WRECK, name, places[20:22])


@METADATA
def test_a_flipped_bit_costs_one_key(samples: Path, tmp_path: Path, metadata: bool) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, "model.norm.weight")
    corruptors.flip_pickle(source, "lr_scheduler.last_epoch")
    wreck(source, tmp_path / "again", metadata=metadata)
    lost = salvaged(tmp_path / "again", tmp_path / "good", samples, metadata)
    assert lost == {"model.norm.weight", "lr_scheduler.last_epoch"}


def test_the_salvage_is_a_checkpoint_for_torch(
    samples: Path, tmp_path: Path, torch: object
) -> None:
    from tests.test_surgery.oracle import by_torch, truth

    source = wreck(samples / WRECK, tmp_path / "wreck")
    corruptors.truncate(source / "__3_0.distcp", -30_000)
    mended = mend("salvage", source, tmp_path / "good", samples / SIBLING)
    read, known = by_torch(tmp_path / "good"), truth(samples / WRECK)
    assert set(read) == set(mended.draft.entries)
    kept = {fqn: value for fqn, value in known.items() if fqn in read}
    assert 20 < len(kept) < len(known)
    assert {fqn: read[fqn] for fqn in kept} == kept


def test_a_salvage_of_nothing_is_refused(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    for file in source.glob("*.distcp"):
        corruptors.truncate(file, 10)
    with pytest.raises(Refused, match=r"nothing in .* is provably good"):
        mend("salvage", source, tmp_path / "good")


def test_a_whole_checkpoint_needs_no_repair(samples: Path, tmp_path: Path) -> None:
    with pytest.raises(NothingToRepair, match="193 items"):
        mend("repair", samples / WRECK, tmp_path / "made")
    mended = mend("salvage", samples / WRECK, tmp_path / "good")
    assert not mended.remedies
    assert numbers_of(tmp_path / "good") == numbers_of(samples / WRECK)


def test_items_without_checksums_are_good_only_when_allowed(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    file, offset, length = _unsum(source, "model.norm.weight")
    assert length and (source / file).stat().st_size > offset
    mended = mend("salvage", source, tmp_path / "good")
    assert [lost.fqn for lost in mended.survey.lost] == ["model.norm.weight"]
    assert "no checksum" in mended.survey.lost[0].why
    allowed = mend("salvage", source, tmp_path / "all", allow_unsummed=True)
    assert not allowed.survey.lost
    assert "no checksum" in allowed.warnings[0]


def _unsum(directory: Path, fqn: str) -> tuple[str, int, int]:
    """Zero every CRC-32 of one item, as `set_crc32_options(False)` does."""
    with open_checkpoint(directory) as checkpoint:
        chunk = checkpoint.tensors[fqn].chunks[0]
        name = checkpoint.files[chunk.file].name
    path = directory / name
    data = bytearray(path.read_bytes())
    at, end = chunk.offset, chunk.offset + chunk.length
    for signature, crc in ((b"PK\1\2", 16), (b"PK\7\x08", 4)):
        place = data.find(signature, at, end)
        while place >= 0:
            data[place + crc : place + crc + 4] = bytes(4)
            place = data.find(signature, place + 4, end)
    path.write_bytes(data)
    return name, chunk.offset, chunk.length


def test_the_record_says_what_was_lost_and_why(samples: Path, tmp_path: Path) -> None:
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    corruptors.flip_data(source, "model.tok_embeddings.weight", row=2)
    mend("salvage", source, tmp_path / "good")
    said = json.loads((tmp_path / "good" / "dcpctl-repair.json").read_text())
    assert said["schema"] == "dcpctl.repair/1"
    assert said["verb"] == "salvage"
    assert (said["items"], said["good_items"]) == (193, 192)
    assert [lost["key"] for lost in said["lost"]] == ["model.tok_embeddings.weight"]
    assert said["lost"][0]["chunks"] == [{"offsets": [48, 0], "sizes": [24, 16]}]
    assert [file["state"] for file in said["files"]].count("damaged") == 1
    assert said["remedies"][0]["what"] == "left out"


@pytest.mark.soak
def test_cut_off_at_every_boundary(samples: Path, tmp_path: Path) -> None:
    """Every header, record, descriptor, directory and end record of a file's first items."""
    name = "__1_0.distcp"
    data = (samples / WRECK / name).read_bytes()
    places = places_in(samples / WRECK, name)
    marks = (b"PK\3\4", b"PK\7\x08", b"PK\1\2", b"PK\6\6", b"PK\6\7", b"PK\5\6")
    cuts = sorted({data.find(mark, at) for mark in marks for at in range(0, 12_000, 4)})
    assert len(cuts) > 100
    for number, cut in enumerate(cuts):
        source = wreck(samples / WRECK, tmp_path / f"wreck-{number}")
        corruptors.truncate(source / name, cut)
        mended = mend("salvage", source, tmp_path / f"good-{number}", samples / f"{RUN}/step-8500")
        state = next(file for file in mended.survey.files if file.name == name)
        assert state.good == sum(offset + length <= cut for offset, length in places)
        assert state.state == "cut off"


def test_a_file_of_another_save_is_left_out(samples: Path, tmp_path: Path) -> None:
    """An interrupted save into the same directory replaced a file; its items lie elsewhere."""
    source = corruptors.copy(samples / WRECK, tmp_path / "wreck")
    name = "__1_0.distcp"
    other = longer(samples / SIBLING, tmp_path / "other")
    (source / name).write_bytes((other / name).read_bytes())
    with pytest.raises(Refused, match="do not belong together"):
        mend("repair", source, tmp_path / "made")
    mended = mend("salvage", source, tmp_path / "good")
    made, original = numbers_of(tmp_path / "good"), numbers_of(samples / WRECK)
    assert set(original) - set(made) == keys_in(samples / WRECK, name)
    assert made.items() <= original.items()
    assert [file.state for file in mended.survey.files] == ["whole", "other", "whole", "whole"]


@pytest.mark.parametrize("verb", ["repair", "salvage"])
def test_a_file_of_another_step_in_its_place_is_told(
    samples: Path, tmp_path: Path, verb: str
) -> None:
    """The same, with all items where the metadata say: only the optimizer's steps tell."""
    source = corruptors.copy(samples / f"{RUN}/step-9000", tmp_path / "wreck")
    newer = samples / f"{RUN}/step-8500" / "__2_0.distcp"
    (source / "__2_0.distcp").write_bytes(newer.read_bytes())
    with pytest.raises(Refused, match=r"different saves: .*__2_0\.distcp"):
        mend(verb, source, tmp_path / "made")
