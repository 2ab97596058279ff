"""Peak memory does not depend on the size of what is compared."""

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
import sys
from dcpctl import open_checkpoint
from dcpctl.diff.values import compare_values
with open_checkpoint(sys.argv[1]) as a, open_checkpoint(sys.argv[2]) as b:
    pair = (a.tensors["w"], b.tensors["w"])
    (found,) = compare_values([pair], threads=2, trust_checksums=False)
    assert found.failure is None
    print(found.unequal)
# Not `ru_maxrss`, which a process inherits from the one that started it.
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak.split()[1])
"""


def filled(place: Path, parts: tuple[int, int], dtype: str, megabytes: int, value: float) -> Path:
    """A checkpoint of one tensor of float32 or bfloat16 that is `value` everywhere."""
    path = place / f"{parts}{dtype}{megabytes}"
    small = make(place / f"seed-{path.name}", {"x": (numbers(3), "float32", (1,))})
    shape = (megabytes * 256, 1024)
    with open_checkpoint(small) as checkpoint:
        draft = TensorDraft("w", shape, dtype, Fill(value), grid(shape, parts, 4))
        run(Draft.of(checkpoint).with_entries([draft], None), path)
    return path


def compared(a: Path, b: Path) -> tuple[int, int]:
    """Unequal elements, and bytes of resident memory at most, of a process that compares."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, a, b],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    unequal, kilobytes = map(int, done.stdout.split())
    return unequal, kilobytes * 1024


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "dtype", "value"),
    [((4, 1), "float32", 1.5), ((1, 3), "float32", 1.5), ((1, 3), "bfloat16", 2.5)],
    ids=["as it lies", "another layout", "another layout, dtype and numbers"],
)
def test_twice_the_size_takes_the_same_memory(
    other: tuple[int, int], dtype: str, value: float, tmp_path: Path
) -> None:
    peaks = []
    for megabytes in (100, 200):
        a = filled(tmp_path / "a", (4, 1), "float32", megabytes, 1.5)
        b = filled(tmp_path / "b", other, dtype, megabytes, value)
        unequal, peak = compared(a, b)
        assert unequal == (megabytes * 256 * 1024 if value != 1.5 else 0)
        peaks.append(peak)
    assert peaks[1] < 150e6
    assert peaks[1] < peaks[0] * 1.15
