"""Pickles that a load meets beside the shards and beside the metadata that everyone looks at."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.hostile.draft import STEP, Draft, healthy
from tests.hostile.fake_torch import dumps
from tests.hostile.opcodes import PROTO, payload
from tests.hostile.registry import canary, case
from tests.test_formats.archives import Rec, Zip

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def _pickle(directory: Path) -> bytes:
    return PROTO + payload(directory) + b"."


def _text(directory: Path) -> bytes:
    """The same in protocol 0."""
    return f"cposix\nsystem\n(S'touch {canary(directory)}'\ntR.".encode()


def _beside(label: str, file: str, make: Callable[[Path], bytes]) -> None:
    """Register a healthy checkpoint with this file beside it."""

    def write(directory: Path) -> None:
        healthy().write(directory)
        path = directory / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(make(directory))

    write.__name__ = f"beside_{label}"
    case(finding="DCP213", runs=True)(write)


def _array(directory: Path) -> bytes:
    """A `.npy` file of objects."""
    head = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + _pickle(directory)


def _zip(directory: Path, name: str, data: bytes, method: int) -> bytes:
    path = directory.parent / "made.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)
    made = path.read_bytes()
    path.unlink()
    return made


_beside("bare_pickle", "rng_state_0.pth", _pickle)
_beside("pickle_of_another_name", "notes.txt", _pickle)
_beside("pickle_in_a_folder", "rank_0/state", _pickle)
_beside("pickle_of_protocol_0", "scheduler.pkl", _text)
_beside("pickle_of_protocol_4", "meta.pt", lambda d: b"\x80\4" + _pickle(d)[2:])
_beside(
    "archive_of_torch", "common.pt",
    lambda d: Zip([Rec("data.pkl", _pickle(d)), Rec("version", b"3\n")], prefix="common/").build(),
)  # fmt: skip
_beside(
    "deflated_archive", "optimizer.bin",
    lambda d: _zip(d, "optimizer/data.pkl", _pickle(d), zipfile.ZIP_DEFLATED),
)  # fmt: skip
_beside("archive_of_arrays", "s.npz", lambda d: _zip(d, "a.npy", _array(d), zipfile.ZIP_STORED))
_beside("array_of_objects", "step.npy", _array)
_beside("file_of_old_torch", "model.pth", lambda d: LEGACY + PROTO + b"M\xe9\3." + _pickle(d))
_beside("old_torch_behind_its_magic", "a.pt", lambda d: LEGACY + _pickle(d))
_beside("metadata_of_a_rank", "__0.metadata", _pickle)
_beside("metadata_of_yesterday", ".metadata.bak", _pickle)


@case(finding="DCP110", runs=True)
def copy_of_a_value_on_another_rank(directory: Path) -> None:
    """Without collectives each rank loads its own copy; dcpctl takes the first."""
    first, second = Draft(), Draft()
    first.tensor("model.bias", (3,))
    first.value("step", STEP)
    second.value("step", _pickle(directory), rank=1)
    first.write(directory, metadata=b"")
    (directory / ".metadata").rename(directory / "__0.metadata")
    (directory / "__0.metadata").write_bytes(dumps(first.metadata()))
    (directory / "__1.metadata").write_bytes(dumps(second.metadata()))
    (directory / "__1_0.distcp").write_bytes(second.files["__1_0.distcp"])
