"""The committed samples are what their scripts make, and each has its truth beside it."""

from __future__ import annotations

import importlib.util
import json
import pickletools
import shutil
from pathlib import Path
from types import ModuleType

import pytest

DERIVED = ("interrupted", "flipped_bit", "hostile")


@pytest.fixture
def derived(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`sample_checkpoints/derived.py`, working on a copy of what it derives from."""
    spec = importlib.util.spec_from_file_location("derived", samples / "derived.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("model_only", "silent_reset"):
        shutil.copytree(samples / name, tmp_path / name)
    monkeypatch.setattr(module, "HERE", tmp_path)
    return module


def contents(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in directory.iterdir()}


def test_broken_samples_are_made_the_same_again(
    derived: ModuleType, samples: Path, tmp_path: Path
) -> None:
    derived.main()
    for name in DERIVED:
        assert contents(tmp_path / name) == contents(samples / name), name


def test_one_bit_is_flipped(samples: Path) -> None:
    sound = contents(samples / "silent_reset" / "step-8500")
    rotten = contents(samples / "flipped_bit")
    bits = {
        name: sum((a ^ b).bit_count() for a, b in zip(sound[name], rotten[name], strict=True))
        for name in sound
    }
    assert {name: count for name, count in bits.items() if count} == {"__2_0.distcp": 1}


def test_the_payload_is_inert(samples: Path) -> None:
    data = (samples / "hostile" / ".metadata").read_bytes()
    opcodes = [(o.name, a) for o, a, _ in pickletools.genops(data)][:6]
    assert opcodes[1:5] == [
        ("GLOBAL", "os system"),
        ("BINUNICODE", "echo pwned\n"),
        ("TUPLE1", None),
        ("REDUCE", None),
    ]


def test_every_truth_stands_beside_its_checkpoint(samples: Path) -> None:
    truths = sorted(samples.rglob("*.expected.json"))
    assert len(truths) > 15
    for path in truths:
        assert path.with_name(path.name.removesuffix(".expected.json")).is_dir(), path
        entries = json.loads(path.read_text())["entries"]
        assert {entry["kind"] for entry in entries.values()} <= {"tensor", "object"}
