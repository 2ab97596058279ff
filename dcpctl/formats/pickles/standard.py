"""Values of Python's standard library that execute nothing: what their pickles make.

Those whose class does no more than hold numbers and text are made: `timedelta`, `Decimal`, `slice`.
Where the class depends on the machine (paths) or does more than that, a `PlainValue` says what it
is. Each function takes the arguments of a REDUCE or NEWOBJ, bounded so that none of them takes
longer than its arguments are long.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import re
import uuid
from collections.abc import Callable
from typing import Any

from dcpctl.formats.pickles.standins import Opaque, PlainValue, Record

Args = tuple[Any, ...]

#: Digits of a number that is read from text; Python 3.11 refuses more than 4300.
_MOST_DIGITS = 4000
_FRACTION = re.compile(r"(-?\d+)/(\d+)")
#: Modules of path classes: Python 3.13 writes the second.
_PATH_MODULES = ("pathlib", "pathlib._local")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath")
#: Enums that are pickled as their class and a member's value.
_ENUMS = (
    "http.HTTPStatus",
    "http.HTTPMethod",
    "signal.Signals",
    "signal.Handlers",
    "uuid.SafeUUID",
    "re.RegexFlag",
    "inspect._ParameterKind",
    "socket.AddressFamily",
    "socket.SocketKind",
)
#: Classes that are rebuilt from their `__dict__`.
RECORDS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    "uuid.UUID",
    "collections.ChainMap",
    "collections.UserDict",
    "collections.UserList",
    "collections.UserString",
)
#: Objects that are named only: to make one executes nothing, and its numbers mean nothing here.
OPAQUE = (
    "builtins.object",
    "random.Random",
    "re._compile",
    "array._array_reconstructor",
    "itertools.count",
    "logging.Logger",
    "logging.getLogger",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random._pcg64.PCG64",
    "numpy.random._pcg64.PCG64DXSM",
    "numpy.random._philox.Philox",
    "numpy.random._sfc64.SFC64",
    "numpy.random.bit_generator.SeedSequence",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
)


def _integers(args: Args, most: int) -> None:
    if len(args) > most or not all(type(arg) in (int, bool) for arg in args):
        raise ValueError("other than integers")


def make_path(path: str) -> Callable[[Args], PlainValue]:
    """A `pathlib` path: its parts joined, with slashes on Windows too, as Python shows it."""
    windows = "Windows" in path

    def make(args: Args) -> PlainValue:
        if not all(isinstance(part, str) for part in args):
            raise ValueError("a path of other than strings")
        first, *rest = [part.replace("\\", "/") if windows else part for part in args] or ["."]
        joined = "/".join(rest)
        text = f"{first}{joined}" if first.endswith("/") else "/".join((first, *rest))
        return PlainValue(path, args, f"{path.rpartition('.')[2]}({text!r})")

    return make


def make_enum(path: str) -> Callable[[Args], PlainValue]:
    """A member of an enum by its value."""

    def make(args: Args) -> PlainValue:
        (value,) = args
        if type(value) not in (int, str, bool):
            raise ValueError("an enum value that is neither number nor text")
        return PlainValue(path, args, f"{path.rpartition('.')[2]}({value!r})")

    return make


def version(args: Args) -> PlainValue:
    """`torch.torch_version.TorchVersion`: a string."""
    (text,) = args
    if not isinstance(text, str):
        raise ValueError("a version that is no string")
    return PlainValue("torch.torch_version.TorchVersion", args, repr(text))


def make_slice(args: Args) -> slice:
    """`slice` of numbers and None."""
    if not all(part is None or type(part) in (int, float, str) for part in args):
        raise ValueError("a slice of other than numbers")
    return slice(*args)


def make_range(args: Args) -> range:
    """`range` of integers."""
    _integers(args, 3)
    return range(*args)


def make_date(kind: type[datetime.date]) -> Callable[[Args], Any]:
    """`date` of 4 bytes, `datetime` of 10 and perhaps a timezone."""
    plain = kind is datetime.date

    def make(args: Args) -> Any:
        raw = args[0] if args else None
        if not isinstance(raw, bytes) or len(raw) != (4 if plain else 10):
            _integers(args, 3 if plain else 7)
            return kind(*args)
        zone = args[1] if len(args) > 1 else None
        if zone is not None and not isinstance(zone, datetime.timezone):
            # A zone by its name is looked up in files; the time is named without it.
            text = f"{kind(raw)!r} in the time zone {zone!r}"  # type: ignore[arg-type,call-arg]
            return PlainValue(f"datetime.{kind.__name__}", args, text)
        return kind(*args)

    return make


def make_time(args: Args) -> Any:
    """`time` of 6 bytes."""
    (raw,) = args
    if not isinstance(raw, bytes) or len(raw) != 6:
        raise ValueError("a time of other than 6 bytes")
    return datetime.time(raw)  # type: ignore[arg-type]


def timedelta(args: Args) -> datetime.timedelta:
    """`timedelta` of days, seconds and microseconds."""
    _integers(args, 3)
    return datetime.timedelta(*args)


def timezone(args: Args) -> datetime.timezone:
    """`timezone` of an offset and perhaps a name."""
    offset, *name = args
    if not isinstance(offset, datetime.timedelta) or not all(type(n) is str for n in name):
        raise ValueError("a time zone of other than an offset")
    return datetime.timezone(offset, *name)


def zone_info(args: Args) -> PlainValue:
    """`zoneinfo.ZoneInfo._unpickle`: the name of a zone, which is looked up in files."""
    key = args[0]
    if not isinstance(key, str) or len(key) > 64:
        raise ValueError("a time zone of no name")
    return PlainValue("zoneinfo.ZoneInfo", args, f"ZoneInfo(key={key!r})")


def make_decimal(args: Args) -> decimal.Decimal:
    """`Decimal` of its text."""
    (text,) = args
    if not isinstance(text, str) or len(text) > _MOST_DIGITS:
        raise ValueError("a decimal number of no text")
    try:
        return decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError("a decimal number of rubbish") from None


def fraction(args: Args) -> fractions.Fraction:
    """`Fraction` of its text (up to Python 3.11) or of two numbers."""
    if len(args) == 1 and isinstance(args[0], str) and len(args[0]) <= _MOST_DIGITS:
        found = _FRACTION.fullmatch(args[0])
        args = tuple(int(part) for part in found.groups()) if found else (int(args[0]), 1)
    _integers(args, 2)
    if len(args) == 2 and args[1] == 0:
        raise ValueError("a fraction of zero")
    return fractions.Fraction(*args)


def deque(args: Args) -> collections.deque[Any]:
    """`collections.deque`, empty or of a list, perhaps of a greatest length."""
    items = args[0] if args else ()
    most = args[1] if len(args) > 1 else None
    if not isinstance(items, (list, tuple)) or not (most is None or type(most) is int):
        raise ValueError("a deque of other than a list")
    return collections.deque(items, most)


def counter(args: Args) -> collections.Counter[Any]:
    """`collections.Counter`, empty or of a dict."""
    made: collections.Counter[Any] = collections.Counter()
    if args:
        if not isinstance(args[0], dict):
            raise ValueError("a counter of other than a dict")
        dict.update(made, args[0])
    return made


def finished_uuid(record: Record) -> uuid.UUID:
    """A `uuid.UUID` from its state, `{"int": ...}`."""
    number = record.fields.get("int")
    if type(number) is not int or not 0 <= number < 1 << 128:
        raise ValueError("a UUID of other than 128 bits")
    return uuid.UUID(int=number)


def iterator(args: Args) -> Opaque:
    """`iter` of a list, a string or a dict; of a callable it would call that."""
    if len(args) != 1 or not isinstance(args[0], (list, tuple, str, bytes, dict, range)):
        raise ValueError("an iterator over other than a list")
    return Opaque("builtins.iter", args)


def array(args: Args) -> Opaque:
    """`array.array` of a list."""
    if not all(isinstance(part, (str, list, bytes)) for part in args):
        raise ValueError("an array of other than a list")
    return Opaque("array.array", args)


def named(path: str) -> Callable[[Args], Opaque]:
    """An object of which no more than its class is known."""
    return lambda args: Opaque(path, args)


def record(path: str) -> Callable[[Args], Record]:
    """An object whose `__dict__` is set afterwards."""
    return lambda args: Record(path, {}, args)


def calls() -> dict[str, Callable[[Args], Any]]:
    """Every class that is called, by `module.name`."""
    made: dict[str, Callable[[Args], Any]] = {
        "builtins.slice": make_slice,
        "builtins.range": make_range,
        "datetime.date": make_date(datetime.date),
        "datetime.datetime": make_date(datetime.datetime),
        "datetime.time": make_time,
        "datetime.timedelta": timedelta,
        "datetime.timezone": timezone,
        "zoneinfo.ZoneInfo._unpickle": zone_info,
        "decimal.Decimal": make_decimal,
        "fractions.Fraction": fraction,
        "collections.deque": deque,
        "collections.Counter": counter,
        "torch.torch_version.TorchVersion": version,
    }
    made |= {path: make_enum(path) for path in _ENUMS}
    made |= {path: named(path) for path in OPAQUE}
    made |= {"builtins.iter": iterator, "array.array": array}
    made |= {path: record(path) for path in RECORDS}
    for module in _PATH_MODULES:
        made |= {f"{module}.{name}": make_path(f"{module}.{name}") for name in _PATHS}
    return made


#: Names that stand for one value each.
CONSTANTS: dict[str, Any] = {
    "builtins.Ellipsis": Ellipsis,
    "builtins.NotImplemented": NotImplemented,
    "datetime.timezone.utc": datetime.timezone.utc,
}
#: The classes that the functions above make, for who lists what a value may be.
MADE: tuple[type, ...] = (
    slice,
    range,
    type(Ellipsis),
    type(NotImplemented),
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
)
