"""Read, check and explain PyTorch distributed checkpoints.

`dcpctl.open_checkpoint(path)` gives a `Checkpoint`; importing this package imports neither
NumPy nor torch, and reading a checkpoint never imports torch.
"""

# Nothing is imported before it is asked for: neither NumPy, which the command's help needs not, nor
# anything that an interrupt could end with a traceback before `cli.main` sees to interrupts.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dcpctl.errors import DcpctlError
    from dcpctl.model.opening import open_checkpoint

__version__ = "0.1.0"

__all__ = ["DcpctlError", "__version__", "open_checkpoint"]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    if name == "open_checkpoint":
        from dcpctl.model.opening import open_checkpoint

        return open_checkpoint
    if name == "DcpctlError":
        from dcpctl.errors import DcpctlError

        return DcpctlError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, the lazy ones included."""
    return sorted(__all__)
