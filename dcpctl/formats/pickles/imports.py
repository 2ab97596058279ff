"""What loading a pickle imports, calls and so runs, of the globals that are no passive values.

torch unpickles bytes entries without restriction (`weights_only=False`, up to 2.15), and tensor
entries too up to 2.3. Python then imports the module of every global and calls what the pickle says
with what it says. Some callables execute whatever they are given, and there are too many to list
them all; so what is harmless is listed (`policy`, `standard`), and of everything else it counts
where it comes from and what is done with it.
"""

from __future__ import annotations

import re
import sys
from typing import Any, NamedTuple

from dcpctl.formats.pickles.standins import Global, Opaque

#: What a pickle does with a global: refers to it, makes an object of that class without running its
#: `__init__` (NEWOBJ, `copyreg`), calls a class with no more than one value as an enum's member is
#: pickled, calls it with anything else.
NAMED, MADE, VALUED, CALLED = 0, 1, 2, 3

#: Known functions that call what they are given, and at which places of their arguments.
CALLING: dict[str, tuple[int, ...]] = {
    "torch._tensor._rebuild_from_type_v2": (0,),
    "numpy.random._pickle.__bit_generator_ctor": (0,),
    "numpy.random._pickle.__generator_ctor": (0, 1),
    "numpy.random._pickle.__randomstate_ctor": (0, 1),
    "builtins.iter": (0,),
}

#: Known functions that set the state at this place of their arguments on the tensor that they make.
SETTING = {
    "torch._tensor._rebuild_from_type_v2": 3,
    "torch._utils._rebuild_parameter_with_state": 3,
}

#: Modules of other Pythons and platforms that are part of the standard library there.
_ELSEWHERE = {
    *("nt", "posix", "winreg", "msvcrt", "_winapi", "_posixsubprocess", "commands", "popen2"),
    *("distutils", "imp", "lib2to3", "pipes", "asyncore", "smtpd", "cgi", "telnetlib", "nntplib"),
}
_STANDARD = frozenset(sys.stdlib_module_names) | _ELSEWHERE
#: Modules of it that only compute; whatever is called in them counts all the same.
_PURE = frozenset(
    {
        *("math", "cmath", "operator", "statistics", "string", "numbers", "decimal", "fractions"),
        *("datetime", "enum", "dataclasses", "typing", "abc", "collections", "ipaddress", "bisect"),
        *("heapq", "random", "time", "calendar", "itertools", "textwrap", "zoneinfo", "uuid"),
        "signal",  # before Python 3.11 its enums' members are pickled as names of the module
    }
)
#: Objects of these hold a callable and call it only when they are called.
_HOLDERS = ("functools.partial", "operator.itemgetter", "operator.attrgetter")
#: Packages that torch and the frameworks that save DCP checkpoints bring along.
_PACKAGES = frozenset(
    {
        *("torch", "torchvision", "torchaudio", "torchao", "torchtitan", "torchtune", "torchrec"),
        *("torchdata", "torchft", "torchx", "torchmetrics", "torchsnapshot", "functorch"),
        *("fbgemm_gpu", "triton", "numpy", "scipy", "pandas", "pyarrow", "PIL", "sympy"),
        *("networkx", "fsspec", "filelock", "packaging", "typing_extensions", "yaml"),
        *("omegaconf", "hydra", "pydantic", "pydantic_core", "transformers", "accelerate"),
        *("datasets", "tokenizers", "safetensors", "huggingface_hub", "peft", "trl", "diffusers"),
        *("timm", "megatron", "megatron_fsdp", "nemo", "nemo_automodel", "nemo_run"),
        *("transformer_engine", "apex", "deepspeed", "lightning", "pytorch_lightning"),
        *("lightning_fabric", "lightning_utilities", "fiddle", "composer", "streaming"),
        *("llmfoundry", "olmo", "olmo_core", "olmo_eval", "bytecheckpoint", "verl", "veomni"),
        *("skyrl", "skyrl_train", "areal", "slime", "cosmos_rl", "prime_rl", "swift", "ray"),
        *("fms", "fms_fsdp", "dinov2", "dinov3", "fastgen", "lingua", "bitsandbytes"),
        *("schedulefree", "dion", "flashoptim", "optimi", "galore_torch", "prodigyopt"),
        *("lion_pytorch", "came_pytorch", "distributed_shampoo"),
    }
)
#: Parts of them whose classes open files, load libraries or build code.
_EXECUTING = re.compile(
    r"(?:torch\.(?:package|jit|hub|_inductor|serialization|multiprocessing|classes|ops|export"
    r"|utils\.(?:cpp_extension|model_dump|tensorboard|collect_env|bottleneck|_config_module)"
    r"|distributed\.(?:rpc|elastic|launcher|run|launch)|_C\.(?:PyTorchFile|ScriptModule|_jit)"
    r"|PyTorchFile|FileCheck)|numpy\.(?:f2py|distutils|testing|ctypeslib|lib|memmap|load)"
    r"|pandas\.(?:io|core\.computation|eval|read_)|PIL|ray\.|triton|yaml|fsspec"
    r"|huggingface_hub|datasets\.load|transformers\.(?:tools|agents)"
    r"|sympy\.)"  # whose classes evaluate text
)
#: Classes that execute, wherever they were imported into.
_DANGEROUS_CLASSES = frozenset(
    {
        *("Popen", "CDLL", "PyDLL", "WinDLL", "OleDLL", "FileIO", "ZipFile", "TarFile"),
        *("InteractiveInterpreter", "InteractiveConsole", "Thread", "Process", "Pool"),
        *("ThreadPool", "ThreadPoolExecutor", "ProcessPoolExecutor", "Timer", "FileHandler"),
        *("SMTP", "FTP", "Unpickler", "ModuleType", "FunctionType", "CodeType", "LambdaType"),
        *("MethodType", "GraphModule", "ScriptModule", "PackageImporter"),
    }
)


