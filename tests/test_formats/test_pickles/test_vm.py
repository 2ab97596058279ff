"""The pickle machine against Python's own, on values; what it refuses is in tests/hostile."""

from __future__ import annotations

import collections
import math
import pickle
import pickletools
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcpctl.errors import LimitExceeded, MalformedPickle, UnsafePickle
from dcpctl.formats.pickles import object_ops, policy, vm
from dcpctl.formats.pickles.standins import Opaque, Record, Size

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
BOUNDED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

_integers = st.integers(-(1 << 510), 1 << 510)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    _integers,
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
)
_small = st.integers(-(1 << 63), 1 << 63)
_keys = st.one_of(
    st.text(max_size=8),
    _small,
    st.booleans(),
    st.none(),
    st.binary(max_size=4),
    st.tuples(st.text(max_size=3), _small),
)
_leaves = st.one_of(
    _scalars,
    st.complex_numbers(allow_nan=False),
    st.binary(max_size=20).map(bytearray),
    st.sets(_keys, max_size=5),
    st.frozensets(_keys, max_size=5),
)
values = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.lists(inner, max_size=6).map(tuple),
        st.dictionaries(_keys, inner, max_size=6),
        st.dictionaries(_keys, inner, max_size=4).map(collections.OrderedDict),
    ),
    max_leaves=25,
)


def load(data: bytes) -> Any:
    return vm.load(data, policy.VALUES, subject="test")


