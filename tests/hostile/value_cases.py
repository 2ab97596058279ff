"""Bytes entries, which torch unpickles without restriction: code in many disguises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.hostile.draft import healthy, numbers, value_item
from tests.hostile.opcodes import call, name, text
from tests.hostile.registry import canary, case
from tests.test_formats.archives import Rec, Zip, tensor_opcodes

Opcodes = Callable[[Path], bytes]


def _step(directory: Path, opcodes: bytes, data: bytes | None = None) -> None:
    """Write a healthy draft whose bytes entry is the value of `opcodes`."""
    pickle = b"\x80\x02" + opcodes + b"."
    item = value_item(pickle)
    if data is not None:
        records = [Rec("data.pkl", pickle), Rec("byteorder", b"little"), Rec("data/0", data)]
        item = Zip([*records, Rec("version", b"3\n")]).build()
    draft = healthy()
    draft.replace_item("step", item)
    draft.write(directory)


def _runs(label: str, opcodes: Opcodes, data: bytes | None = None, reads: str = "") -> None:
    """Register opcodes that run code when torch loads them; `check` says so as an error."""

    def write(directory: Path) -> None:
        _step(directory, opcodes(directory), data)

    write.__name__ = f"code_by_{label}"
    case(reads=reads or (), finding="DCP305" if reads else "DCP110", runs=True)(write)


def _touch(directory: Path) -> bytes:
    """The shell command that makes the canary."""
    return text(f"touch {canary(directory)}")


def _expression(directory: Path) -> bytes:
    """The Python expression that does the same."""
    return text(f"__import__('os').system('touch {canary(directory)}')")


def hook(target: bytes, function: bytes, argument: bytes) -> bytes:
    """A BUILD that puts `function` where the next BUILD calls it with `argument`."""
    return target + b"}" + text("__setstate__") + function + b"sb" + argument + b"b"


BAD = "malformed-pickle"
TENSOR = tensor_opcodes((1,), numel=1)
REBUILD = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_v2\n"
#: The arguments of `_rebuild_tensor_v2` as a tuple.
ARGUMENTS = TENSOR[len(b"ctorch._utils\n_rebuild_tensor_v2\n") : -1]
SYSTEM = name("posix:system")
SYMPY = name("sympy.core.sympify:sympify")

_runs("a_class_of_sympy", lambda d: call("sympy:FiniteSet", _expression(d)))
_runs("a_new_object_of_sympy", lambda d: name("sympy:FiniteSet") + _expression(d) + b"\x85\x81")
_runs("sympify", lambda d: call("sympy:sympify", _expression(d)))
_runs("numexpr_of_pandas", lambda d: call("pandas:eval", _expression(d)))
_runs(
    "state_of_an_ordered_dict",
    lambda d: hook(
        call("collections:OrderedDict"), SYMPY, b"}" + text("a") + _expression(d) + b"s"
    ),
)
_runs(
    "state_of_a_counter",
    lambda d: hook(call("collections:Counter"), SYMPY, _expression(d)),
    reads=BAD,
)
_runs(
    "state_of_a_namespace",
    lambda d: hook(name("argparse:Namespace") + b")\x81", SYMPY, _expression(d)),
    reads=BAD,
)


def _hooked(label: str, kind: str) -> None:
    """Register a tensor of a class whose state brings a `__setstate__` of its own."""
    _runs(
        f"state_of_a_{label}",
        lambda d: (
            REBUILD
            + name(kind)
            + ARGUMENTS
            + b"}"
            + text("__setstate__")
            + SYMPY
            + b"stR"
            + _expression(d)
            + b"b"
        ),
        numbers(1),
        BAD,
    )


_hooked("tensor", "torch:Tensor")
_hooked("parameter", "torch.nn.parameter:Buffer")
_runs(
    "function_of_a_tensor",
    lambda d: (
        b"ctorch._tensor\n_rebuild_from_type_v2\n("
        + SYSTEM
        + name("builtins:int")
        + _touch(d)
        + b"\x85}tR"
    ),
)
_runs(
    "method_by_getattr",
    lambda d: (
        call("builtins:getattr", call("builtins:__import__", text("os")), text("system"))
        + _touch(d)
        + b"\x85R"
    ),
)
_runs(
    "partial",
    lambda d: call("functools:partial", SYSTEM, _touch(d)) + b")R",
)
_runs(
    "a_partial_that_is_made",
    lambda d: name("functools:partial") + SYMPY + _expression(d) + b"\x86\x81)R",
)
_runs("reduce", lambda d: call("functools:reduce", SYSTEM, b"]" + _touch(d) + b"a", b"N"))
_runs(
    "map",
    lambda d: call("builtins:list", call("builtins:map", SYSTEM, _touch(d) + b"\x85")),
    reads="unsafe-pickle",
)
_runs("exec", lambda d: call("builtins:exec", _expression(d)))
_runs("exec_as_python_2_wrote_it", lambda d: call("__builtin__:eval", _expression(d)))
_runs("commands_of_python_2", lambda d: call("commands:getoutput", _touch(d)))
_runs(
    "popen", lambda d: call("subprocess:Popen", b"](" + text("touch") + text(str(canary(d))) + b"e")
)
_runs("popen_made", lambda d: name("os:popen") + _touch(d) + b"\x85R")
_runs("a_file", lambda d: call("io:FileIO", text(str(canary(d))), text("w")))
_runs(
    "touch", lambda d: call("pathlib:Path.touch", call("pathlib:PosixPath", text(str(canary(d)))))
)
_runs("writing_text", lambda d: call("builtins:open", text(str(canary(d))), text("w")))
_runs("numpy_to_a_file", lambda d: call("numpy:savetxt", text(str(canary(d))), b"]K\x01a"))
_runs(
    "numpy_memmap",
    lambda d: call(
        "numpy:memmap", text(str(canary(d))), text("f4"), text("w+"), b"K\x00", b"K\x01\x85"
    ),
)
_runs(
    "a_store_of_torch",
    lambda d: call("torch.distributed:FileStore", text(str(canary(d))), b"K\x01"),
)
_runs("torch_save", lambda d: call("torch.serialization:save", b"K\x01", text(str(canary(d)))))
_runs(
    "torch_storage_from_a_file",
    lambda d: call(
        "torch.storage:UntypedStorage.from_file", text(str(canary(d))), b"\x88", b"K\x04"
    ),
)
_runs("torch_hub", lambda d: call("torch.hub:load_state_dict_from_url", text(f"file://{d}")))
_runs("torch_jit", lambda d: call("torch.jit:load", text("x")))
_runs(
    "a_class_that_opens_a_file",
    lambda d: call("torch.utils.data.datapipes.iter:FileOpener", b"]" + text("x") + b"a"),
)
_runs("a_writer_of_torch", lambda d: call("torch._C:PyTorchFileWriter", text(str(canary(d)))))
_runs(
    "a_tensorboard_writer",
    lambda d: call("torch.utils.tensorboard:SummaryWriter", text(f"{canary(d)}-x")),
)
_runs(
    "a_server_of_torch",
    lambda d: call("torch.distributed:TCPStore", text("127.0.0.1"), b"K\x00", b"K\x01", b"\x88"),
)
_runs("a_library", lambda d: call("ctypes:CDLL", text("libc.so.6")))
_runs("a_lambda", lambda d: call("types:FunctionType", call("types:CodeType")))
_runs(
    "pickle_in_pickle",
    lambda d: call(
        "pickle:loads", call("_codecs:encode", text("cos\nsystem\n(Vtrue\ntR."), text("latin1"))
    ),
)
_runs("numpy_load", lambda d: call("numpy:load", text("x.npy"), b"N", b"\x88"))
_runs(
    "iter_with_a_sentinel", lambda d: call("builtins:iter", name("os:getcwd"), text("x")), reads=BAD
)
_runs("compile_by_namedtuple", lambda d: call("collections:namedtuple", text("x"), text("a b")))
_runs("a_bit_generator", lambda d: call("numpy.random._pickle:__generator_ctor", SYSTEM))
_runs("a_scheduler", lambda d: call("torch.optim.lr_scheduler:LambdaLR", b"N", SYMPY))


@case(reads="malformed-item", finding="DCP305")
def value_at_a_device_that_is_none(directory: Path) -> None:
    """torch puts the tensors of a bytes entry where they were."""
    _step(directory, TENSOR.replace(text("cpu"), text("warp")), numbers(1))


@case()
def value_that_is_a_parameter_with_attributes(directory: Path) -> None:
    """As Megatron-core marks its parameters."""
    state = b"}" + text("tensor_model_parallel") + b"\x88s"
    hooks = call("collections:OrderedDict")
    rebuilt = call("torch._utils:_rebuild_parameter_with_state", TENSOR, b"\x88", hooks, state)
    _step(directory, rebuilt, numbers(1))


_runs(
    "state_of_a_marked_parameter",
    lambda d: (
        call(
            "torch._utils:_rebuild_parameter_with_state",
            TENSOR + b"\x88" + call("collections:OrderedDict"),
            b"}" + text("__setstate__") + SYMPY + b"s",
        )
        + _expression(d)
        + b"b"
    ),
    numbers(1),
    BAD,
)


def _device(label: str, arguments: bytes) -> None:
    """Register a `torch.device` that torch does not make of these arguments."""

    def write(directory: Path) -> None:
        _step(directory, b"ctorch\ndevice\n(" + arguments + b"tR")

    write.__name__ = f"device_{label}"
    case(reads=BAD, finding="DCP305")(write)


_device("that_torch_does_not_have", text("torch.jagged"))
_device("that_is_a_number", b"K\1")
_device("with_an_index_of_9_bits", text("cuda") + b"M\0\1")
_device("with_a_negative_index", text("cuda") + b"J\xff\xff\xff\xff")


@case(reads=BAD, finding="DCP305")
def defaultdict_whose_factory_is_a_number(directory: Path) -> None:
    """CPython raises TypeError: first argument must be callable or None."""
    _step(directory, b"ccollections\ndefaultdict\n(K\2tR")


@case(reads=BAD, finding="DCP305")
def deque_as_the_key_of_a_dict(directory: Path) -> None:
    """CPython raises TypeError: unhashable type."""
    _step(directory, b"}ccollections\ndeque\n)RK\1s")
