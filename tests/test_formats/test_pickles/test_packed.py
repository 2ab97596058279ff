"""Tensors of a subclass and packed ones: told by the structure of their pickles."""

from __future__ import annotations

import pytest

from dcpctl.errors import InputError, MalformedItem, PackedItem
from dcpctl.formats.pickles.packed import (
    inner_tensors,
    logical_bytes,
    packed_bytes,
)
from dcpctl.formats.pickles.standins import PackedTensor, TensorRef
from dcpctl.formats.torch_zip import TorchItem
from tests.hostile.opcodes import name
from tests.test_formats.archives import item_of
from tests.test_formats.wrappers import _global, plain, text, wrapper, wrapper_zip


def item(pickle: bytes, *storages: int) -> TorchItem:
    """An item of this pickle, whose storages are so many zero bytes."""
    return item_of(wrapper_zip(pickle, *(bytes(size) for size in storages)).build())


CODES = plain((4, 8), "0", "ByteStorage")
SCALE = plain((2,), "1", "FloatStorage")


def test_a_wrapper_has_its_class_shape_and_inner_tensors() -> None:
    held = item(wrapper("any.where.Packed", (4, 8), codes=CODES, scale=SCALE), 32, 8).held()
    assert isinstance(held, PackedTensor)
    assert (held.type, held.name, held.form) == ("any.where.Packed", "Packed", "")
    assert (held.dtype, held.shape) == ("float32", (4, 8))
    inner = inner_tensors(held)
    assert {name: (ref.dtype, ref.shape) for name, ref in inner.items()} == {
        "codes": ("uint8", (4, 8)),
        "scale": ("float32", (2,)),
    }
    assert (packed_bytes(held), logical_bytes(held)) == (40, 128)


def test_wrappers_in_wrappers() -> None:
    part = wrapper("any.Part", (4, 8), codes=CODES)[2:-1]
    held = item(wrapper("any.Outer", (4, 8), part=part, scale=SCALE), 32, 8).held()
    assert isinstance(held, PackedTensor)
    assert list(inner_tensors(held)) == ["part.codes", "scale"]


def test_it_is_not_read_as_numbers() -> None:
    with pytest.raises(PackedItem, match=r"a tensor of the class 'any.Packed', whose numbers"):
        item(wrapper("any.Packed", (4, 8), codes=CODES, scale=SCALE), 32, 8).tensor()


def test_an_inner_tensor_that_does_not_fit_is_damage() -> None:
    with pytest.raises(MalformedItem, match=r"float32\[2\] needs|its storage 8"):
        item(wrapper("any.Packed", (4, 8), codes=CODES, scale=SCALE), 32, 4).held()


def test_a_class_that_pickles_itself_in_its_own_way() -> None:
    called = b"\x80\x02cmy.own\nrebuild\n(" + CODES + b"tR."
    held = item(called, 32).held()
    assert isinstance(held, PackedTensor)
    assert (held.type, held.shape, held.dtype) == ("my.own.rebuild", None, "")
    assert len(inner_tensors(held)) == 1


def test_attributes_make_no_subclass() -> None:
    found = item(wrapper("torch.Tensor", None, CODES, note=b"K\x01"), 32).held()
    assert isinstance(found, TensorRef)
    assert found.shape == (4, 8)
    held = item(wrapper("my.own.Image", None, CODES), 32).held()
    assert isinstance(held, PackedTensor)
    assert (held.type, held.dtype, held.shape) == ("my.own.Image", "uint8", (4, 8))


@pytest.mark.parametrize(
    "function",
    ["torch._tensor:_rebuild_from_type_v2", "numpy.random._pickle:__generator_ctor"],
)
def test_a_tensor_is_made_by_what_makes_tensors(function: str) -> None:
    """Neither by itself, thousands of levels deep, nor by what calls its arguments."""
    inner = name(function) + name("my.own:T") + b"(" + name("my.own:run") + b"t}t"
    opcodes = inner
    for _ in range(3000):
        opcodes = name(function) + name("my.own:T") + b"(" + opcodes + b"}t"
    called = name("torch._tensor:_rebuild_from_type_v2") + b"(" + opcodes + b"R."
    with pytest.raises(InputError):
        item(b"\x80\x04" + called, 4).held()


def test_parts_that_hold_themselves_are_not_followed_for_ever() -> None:
    loop = b"}q\x00(" + b"".join(b"K%ch\x00" % key for key in range(200)) + b"u"
    held = item(wrapper("any.Packed", (4, 8), loop=loop, codes=CODES), 32).held()
    assert isinstance(held, PackedTensor)
    assert len(inner_tensors(held)) <= 1


@pytest.mark.filterwarnings("ignore")  # torch calls some of them deprecated or experimental
def test_what_torch_itself_packs(torch: object) -> None:
    import io

    import torch as t

    made = {
        "quantized": t.quantize_per_tensor(t.ones(3), 0.1, 0, t.qint8),
        "sparse_coo": t.eye(3).to_sparse(),
        "sparse_csr": t.eye(3).to_sparse_csr(),
        "nested": t.nested.nested_tensor([t.ones(2), t.ones(3)]),
        "meta": t.empty(3, device="meta"),
    }
    for form, tensor in made.items():
        out = io.BytesIO()
        t.save(tensor, out)
        held = item_of(out.getvalue()).held()
        assert isinstance(held, PackedTensor)
        assert (held.form, held.type) == (form, "torch.Tensor")
        assert bool(inner_tensors(held)) is (form != "meta")
        if form == "quantized":
            larger = out.getvalue().replace(b"K\x03\x85", b"K\x04\x85")
            with pytest.raises(InputError, match="larger than its storage"):
                item_of(larger).held()
            with pytest.raises(RuntimeError):
                t.load(io.BytesIO(larger), weights_only=True)
    out = io.BytesIO()
    jagged = t.nested.nested_tensor([t.ones(2, 3), t.ones(3, 3)], layout=t.jagged)
    t.save(jagged, out)
    held = item_of(out.getvalue()).held()
    assert isinstance(held, PackedTensor)
    assert held.type == "torch.nested._internal.nested_tensor.NestedTensor"
    assert (held.dtype, held.shape) == ("float32", None)
    assert list(inner_tensors(held))[:2] == ["values", "offsets"]


def test_a_sparse_tensor_has_a_layout_and_not_its_name() -> None:
    """torch looks the layout up among its own and knows no text there."""
    layout = _global("torch.serialization._get_layout") + b"(" + text("torch.sparse_coo") + b"tR"
    parts = b"(" + plain((1, 3), "0", "LongStorage") + plain((3,), "1", "FloatStorage")
    call = _global("torch._utils._rebuild_sparse_tensor") + b"("
    size = b"ctorch\nSize\n((K\x05ttR\x89"
    for first, fine in ((layout, True), (text("sparse_coo"), False)):
        pickle = b"\x80\x02" + call + first + parts + size + b"ttR."
        if fine:
            held = item(pickle, 24, 12).held()
            assert isinstance(held, PackedTensor)
            assert (held.form, held.shape) == ("sparse_coo", (5,))
        else:
            with pytest.raises(InputError, match="a sparse tensor without"):
                item(pickle, 24, 12).held()
