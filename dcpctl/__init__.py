"""Read, check and explain PyTorch distributed checkpoints.

`dcpctl.open_checkpoint(path)` gives a `Checkpoint`; importing this package imports neither
NumPy nor torch, and reading a checkpoint never imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dcpctl.errors import DcpctlError

if TYPE_CHECKING:
    from dcpctl.model.opening import open_checkpoint

__version__ = "0.1.0"

__all__ = ["DcpctlError", "__version__", "open_checkpoint"]


def __getattr__(name: str) -> object:
    """Import `open_checkpoint` on first use (PEP 562), so that the CLI starts without NumPy."""
    if name == "open_checkpoint":
        from dcpctl.model.opening import open_checkpoint

        return open_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, the lazy ones included."""
    return sorted(__all__)
