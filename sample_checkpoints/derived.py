"""The samples that no healthy save leaves behind, made from genuine ones, the same every time.

Run by `make.py`, or alone: `python sample_checkpoints/derived.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent

#: Pickle opcodes that call `os.system` and drop its result; what follows loads as if nothing were
#: there. The command only prints a word.
PAYLOAD = b"cos\nsystem\n" + b"X\x0b\x00\x00\x00echo pwned\n" + b"\x85R0"


def interrupted() -> None:
    """A save killed while rank 0 wrote the metadata: all shards, half of `.metadata.tmp`."""
    target = _copy("model_only/step-8500", "interrupted")
    metadata = target / ".metadata"
    data = metadata.read_bytes()
    metadata.unlink()
    (target / ".metadata.tmp").write_bytes(data[: len(data) // 2])


def flipped_bit() -> None:
    """One bit of one weight is wrong; torch loads it without a word.

    It is the highest mantissa bit of a float32 in the largest tensor of rank 2's file, so the
    weight stays plausible. It is XORed, so that it differs whatever it was.
    """
    target = _copy("silent_reset/step-8500", "flipped_bit")
    shard = target / "__2_0.distcp"
    data = bytearray(shard.read_bytes())
    record = _largest_record(bytes(data))
    data[record + 4 * 7 + 2] ^= 0x40
    shard.write_bytes(data)


def hostile() -> None:
    """A `.metadata` that runs a command when it is unpickled, in front of a genuine one."""
    target = _copy("model_only/step-8500", "hostile")
    genuine = (target / ".metadata").read_bytes()
    if genuine[:2] != b"\x80\x04":
        raise SystemExit("expected a pickle of protocol 4")
    (target / ".metadata").write_bytes(genuine[:2] + PAYLOAD + genuine[2:])


def _copy(source: str, name: str) -> Path:
    target = HERE / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(HERE / source, target)
    return target


def _largest_record(data: bytes) -> int:
    """Return where the data of the largest `data/0` begins among the ZIPs packed in `data`."""
    best, where, start = -1, -1, 0
    while (start := data.find(b"PK\x03\x04", start)) >= 0:
        name_length = int.from_bytes(data[start + 26 : start + 28], "little")
        extra_length = int.from_bytes(data[start + 28 : start + 30], "little")
        begin = start + 30 + name_length + extra_length
        if data[start + 30 : start + 30 + name_length].endswith(b"/data/0"):
            size = data.find(b"PK\x07\x08", begin) - begin
            if size > best:
                best, where = size, begin
        start = begin
    return where


def main() -> None:
    """Make all three again."""
    interrupted()
    flipped_bit()
    hostile()


if __name__ == "__main__":
    main()