class Import(NamedTuple):
    """An unknown global of a pickle.

    Attributes:
        path: `module.name` as Python 3 spells it.
        use: NAMED, MADE, VALUED or CALLED.
    """

    path: str
    use: int

    @property
    def runs(self) -> bool:
        """Whether loading it can run what the pickle asks for, as far as can be told."""
        package, _, rest = self.path.partition(".")
        name = self.path.rpartition(".")[2]
        if self.path in _HOLDERS:
            return self.use == CALLED
        if package in _STANDARD:
            return package not in _PURE or self.use >= VALUED
        if self.use != NAMED and name in _DANGEROUS_CLASSES:
            return True
        if package == "__main__":
            return self.use == CALLED and not is_class_name(self.path)
        if package in _PACKAGES:
            # A class does with its arguments what it likes: opens the file, calls the function.
            return self.use == CALLED or bool(_EXECUTING.match(self.path))
        # Of a package that nobody knows, even a class may run anything when it is called.
        return self.use >= VALUED and bool(rest)


def is_class_name(path: str) -> bool:
    """Whether a path ends like the name of a class and not of a function or module."""
    return path.rpartition(".")[2].lstrip("_")[:1].isupper()


def use_of_call(path: str, args: tuple[Any, ...]) -> int:
    """How a call of `path` with these arguments counts: VALUED or CALLED."""
    plain = len(args) <= 1 and all(
        type(arg) in (int, bool) or (type(arg) is str and _WORD.fullmatch(arg)) for arg in args
    )
    return VALUED if plain and is_class_name(path) else CALLED


#: What the value of an enum looks like that is a text, and what no path or expression does.
_WORD = re.compile(r"[A-Za-z0-9_-]{0,64}")


def sets_hook(state: Any) -> bool:
    """Whether a state puts something callable where pickle will call it with what comes next."""
    parts = state if isinstance(state, tuple) else (state,)
    return any(
        key in _SPECIAL and isinstance(value, (Global, Opaque))
        for part in parts
        if isinstance(part, dict)
        for key, value in part.items()
        if isinstance(key, str)
    )


#: Attributes of an object that pickle looks up and calls.
_SPECIAL = frozenset(
    {
        *("__setstate__", "__reduce__", "__reduce_ex__", "__getstate__", "__class__", "__dict__"),
        *("__call__", "__new__", "__init__", "__getattr__", "__getattribute__", "__del__"),
        *("__setitem__", "append", "extend", "add"),
    }
)
