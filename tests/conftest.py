"""Fixtures and markers for every test; nothing here imports torch or NumPy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `torch` what imports torch in its module or asks for the `torch` fixture."""
    absent = pytest.mark.skip(reason="torch is not installed")
    for item in items:
        uses_fixture = "torch" in getattr(item, "fixturenames", ())
        imports_it = hasattr(getattr(item, "module", None), "torch")
        if uses_fixture or imports_it:
            item.add_marker(pytest.mark.torch)
        if item.get_closest_marker("torch") and not HAS_TORCH:
            item.add_marker(absent)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def samples() -> Path:
    """The committed checkpoints; `X.expected.json` beside a checkpoint X is the truth about it."""
    return REPOSITORY / "sample_checkpoints"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The larger collection of real checkpoints beside the repository; skips where it is absent."""
    path = REPOSITORY.parent / "shared"
    if not path.is_dir():
        pytest.skip("no ../shared beside the repository")
    return path


@pytest.fixture(scope="session")
def torch() -> object:
    """The torch module; skips where torch is not installed."""
    return pytest.importorskip("torch")