def same(a: Any, b: Any) -> bool:
    """Equal, and of equal types all the way down; -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(x, y) and same(a[x], b[y]) for x, y in zip(a, b, strict=True)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and a == b
    return bool(a == b)


@BOUNDED
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_values_are_what_the_c_pickler_wrote(value: Any, protocol: int) -> None:
    assert same(load(pickle.dumps(value, protocol)), value)


@BOUNDED
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_values_are_what_the_python_pickler_wrote(value: Any, protocol: int) -> None:
    assert same(load(pickle._dumps(value, protocol)), value)


@BOUNDED
@given(value=values, protocol=st.sampled_from((4, 5)))
def test_values_survive_the_optimizer_of_pickletools(value: Any, protocol: int) -> None:
    assert same(load(pickletools.optimize(pickle.dumps(value, protocol))), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        *(0, 255, 256, 65535, 65536, -1, (1 << 31) - 1, 1 << 31, -(1 << 31), -(1 << 31) - 1),
        *(1 << 63, -(1 << 63), (1 << 503) - 1, math.inf, -math.inf, 5e-324, -0.0),
        *("", "\0", "\n\r\\u0041", "\x80\xff", "\ud800", "😀", "'", '"', "a" * 70_000),
        *(b"", b"\0\xff", b"x" * 70_000, bytearray(), bytearray(b"\x80"), 1 + 2j),
        *(set(), frozenset(), {(1, "a"), (2, "b")}, frozenset({b"", None})),
        *(list(range(2500)), {n: str(n) for n in range(2500)}, tuple(range(40)), [[]] * 3),
        *({"a": {"b": {"c": ()}}}, [True, False, None], set(range(2500))),
    ],
    ids=lambda value: type(value).__name__,  # a set's repr differs from process to process
)
def test_edges(value: Any, protocol: int) -> None:
    assert same(load(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_nan(protocol: int) -> None:
    assert math.isnan(load(pickle.dumps(math.nan, protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_values_stay_shared(protocol: int) -> None:
    inner: list[Any] = []
    first, second, (third,) = load(pickle.dumps([inner, inner, (inner,)], protocol))
    assert first is second is third


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_in_themselves(protocol: int) -> None:
    value: list[Any] = []
    value.append((value, {"again": value}))
    found = load(pickle.dumps(value, protocol))
    assert found[0][0] is found
    assert found[0][1]["again"] is found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_unknown_classes_are_named(protocol: int) -> None:
    import email.charset
    import ipaddress

    made = [email.charset.Charset(), ipaddress.IPv4Address(5)]
    found = load(pickle.dumps(made, protocol))
    assert [type(part) for part in found] == [Opaque, Opaque]
    assert [part.type for part in found] == ["email.charset.Charset", "ipaddress.IPv4Address"]
    assert load(pickle.dumps(collections.defaultdict(int, a=1), protocol)) == {"a": 1}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_containers_of_the_standard_library_are_values(protocol: int) -> None:
    made = [collections.Counter("aab"), collections.deque([1, 2], 5)]
    assert load(pickle.dumps(made, protocol)) == made


def test_every_opcode_is_known_or_refused() -> None:
    refused = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
    for opcode in pickletools.opcodes:
        known = vm._TABLE[ord(opcode.code)] is not object_ops.unknown
        assert known is (opcode.name not in refused), opcode.name


def test_no_module_is_imported() -> None:
    name = "this_module_does_not_exist_either"
    load(b"\x80\x02c" + name.encode() + b"\nf\n.")
    load(b"\x80\x02cantigravity\nf\n.")
    assert name not in sys.modules
    assert "antigravity" not in sys.modules


def test_a_known_record_keeps_its_state() -> None:
    record = b"\x80\x02ctorch.distributed.checkpoint.metadata\nStorageMeta\n)\x81"
    stream = record + b"}X\x01\x00\x00\x00aK\x01sb."
    found = vm.load(stream, policy.METADATA, subject="test")
    assert isinstance(found, Record)
    assert (found.name, found.fields) == ("StorageMeta", {"a": 1})


def test_slots_state_is_the_second_of_two() -> None:
    """Of the classes in `.metadata` none has slots."""
    record = b"\x80\x02ctorch.distributed.checkpoint.metadata\nStorageMeta\n)\x81"
    stream = record + b"N}X\x01\x00\x00\x00aK\x01s\x86b."
    assert load(stream).fields == {"a": 1}
    with pytest.raises(MalformedPickle, match="is a tuple"):
        vm.load(stream, policy.METADATA, subject="test")


def test_size_is_a_tuple_of_its_own() -> None:
    found = load(b"\x80\x02ctorch\nSize\nK\x02K\x03\x86\x85R.")
    assert type(found) is Size
    assert found == (2, 3)


def test_known_classes_are_refused_in_metadata_if_they_are_not_its_own() -> None:
    with pytest.raises(UnsafePickle, match=r"decimal\.Decimal"):
        vm.load(b"\x80\x02cdecimal\nDecimal\n.", policy.METADATA, subject=".metadata")


def test_the_message_says_what_and_where() -> None:
    with pytest.raises(MalformedPickle, match=r"'x': malformed pickle at byte 3: .* too little"):
        vm.load(b"\x80\x02\x85.", policy.VALUES, subject="'x'")


@pytest.mark.parametrize("length", range(1, 60))
def test_a_cut_stream_is_malformed(length: int) -> None:
    data = pickle.dumps({"a": [1, 2.5, "text", b"bytes"], "b": (None, True, 1 << 80)}, 4)
    if length < len(data):
        with pytest.raises(MalformedPickle):
            load(data[:length])


class TestCheckStart:
    """The beginning of a long stream."""

    def test_any_beginning_of_a_good_stream_is_good(self) -> None:
        data = pickle.dumps([{"a": [1, 2.5, "text" * 30], "b": (None, 1 << 80)}] * 40, 4)
        for length in range(len(data)):
            vm.check_start(data[:length], policy.METADATA, subject="test")

    def test_rubbish_is_refused(self) -> None:
        with pytest.raises(MalformedPickle):
            vm.check_start(b"\x80\x04" + bytes(100), policy.METADATA, subject="test")

    def test_an_unknown_global_is_refused(self) -> None:
        with pytest.raises(UnsafePickle):
            vm.check_start(b"\x80\x04cos\nsystem\nX\xff", policy.METADATA, subject="test")

    def test_a_huge_operand_is_refused(self) -> None:
        with pytest.raises(LimitExceeded):
            vm.check_start(b"\x80\x04X\xff\xff\xff\xff", policy.METADATA, subject="test")
