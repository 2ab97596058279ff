"""Hostile records among thousands of honest ones, where they are decoded as columns."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile import fake_torch as ft
from tests.hostile.draft import chunk
from tests.hostile.registry import canary, case

CHUNKS = 6000
MIDDLE = CHUNKS // 2


def large() -> Any:
    """Metadata of one tensor in 6000 chunks; its pickle is over the threshold for blocks."""
    chunks = [chunk((n, 0), (1, 4)) for n in range(CHUNKS)]
    storage = {
        ft.MetadataIndex(fqn="w", offset=part.offsets, index=n): ft.StorageInfo(
            relative_path=f"__{n % 64}_0.distcp", offset=n * 1000, length=1000
        )
        for n, part in enumerate(chunks)
    }
    tensor = ft.TensorStorageMetadata(
        properties=ft.TensorProperties(dtype=ft.dtype("float32")),
        size=ft.Size((CHUNKS, 4)),
        chunks=chunks,
    )
    return ft.Metadata(
        state_dict_metadata={"w": tensor}, planner_data={"w": ("w",)}, storage_data=storage
    )


def _write(directory: Path, data: bytes) -> None:
    assert len(data) > 300_000
    directory.mkdir()
    (directory / ".metadata").write_bytes(data)


def _unframed(data: bytes) -> bytes:
    """The stream without frames, so that opcodes can be put in."""
    from dcpctl.formats.pickles.blocks import strip_frames

    stripped = strip_frames(data)
    assert stripped is not None
    return stripped[0]


def framed(data: bytes) -> bytes:
    """The stream in one frame, as which runs of records are decoded in blocks."""
    return data[:2] + b"\x95" + struct.pack("<Q", len(data) - 2) + data[2:]


def _spoil(directory: Path, where: str, change: Callable[[bytearray, int], None]) -> None:
    """Apply `change` at the NEWOBJ of the record in the middle of the chunks or the items."""
    data = bytearray(_unframed(ft.dumps(large())))
    # Every chunk is one NEWOBJ, every item two; two more stand before the chunks.
    number = MIDDLE if where == "chunks" else CHUNKS + CHUNKS
    found = [at for code, _, at in pickletools.genops(bytes(data)) if code.name == "NEWOBJ"]
    change(data, found[number])
    _write(directory, framed(bytes(data)))


def _insert(opcodes: bytes) -> Callable[[bytearray, int], None]:
    def change(data: bytearray, at: int) -> None:
        data[at + 1 : at + 1] = opcodes

    return change


@case(opens="unsafe-pickle", subject="os.system")
def block_payload_among_chunks(directory: Path) -> None:
    command = f"touch {canary(directory)}\n".encode()
    _spoil(directory, "chunks", _insert(b"cos\nsystem\n" + b"V" + command + b"\x85R0"))


@case(opens="unsafe-pickle", subject="os.system")
def block_payload_among_items(directory: Path) -> None:
    command = f"touch {canary(directory)}\n".encode()
    _spoil(directory, "items", _insert(b"cos\nsystem\n" + b"V" + command + b"\x85R0"))


@case(opens="malformed-pickle")
def block_forward_reference_among_chunks(directory: Path) -> None:
    _spoil(directory, "chunks", _insert(b"j\xff\xff\xff\x7f0"))


@case(opens="malformed-pickle")
def block_forward_reference_among_items(directory: Path) -> None:
    _spoil(directory, "items", _insert(b"j\xff\xff\xff\x7f0"))


@case(opens="malformed-pickle")
def block_unknown_opcode(directory: Path) -> None:
    _spoil(directory, "items", _insert(b"\xff"))


@case(opens="malformed-pickle")
def block_stack_underflow(directory: Path) -> None:
    _spoil(directory, "chunks", _insert(b"0" * 5000))


@case(opens="malformed-pickle")
def block_with_an_explicit_put(directory: Path) -> None:
    """Every memo entry behind it has another number than the stream thinks."""
    _spoil(directory, "chunks", _insert(b"r\x00\x00\x00\x7f"))


@case(reads="missing-file", finding="DCP201")
def block_of_protocol_2(directory: Path) -> None:
    """Legal: left to the plain machine."""
    _write(directory, ft.dumps(large(), 2))


@case(opens="malformed-pickle")
def block_cut_inside_a_record(directory: Path) -> None:
    data = ft.dumps(large())
    _write(directory, data[: len(data) * 2 // 3])


@case(opens="malformed-pickle")
def block_of_zeros_in_the_middle(directory: Path) -> None:
    data = bytearray(_unframed(ft.dumps(large())))
    half = len(data) // 2
    data[half : half + 4096] = bytes(4096)
    _write(directory, framed(bytes(data)))


@case(opens="malformed-metadata")
def block_chunk_of_another_rank(directory: Path) -> None:
    metadata = large()
    metadata.state_dict_metadata["w"].chunks[MIDDLE] = chunk((MIDDLE,), (1,))
    _write(directory, ft.dumps(metadata))


@case(opens="malformed-metadata")
def block_offset_of_2_to_the_63(directory: Path) -> None:
    metadata = large()
    metadata.state_dict_metadata["w"].chunks[MIDDLE] = chunk((1 << 63, 0), (1, 4))
    _write(directory, ft.dumps(metadata))


@case(opens="malformed-metadata")
def block_item_at_2_to_the_63(directory: Path) -> None:
    metadata = large()
    list(metadata.storage_data.values())[MIDDLE].offset = 1 << 63
    _write(directory, ft.dumps(metadata))


@case(opens="malformed-metadata")
def block_path_is_a_number(directory: Path) -> None:
    metadata = large()
    list(metadata.storage_data.values())[MIDDLE].relative_path = 7
    _write(directory, ft.dumps(metadata))


@case(opens="malformed-metadata")
def block_chunk_without_sizes(directory: Path) -> None:
    metadata = large()
    del metadata.state_dict_metadata["w"].chunks[MIDDLE].sizes
    _write(directory, ft.dumps(metadata))


@case(reads="path-outside-checkpoint", finding="DCP206")
def block_names_that_look_like_records(directory: Path) -> None:
    """Texts that hold the bytes of a record must be taken for texts."""
    data = _unframed(ft.dumps(large()))
    found = [at for code, _, at in pickletools.genops(data) if code.name == "NEWOBJ"]
    record = data[found[MIDDLE] - 3 : found[MIDDLE + 1] - 3]
    metadata = large()
    forged = (record * 3).decode("latin-1")
    for number, info in enumerate(metadata.storage_data.values()):
        if number % 50 == 0:
            info.relative_path = forged + str(number)
    _write(directory, ft.dumps(metadata))


@case(reads="path-outside-checkpoint", finding="DCP206")
def block_ends_in_paths_outside(directory: Path) -> None:
    metadata = large()
    for number, info in enumerate(metadata.storage_data.values()):
        info.relative_path = f"../../{number}"
    _write(directory, ft.dumps(metadata))


@case(reads="missing-file", finding="DCP106")
def block_of_negative_numbers(directory: Path) -> None:
    metadata = large()
    for number, info in enumerate(metadata.storage_data.values()):
        info.offset, info.length = -number - (1 << 40), -1
    _write(directory, ft.dumps(metadata))
