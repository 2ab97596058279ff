"""Peak memory does not depend on the size of what is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dcpctl import open_checkpoint
from dcpctl.model.draft import Draft, TensorDraft
from dcpctl.model.source import Fill
from tests.test_writing.building import grid, make, numbers, run

SCRIPT = """
import dataclasses, sys
from pathlib import Path
from dcpctl import open_checkpoint
from dcpctl.model.draft import Draft
from tests.test_writing.building import grid, run
parts, dtype = eval(sys.argv[3]), sys.argv[4]
with open_checkpoint(sys.argv[1]) as checkpoint:
    draft = Draft.of(checkpoint)
    entries = [
        dataclasses.replace(e, grid=grid(e.shape, parts, 3), dtype=dtype)
        for e in draft.entries.values()
    ]
    made = dataclasses.replace(draft.with_entries(entries, None), world_size=3)
    run(made, Path(sys.argv[2]), jobs=2)
# Not `ru_maxrss`, which a process inherits from the one that started it.
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak.split()[1])
"""


def peak(source: Path, out: Path, parts: tuple[int, int], dtype: str) -> int:
    """Bytes of resident memory at most, of a process that reshards `source`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, source, out, str(parts), dtype],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout) * 1024


def filled(place: Path, megabytes: int) -> Path:
    small = make(place / f"seed{megabytes}", {"x": (numbers(3), "float32", (1,))})
    shape = (megabytes * 256, 1024)
    with open_checkpoint(small) as checkpoint:
        draft = TensorDraft("w", shape, "float32", Fill(1.5), grid(shape, (4, 1), 4))
        run(Draft.of(checkpoint).with_entries([draft], None), place / f"source{megabytes}")
    return place / f"source{megabytes}"


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(3, 1), (1, 3)], ids=["rows", "columns"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_twice_the_size_takes_the_same_memory(parts, dtype, tmp_path):
    small, large = (filled(tmp_path, megabytes) for megabytes in (150, 300))
    first = peak(small, tmp_path / "a", parts, dtype)
    second = peak(large, tmp_path / "b", parts, dtype)
    assert second < 200e6
    assert second < first * 1.15
