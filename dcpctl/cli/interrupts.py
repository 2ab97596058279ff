"""What Ctrl-C and SIGTERM do, at every moment from the first import to the last flush.

While a command starts there is nothing to put away, and it ends at once. While it runs, the signal
becomes a KeyboardInterrupt, so that a writer leaves what can be resumed and the rest nothing; a
second one ends it at once, which a writer survives as it does a kill. When its exit code is known,
that is what it ends with. The exit code is 128 and the signal's number, as a shell has it.
"""

# What `signal` wraps in enums, whose import an interrupt could fall into.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STARTING, _RUNNING, _ENDED = range(3)


class _State:
    phase = _STARTING
    code = 0
    """Exit code: of the signal, once one came, then of the command."""
    process = 0


def watch() -> None:
    """Take over both signals, unless they are ignored, as below `nohup`."""
    _State.phase, _State.code, _State.process = _STARTING, 0, os.getpid()
    for number in _SIGNALS[:1] if _below_torchrun() else _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _arrived)
    sys.unraisablehook = _unraisable


def begin() -> None:
    """Raise KeyboardInterrupt from now on; nothing is done unless `watch` was called."""
    _State.phase, _State.code = _RUNNING, 0


def seen() -> int:
    """The exit code of the signal that came since `begin`; 0 if none did."""
    return _State.code


def end(code: int) -> None:
    """Let no signal change the exit code any more, while Python itself ends."""
    _State.code, _State.phase = code, _ENDED
    for number in _SIGNALS:
        if signal.getsignal(number) is _arrived:
            signal.signal(number, signal.SIG_IGN)


def _below_torchrun() -> bool:
    """Whether torchrun ends this process, by SIGTERM, while it waits for others outside Python."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def _arrived(number: int, frame: object) -> None:
    again = _State.code != 0
    if _State.phase != _ENDED:
        _State.code = 128 + number
    # In a child nothing is put away: that is for the process that made it.
    if _State.phase != _RUNNING or again or os.getpid() != _State.process:
        os._exit(_State.code)
    raise KeyboardInterrupt


def _unraisable(raised: "sys.UnraisableHookArgs") -> None:
    """End where an interrupt fell to where Python lets no exception pass, as in `__del__`."""
    if issubclass(raised.exc_type, KeyboardInterrupt) and _State.phase == _RUNNING:
        os._exit(_State.code)
    sys.__unraisablehook__(raised)
