"""Values that are typed on a command line, made into the type that an entry already has."""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np

from dcpctl.errors import Refused, UsageError, quote
from dcpctl.formats import dtypes
from dcpctl.formats.tensor_values import TensorValue
from dcpctl.model.optimizer.catalogue import catalogue
from dcpctl.surgery.set import Text

_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
}
_MAX_TEXT = 65_536
_PLAIN = (bool, int, float, str, type(None))

#: Hyperparameters that torch's own constructors refuse below 0 (`torch/optim/*.py`).
_NOT_NEGATIVE = frozenset(
    {
        *("lr", "initial_lr", "max_lr", "min_lr", "swa_lr", "weight_decay", "eps", "momentum"),
        *("dampening", "alpha", "rho", "lr_decay", "momentum_decay", "step", "_step_count"),
    }
)
_COUNTS = frozenset({"step", "_step_count"})
#: Those that it refuses outside [0, 1).
_FRACTIONS = frozenset({"betas"})
#: Those that are null until somebody decides.
_SWITCHES = frozenset({"foreach", "fused"})


def parse(text: str) -> Any:
    """Read a value: `1e-4`, `true`, `null`, `0.9,0.95`, `(0.9, 0.95)`, `[1, 2]`, `'text'`.

    Raises:
        UsageError: it is none of these.
    """
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    try:
        if len(word) > _MAX_TEXT:
            raise ValueError
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise UsageError(
            f"{quote(text)} is no value",
            hint="a number, true, false, null, a tuple such as 0.9,0.95, or a quoted text",
        ) from None
    if not _is_plain(value):
        raise UsageError(f"{quote(text)} is no number, text or tuple of them")
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(item) for item in value)
    return isinstance(value, _PLAIN)


def converted(old: Any, given: Any, *, key: str, subject: str, change_type: bool) -> Any:
    """Return a given value in the type of what it replaces.

    An int becomes a float where a float was, a list becomes a tuple; nothing else is changed.

    Args:
        old: the present value.
        given: a plain value, or `Text`.
        key: the hyperparameter's name, which says what torch allows.
        subject: the entry, for messages.
        change_type: take a value of any type.

    Raises:
        Refused: the types differ, or torch's optimizers do not allow such a value.
        UsageError: the text is no value.
    """
    if isinstance(given, Text):
        given = _unquoted(given.text) if isinstance(old, str) else parse(given.text)
    value = given if change_type else _like(old, given, key, subject)
    _check_range(key, value, subject)
    return value


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _like(old: Any, given: Any, key: str, subject: str) -> Any:
    if isinstance(old, TensorValue):
        return _scalar_like(old, given, subject)
    if given is None and (old is None or _may_be_null(key)):
        return None
    if old is None:
        if key in _SWITCHES and not isinstance(given, bool):
            raise Refused(f"{subject} is a switch: true, false or null, not {_shown(given)}")
        return given
    kind = type(old)
    if given is None or isinstance(given, bool) != isinstance(old, bool):
        raise _other_type(old, given, subject)
    if isinstance(old, float) and isinstance(given, (int, float)):
        return float(given)
    if isinstance(old, int) and isinstance(given, float) and key in _NOT_NEGATIVE - _COUNTS:
        return given  # LBFGS's lr is 1 and RMSprop's momentum 0 until somebody writes a fraction
    if isinstance(old, (tuple, list)) and isinstance(given, (tuple, list)):
        return _sequence_like(old, given, key, subject)
    if isinstance(old, (bool, int, str)) and isinstance(given, kind):
        return given
    raise _other_type(old, given, subject)


def _sequence_like(old: Any, given: Any, key: str, subject: str) -> Any:
    if old and len(old) != len(given):
        raise Refused(
            f"{subject}: it has {len(old)} numbers and {len(given)} are given",
            hint="--change-type takes any value",
        )
    patterns = old or given
    made = [_like(a, b, key, subject) for a, b in zip(patterns, given, strict=True)]
    return tuple(made) if isinstance(old, tuple) else made


def _other_type(old: Any, given: Any, subject: str) -> Refused:
    what = "null" if given is None else f"{_a(given)} ({_shown(given)})"
    return Refused(
        f"{subject} holds {_a(old)} ({_shown(old)}), not {what}",
        hint="--change-type takes any value",
    )


def _a(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _may_be_null(key: str) -> bool:
    """Whether some torch optimizer has null for this hyperparameter."""
    histories = (optimizer.keys.get(key) for optimizer in catalogue().torch.values())
    return any(default is None for h in histories if h for _, default in h.defaults)


def _check_range(key: str, value: Any, subject: str) -> None:
    numbers = value if isinstance(value, (tuple, list)) else [value]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        low = key in _NOT_NEGATIVE and not (number >= 0 and math.isfinite(number))
        if low or (key in _FRACTIONS and not 0 <= number < 1):
            allowed = "at least 0 and finite" if low else "at least 0 and less than 1"
            raise Refused(f"{subject}: {number!r} is no {key}; torch asks for {allowed}")


def _scalar_like(old: TensorValue, given: Any, subject: str) -> TensorValue:
    if math.prod(old.shape) != 1:
        raise Refused(f"{subject} is a tensor of shape {list(old.shape)}, not one number")
    number = fitting(given, old.dtype, subject)
    array = np.full(old.shape, number, dtype=dtypes.numpy_dtype(old.dtype))
    return TensorValue(old.dtype, old.shape, array)


def fitting(given: Any, dtype: str, subject: str) -> float:
    """Return a number that a dtype can hold.

    Raises:
        Refused: it is no number, or the dtype cannot hold it (rounding a fraction is no reason).
    """
    kind = dtypes.info(dtype).kind
    if not isinstance(given, (bool, int, float)):
        raise Refused(f"{subject} is a tensor of {dtype}, and {_shown(given)} is no number")
    if isinstance(given, bool) != (kind == "bool"):
        raise Refused(f"{subject} is a tensor of {dtype}, not {_a(given)} ({_shown(given)})")
    if kind not in ("float", "int", "uint", "bool"):
        raise Refused(f"{subject} is a tensor of {dtype}, which no plain number makes")
    held = _held(given, dtype)
    wrong = math.isfinite(given) and not math.isfinite(held)
    if wrong or (kind in ("int", "uint") and held != given):
        raise Refused(f"{subject}: {dtype} cannot hold {_shown(given)}")
    return float(given) if kind == "float" else given


def _held(given: float, dtype: str) -> float:
    """What becomes of a number in a dtype; NaN where it does not fit at all."""
    wanted = dtypes.numpy_dtype(dtype)
    if wanted.kind in "iu":
        low, high = np.iinfo(wanted).min, np.iinfo(wanted).max
        return int(given) if math.isfinite(given) and low <= given <= high else math.nan
    with np.errstate(all="ignore"):
        return float(np.asarray(float(given)).astype(wanted).astype(np.float64))
