"""Passive values that take the place of torch's and others' objects in a decoded pickle.

None of them has behaviour: they are what a pickle said, with the name of the class that it said
it about. `Global` is the only one that the virtual machine calls, and only through the functions
in `policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: Longest argument that is shown beside the name of an unknown class.
_MOST_SHOWN = 40


class Size(tuple[int, ...]):
    """`torch.Size`: the shape of a tensor."""

    __slots__ = ()


class Layout(str):
    """`torch.layout` by its name without `torch.`, such as `strided`."""

    __slots__ = ()


class MemoryFormat(int):
    """DCP's number of a memory format: 0 contiguous, 1 channels_last, 2 preserve."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class DType:
    """`torch.dtype`.

    Attributes:
        name: torch's name without `torch.`, such as `float32`.
    """

    name: str

    def __repr__(self) -> str:
        return f"torch.{self.name}"


class PathText(str):
    """A `pathlib` path as text: what is a path to torch is no FQN and no file name of DCP's."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Device:
    """`torch.device`.

    Attributes:
        name: `cpu`, `cuda:0` and so on.
    """

    name: str

    def __repr__(self) -> str:
        kind, _, index = self.name.partition(":")
        return f"device(type={kind!r}, index={index})" if index else f"device(type={kind!r})"


@dataclass(frozen=True, slots=True)
class StorageType:
    """A storage class in a tensor's persistent id, such as `torch.FloatStorage`.

    Attributes:
        name: the class name without its module, `FloatStorage` or `UntypedStorage`.
    """

    name: str


@dataclass(slots=True, eq=False)
class Record:
    """An instance of a class whose shape is known: its name and its pickled state.

    Attributes:
        type: `module.Class` as the pickle has it.
        fields: the pickled `__dict__`; a state that was a tuple stands under `__state__`.
        args: what the class was constructed with, where it was.
        built: its state is set; a pickler sets it once.
    """

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    built: bool = False

    def __repr__(self) -> str:
        # What it holds may be shared, and written out without end.
        return f"<{self.type}>"

    @property
    def name(self) -> str:
        """The class name without its module."""
        return self.type.rpartition(".")[2]


@dataclass(slots=True, eq=False)
class Opaque:
    """An object of a class that dcpctl does not know; never constructed, only named.

    Attributes:
        type: `module.Class` as the pickle has it.
        args: what the class or function was called with.
        state: what was set on it afterwards; None if nothing was.
    """

    type: str
    args: tuple[Any, ...] = ()
    state: Any = None

    def __repr__(self) -> str:
        # An enum member is pickled as its class and its value.
        if len(self.args) == 1 and self.state is None and type(self.args[0]) in (int, str, bool):
            text = repr(self.args[0])
            if len(text) <= _MOST_SHOWN and text.isprintable():
                return f"<{self.type} {text}>"
        return f"<{self.type}>"


@dataclass(frozen=True, slots=True)
class PlainValue:
    """A value of a class that executes nothing and that Python cannot or need not make here.

    Attributes:
        type: `module.Class` as the pickle has it, such as `pathlib.PosixPath`.
        args: what the class is called with.
        text: what its `repr` would be.
    """

    type: str
    args: tuple[Any, ...]
    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor as its pickle describes it; the numbers lie in another record.

    Attributes:
        dtype: torch's name without `torch.`.
        shape: elements per dimension.
        stride: elements between neighbours per dimension.
        storage_offset: elements from the start of the storage to the first element.
        key: name of the storage record inside the archive (`0` for `archive/data/0`).
        storage_numel: elements of `storage_dtype` in the storage.
        storage_dtype: dtype of the storage class, `uint8` for `UntypedStorage`.
        device: where the tensor was when it was saved.
        requires_grad: as saved.
        conj: the conjugate bit; the stored numbers are not conjugated yet.
        neg: the negative bit; the stored numbers are not negated yet.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    storage_offset: int
    key: str
    storage_numel: int
    storage_dtype: str
    device: str = "cpu"
    requires_grad: bool = False
    conj: bool = False
    neg: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class PackedTensor:
    """A tensor whose numbers are not laid out as its dtype and shape say: a subclass, or packed.

    Attributes:
        type: its class, `module.Class` as the pickle has it.
        form: what it is where its class is `torch.Tensor`, such as `quantized`; else empty.
        dtype: torch's name of the dtype that it shows; empty where the pickle does not say.
        shape: the shape that it shows; None where the pickle does not say.
        parts: the arguments and state that it is rebuilt from; the tensors in it are somewhere
            in them.
    """

    type: str
    form: str
    dtype: str
    shape: tuple[int, ...] | None
    parts: tuple[Any, ...]

    @property
    def name(self) -> str:
        """What to call it: its class without the module, or its form."""
        return f"{self.form} tensor" if self.form else self.type.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class StorageRef(TensorRef):
    """A storage by its persistent id, on which tensors are rebuilt: all of it, as one dimension.

    Attributes:
        storage_class: `FloatStorage`, `UntypedStorage` and so on.
    """

    storage_class: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Global:
    """A class or function that a pickle refers to.

    Attributes:
        path: `module.name`.
        call: what REDUCE does with it: argument tuple to passive value; None refuses the call.
        record: NEWOBJ makes a `Record` of it.
        hashes: the members of the list that it is called with become keys.
        opaque: unknown; every object made from it is an `Opaque`.
        columnar: `chunk`, `index` or `storage` for the classes that stand in `.metadata` by the
            million and are decoded in blocks; else empty.
    """

    path: str
    call: Callable[[tuple[Any, ...]], Any] | None = None
    record: bool = False
    hashes: bool = False
    opaque: bool = False
    columnar: str = ""
