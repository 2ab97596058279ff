"""Entries of many Python classes, as torch.save writes them: what they are, and what they do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.values import to_json
from dcpctl.reports import values_text
from tests.test_check.helpers import check

TYPES = {
    "path": ("pathlib.PosixPath", "PosixPath('/x/y')"),
    "dt": ("datetime.datetime", "datetime.datetime(2024, 1, 2, 0, 0)"),
    "td": ("datetime.timedelta", "datetime.timedelta(days=3)"),
    "dec": ("decimal.Decimal", "Decimal('1.5')"),
    "frac": ("fractions.Fraction", "Fraction(1, 3)"),
    "ell": ("builtins.ellipsis", "Ellipsis"),
    "slice": ("builtins.slice", "slice(1, 2, None)"),
    "rng": ("builtins.range", "range(0, 3)"),
    "ns": ("argparse.Namespace", "Namespace(lr=1, betas=(0.9, 0.99))"),
    "dq": ("collections.deque", "deque([1, 2], maxlen=4)"),
    "enum": ("__main__.Mode", "<__main__.Mode 2>"),
    "dataclass": ("__main__.TrainState", "<__main__.TrainState>"),
}


@pytest.fixture(scope="module")
def case(shared: Path) -> Path:
    return shared / "reports" / "njt-custom"


def test_values_are_shown_as_what_they_are(case: Path) -> None:
    with open_checkpoint(case / "ck") as checkpoint:
        entries = {name: checkpoint.bytes_entries[f"train.{name}"] for name in TYPES}
        assert {
            name: (entry.type, values_text.short(entry.value)) for name, entry in entries.items()
        } == TYPES
        assert to_json(entries["ns"].value) == {
            "__type__": "argparse.Namespace",
            "lr": 1,
            "betas": [0.9, 0.99],
        }


def test_harmless_builtins_are_harmless(case: Path) -> None:
    result = check(case / "ck", "DCP1", "DCP3", verify_data=True)
    assert {(found.rule, found.severity, found.subject) for found in result.findings} == {
        ("DCP110", "warning", "train.dataclass"),
        ("DCP110", "warning", "train.enum"),
        ("DCP110", "warning", "train.namedtuple"),
        ("DCP308", "info", "train.quant"),
    }


def test_every_entry_by_itself(case: Path) -> None:
    for path in sorted((case / "one").iterdir()):
        findings = check(path, "DCP110", "DCP3").findings
        own = path.name in ("dataclass", "enum", "namedtuple")
        assert {found.severity for found in findings} - {"info"} == ({"warning"} if own else set())
