"""Values of the standard library: read to themselves, written so that Python reads them again."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import fractions
import http
import itertools
import logging
import pathlib
import pickle
import random
import re
import signal
import sys
import types
import uuid
import zoneinfo
from typing import Any

import pytest

from dcpctl.errors import MalformedPickle
from dcpctl.formats.pickles import policy, vm
from dcpctl.formats.pickles.emit import dumps
from dcpctl.formats.pickles.standins import Opaque, PlainValue, Record
from dcpctl.model.values import to_json, type_name
from dcpctl.reports import values_text

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
EASTERN = datetime.timezone(datetime.timedelta(hours=-5), "EST")

MADE = [
    slice(1, None, 3),
    range(3, 9, 2),
    ...,
    NotImplemented,
    datetime.timedelta(3, 4, 5),
    datetime.date(2026, 2, 3),
    datetime.time(4, 5),
    datetime.datetime(2026, 1, 2, 3, 4),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.datetime(2026, 1, 2, tzinfo=EASTERN),
    decimal.Decimal("1.50"),
    decimal.Decimal("NaN"),
    fractions.Fraction(-1, 3),
    uuid.UUID(int=7),
    collections.deque([1, [2]], 5),
    collections.deque(),
    collections.Counter("abca"),
]


def load(value: Any, protocol: int = 2) -> Any:
    return vm.load(pickle.dumps(value, protocol), policy.VALUES, subject="'x'")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_are_themselves(protocol: int) -> None:
    for value in MADE:
        found = load(value, protocol)
        assert (type(found), repr(found)) == (type(value), repr(value))
        assert type_name(found) == f"{type(value).__module__}.{type(value).__qualname__}"


def test_values_are_written_again() -> None:
    for value in MADE:
        again = pickle.loads(dumps(load(value)))
        assert (type(again), repr(again)) == (type(value), repr(value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pathlib.PurePosixPath("/data/x"), "PurePosixPath('/data/x')"),
        (pathlib.PurePosixPath("x/y"), "PurePosixPath('x/y')"),
        (pathlib.PurePosixPath(), "PurePosixPath('.')"),
        (pathlib.PureWindowsPath("C:/a/b"), "PureWindowsPath('C:/a/b')"),
        (http.HTTPStatus.OK, "HTTPStatus(200)"),
        pytest.param(
            signal.SIGTERM,
            "Signals(15)",
            marks=pytest.mark.skipif(
                sys.version_info < (3, 11), reason="pickled as the name of a module's constant"
            ),
        ),
    ],
)
def test_plain_values(value: Any, text: str) -> None:
    found = load(value)
    assert isinstance(found, PlainValue)
    assert (found.text, values_text.short(found), values_text.whole(found)) == (text, text, text)
    assert to_json(found) == {"__repr__": text, "__type__": found.type}
    assert pickle.loads(dumps(found)) == value
    assert load(value) == found


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_namespaces_show_what_they_hold(protocol: int) -> None:
    for made in (argparse.Namespace(lr=0.1, p=slice(2)), types.SimpleNamespace(lr=0.1, p=slice(2))):
        found = load(made, protocol)
        assert isinstance(found, Record)
        assert values_text.short(found).endswith("Namespace(lr=0.1, p=slice(None, 2, None))")
        assert to_json(found)["lr"] == 0.1
        assert pickle.loads(dumps(found)) == made


@pytest.mark.filterwarnings("ignore:Pickle, copy, and deepcopy:DeprecationWarning")  # itertools
def test_no_more_than_the_name_is_known_of_generators_and_loggers() -> None:
    for value in (random.Random(3), itertools.count(3), logging.getLogger("x"), re.compile("x")):
        assert isinstance(load(value), Opaque)


def test_a_zone_by_its_name_is_not_looked_up() -> None:
    zone = zoneinfo.ZoneInfo("UTC")
    assert repr(load(zone)) == "ZoneInfo(key='UTC')"
    assert "ZoneInfo(key='UTC')" in repr(load(datetime.datetime(2026, 1, 2, tzinfo=zone)))


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cfractions\nFraction\n(X\x0c\x00\x00\x001e1000000000tR.",  # 10 ** 1e9
        b"cfractions\nFraction\n(K\x01K\x00tR.",
        b"cdecimal\nDecimal\n(X\x03\x00\x00\x00abctR.",
        b"cdatetime\ntimedelta\n(\x8a\x06\xff\xff\xff\xff\xff\x7ftR.",
        b"c__builtin__\nxrange\n(X\x01\x00\x00\x001tR.",
        b"c__builtin__\nslice\n(]tR.",
        b"cpathlib\nPosixPath\n(K\x01tR.",
        b"cuuid\nUUID\n)\x81}X\x03\x00\x00\x00intX\x01\x00\x00\x001sb.",
        b"ccollections\ndeque\n(K\x05tR.",
        b"chttp\nHTTPStatus\n(]tR.",
    ],
)
def test_arguments_that_no_writer_gives(opcodes: bytes) -> None:
    with pytest.raises(MalformedPickle):
        vm.load(b"\x80\x02" + opcodes, policy.VALUES, subject="'x'")
