"""Archives back to back, found from the end of a file and from its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.formats import archive_walk
from dcpctl.formats.archive_walk import Walk, walk_archives
from dcpctl.formats.torch_zip_emit import tensor_item, value_item
from dcpctl.storage.local import LocalStorage
from tests.hostile.draft import tensor_item as small_item


def items() -> list[bytes]:
    """Values and tensors; one value holds an archive, as a nested torch.save does."""
    layout = tensor_item("float32", (5, 3))
    tensor = layout.prefix + b"\7" * layout.data_bytes + layout.suffix(0)
    return [value_item("a"), value_item({"nested": value_item([1, 2])}), small_item(4), tensor]


def walk(tmp_path: Path, data: bytes, **options: bool | int) -> Walk:
    (tmp_path / "file").write_bytes(data)
    with LocalStorage(tmp_path) as storage:
        return walk_archives(storage, "file", **options)  # type: ignore[arg-type]


def places(parts: list[bytes]) -> tuple[tuple[int, int], ...]:
    found, at = [], 0
    for part in parts:
        found.append((at, len(part)))
        at += len(part)
    return tuple(found)


def test_a_whole_file(tmp_path: Path) -> None:
    found = walk(tmp_path, b"".join(items()))
    assert found.whole
    assert found.items == places(items())


def test_an_empty_file(tmp_path: Path) -> None:
    assert walk(tmp_path, b"") == Walk(0, ())


def test_a_file_cut_anywhere(tmp_path: Path) -> None:
    parts = items()
    data = b"".join(parts)
    ends = {sum(place) for place in places(parts)}
    cuts = {end + more for end in ends for more in (-1, 0, 1)} - {len(data) + 1}
    for cut in sorted({*range(0, len(data), 13), *cuts}):
        found = walk(tmp_path, data[:cut])
        held = tuple(place for place in places(parts) if sum(place) <= cut)
        assert found.front == held
        assert found.whole == (cut == (sum(held[-1]) if held else 0))
        assert not found.back


def test_zeros_over_any_item(tmp_path: Path) -> None:
    parts = items()
    for number in range(len(parts)):
        spoiled = [b"\0" * len(p) if n == number else p for n, p in enumerate(parts)]
        found = walk(tmp_path, b"".join(spoiled))
        assert found.front == places(parts)[:number]
        assert found.back == places(parts)[number + 1 :]
        assert found.hole == (places(parts)[number][0], sum(places(parts)[number]))


@pytest.mark.parametrize("most", [0, 1])
def test_it_stops_where_asked(tmp_path: Path, most: int) -> None:
    found = walk(tmp_path, b"".join(items()), most=most)
    assert len(found.front) == len(found.back) == most
    assert found.hole is not None


def test_descriptors_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor behind the numbers begins anywhere in a block, and ends in the next."""
    data = b"".join(items())
    for size in range(40, 120):
        monkeypatch.setattr(archive_walk, "_BLOCK_BYTES", size)
        assert walk(tmp_path, data + b"rest").front == places(items())


def test_every_sample_from_both_sides(samples: Path) -> None:
    for file in sorted(samples.glob("silent_reset/*/*.distcp")):
        with LocalStorage(file.parent) as storage:
            found = walk_archives(storage, file.name)
            assert found.whole
            assert len(found.items) in (37, 52)
            forward = tuple(archive_walk._forward(storage, file.name, found.size))
            assert forward == found.items


def test_compressed_frames(samples: Path) -> None:
    for file in sorted((samples / "zstd").glob("*.distcp")):
        with LocalStorage(file.parent) as storage:
            found = walk_archives(storage, file.name, compressed=True)
            assert found.whole
            assert len(found.items) > 10


def test_compressed_frames_cut_off(samples: Path, tmp_path: Path) -> None:
    data = next((samples / "zstd").glob("__1_0.distcp")).read_bytes()
    whole = walk(tmp_path, data, compressed=True).items
    for cut in range(0, len(data), 97):
        held = tuple(place for place in whole if sum(place) <= cut)
        assert walk(tmp_path, data[:cut], compressed=True).front == held
