"""What loading a pickle imports and calls, of globals that are no passive values."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dcpctl.formats.pickles import policy
from dcpctl.formats.pickles.imports import CALLED, MADE, NAMED, VALUED, Import
from dcpctl.formats.pickles.vm import Machine
from tests.hostile.opcodes import call, name, text


def uses(opcodes: bytes, protocol: int = 2) -> dict[str, bool]:
    """Unknown global -> whether loading runs code; the stream's value is thrown away."""
    machine = Machine(b"\x80%c" % protocol + opcodes + b".", policy.VALUES, "'x'", None)
    machine.run()
    return {path: Import(path, use).runs for path, use in machine.uses.items()}


def new(path: str, state: bytes = b"") -> bytes:
    """An object by NEWOBJ, with its state set."""
    return name(path) + b")\x81" + (state + b"b" if state else b"")


@pytest.mark.parametrize(
    ("path", "use", "runs"),
    [
        ("posix.system", NAMED, True),
        ("subprocess.Popen", MADE, True),
        ("builtins.eval", NAMED, True),
        ("cProfile.run", CALLED, True),
        ("io.FileIO", CALLED, True),
        ("math.sqrt", NAMED, False),
        ("operator.methodcaller", CALLED, True),
        ("functools.partial", MADE, False),
        ("functools.partial", CALLED, True),
        ("torch.hub.load", NAMED, True),
        ("torch.storage._load_from_bytes", CALLED, True),
        ("torch.utils.cpp_extension.load", CALLED, True),
        ("torch.package.package_importer.PackageImporter", MADE, True),
        ("torch._C._nn.gelu", NAMED, False),
        ("torch.fx.graph_module.reduce_graph_module", CALLED, True),
        ("torch.distributed.fsdp.api.ShardingStrategy", VALUED, False),
        ("megatron.core.transformer.enums.AttnBackend", VALUED, False),
        ("torch.distributed.FileStore", CALLED, True),
        ("sympy.core.sets.FiniteSet", MADE, True),
        ("torchao.quantization.granularity.PerRow", MADE, False),
        ("torch.utils.collect_env.run", CALLED, True),
        ("numpy.testing._private.utils.runstring", CALLED, True),
        ("transformers.trainer_utils.Popen", CALLED, True),
        ("__main__.TrainState", MADE, False),
        ("__main__.Mode", CALLED, False),
        ("__main__.make", CALLED, True),
        ("my.project.State", MADE, False),
        ("my.project.factory", NAMED, False),
        ("my.project.State", CALLED, True),
    ],
)
def test_what_runs(path: str, use: int, runs: bool) -> None:
    assert Import(path, use).runs is runs


def test_harmless_machinery_is_no_finding() -> None:
    base = name("builtins:object")
    assert uses(call("copyreg:_reconstructor", name("my.own:State"), base, b"N")) == {
        "my.own.State": False
    }
    assert uses(call("copyreg:__newobj__", name("my.own:State"))) == {"my.own.State": False}
    # Python 3.11 pickles the member of an enum by its name.
    assert uses(call("builtins:getattr", name("my.own:Mode"), text("TRAIN"))) == {
        "my.own.Mode": False
    }
    # Older ones and others by its value.
    path = "torch.distributed.fsdp.api.ShardingStrategy"
    for value in (b"K\x01", text("FULL_SHARD")):
        assert uses(name("torch.distributed.fsdp.api:ShardingStrategy") + value + b"\x85R") == {
            path: False
        }
    assert uses(new("argparse:Namespace", b"}" + text("append") + b"\x88s")) == {}
    assert uses(new("my.own:Config", b"}" + text("append") + b"\x88s")) == {"my.own.Config": False}


GETTER = call("builtins:getattr", name("my.own:Mode"), text("run"))


@pytest.mark.parametrize(
    ("opcodes", "path"),
    [
        (call("builtins:getattr", name("torch:Size"), text("mro")), "builtins.getattr"),
        (call("builtins:getattr", name("my.own:Mode"), text("__subclasses__")), "builtins.getattr"),
        (call("builtins:getattr", name("my.own:module"), text("system")), "builtins.getattr"),
        (GETTER + b")R", "my.own.Mode.__call__"),
        (
            call("builtins:getattr", name("torch.nn:Module"), text("eval")) + b")R",
            "torch.nn.Module.__call__",
        ),
        (
            call(
                "torch._tensor:_rebuild_from_type_v2", name("my.own:run"), name("my.own:T"), b")}"
            ),
            "my.own.run",
        ),
        (
            call("torch._tensor:_rebuild_from_type_v2", GETTER, name("my.own:T"), b")}"),
            "my.own.Mode.__call__",
        ),
        (
            call("numpy.random._pickle:__generator_ctor", text("true"), name("my.own:run")),
            "my.own.run",
        ),
        (call("builtins:getattr", GETTER, text("x")), "builtins.getattr"),
        (
            call("copyreg:_reconstructor", name("my.own:State"), name("my.own:Base"), b"N"),
            "my.own.Base",
        ),
        (
            call("copyreg:_reconstructor", name("my.own:State"), name("subprocess:Popen"), b"N"),
            "subprocess.Popen",
        ),
        (call("functools:partial", name("my.own:work")) + b")R", "functools.partial.__call__"),
        (call("operator:attrgetter", text("system")), "operator.attrgetter"),
        (
            new("my.own:S", b"}" + text("__setstate__") + name("my.own:run") + b"s"),
            "my.own.S.__setstate__",
        ),
        (
            new("my.own:S", b"N}" + text("extend") + name("my.own:run") + b"s\x86"),
            "my.own.S.__setstate__",
        ),
        (
            new("argparse:Namespace", b"}" + text("__setstate__") + name("my.own:run") + b"s"),
            "argparse.Namespace.__setstate__",
        ),
        (call("builtins:map", name("my.own:run"), b"]"), "builtins.map"),
        (call("my.own:Class", text("x")), "my.own.Class"),
        (call("torch.distributed:FileStore", text("/x")), "torch.distributed.FileStore"),
        (
            call("collections:OrderedDict")
            + (b"}" + text("__setstate__") + name("torch.nn:run") + b"sb"),
            "builtins.dict.__setstate__",
        ),
        (b"c__builtin__\nreduce\n", "functools.reduce"),
        (b"ccommands\ngetoutput\n(X\x04\x00\x00\x00truetR", "subprocess.getoutput"),
    ],
)
def test_arguments_matter(opcodes: bytes, path: str) -> None:
    assert uses(opcodes)[path] is True


def test_what_is_reached_through_a_module_runs() -> None:
    reached = text("torch.utils.collect_env") + text("subprocess.Popen") + b"\x93"
    assert uses(reached, 4) == {"torch.utils.collect_env.subprocess.Popen": True}
    nested = text("my.own") + text("Outer.Inner") + b"\x93)\x81"
    assert uses(nested, 4) == {"my.own.Outer.Inner": False}


class Point:
    """A plain class of a test, which is a package that nobody knows."""

    def __init__(self) -> None:
        self.x = 3


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_real_plain_objects_do_not_run(protocol: int) -> None:
    stream: Any = pickle.dumps([Point(), Point()], protocol)
    machine = Machine(stream, policy.VALUES, "'x'", None)
    machine.run()
    assert [Import(*used).runs for used in machine.uses.items()] == [False]
