"""The one door to torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from dcpctl import torch_bridge
from dcpctl.errors import MissingDependency, UnknownForm
from dcpctl.formats.dtypes import DTYPES, numpy_dtype

PLAIN = [name for name, row in DTYPES.items() if row.kind not in ("quantized", "packed")]


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("name", [*PLAIN, "float4_e2m1fn_x2"])
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 4)])
def test_tensors_have_the_bytes_of_the_array(torch, name, shape):
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    dtype = numpy_dtype(name)
    count = int(np.prod(shape))
    raw = bytes([0, 1] * 48)[: count * dtype.itemsize]
    array = np.frombuffer(raw, dtype).reshape(shape)
    tensor = torch_bridge.as_tensor(array, name)
    assert tensor.dtype == getattr(torch, name)
    assert tuple(tensor.shape) == shape
    assert tensor.is_contiguous()
    found = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if count else b""
    assert found == raw


def test_arrays_need_not_be_contiguous_and_are_copied(torch):
    array = np.arange(6, dtype="<i4").reshape(2, 3)
    tensor = torch_bridge.as_tensor(array.T, "int32")
    assert tensor.tolist() == [[0, 3], [1, 4], [2, 5]]
    tensor[0, 0] = 99
    assert array[0, 0] == 0


@pytest.mark.parametrize("name", ["float12", "nn", "__name__"])
def test_dtypes_that_torch_lacks_are_named(torch, name):
    with pytest.raises(UnknownForm, match=name):
        torch_bridge.as_tensor(np.zeros(3, "i1"), name)


def test_quantized_tensors_are_refused(torch):
    with pytest.raises(UnknownForm, match="qint8 has no meaning"):
        torch_bridge.as_tensor(np.zeros(3, "i1"), "qint8")


def test_without_torch_the_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match="not installed") as caught:
        torch_bridge.require_torch()
    assert caught.value.hint == "pip install 'dcpctl[torch]'"


def test_a_torch_that_does_not_load_is_told_from_none(monkeypatch):
    def broken(name):
        raise OSError("libtorch.so: cannot open shared object file")

    monkeypatch.setattr(torch_bridge.importlib, "import_module", broken)
    with pytest.raises(MissingDependency, match="does not load here: libtorch"):
        torch_bridge.require_torch()


def test_the_version_is_read_without_importing(torch):
    code = (
        "import sys\nfrom dcpctl.torch_bridge import installed_version\n"
        "print(installed_version())\nsys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == torch.__version__.partition("+")[0]


@pytest.mark.parametrize(
    ("directory", "version"),
    [
        ("torch-2.13.0.dist-info", "2.13.0"),
        ("torch-2.4.1+cu121.dist-info", "2.4.1"),
        ("torch-2.16.0.dev20260101+cpu.dist-info", "2.16.0.dev20260101"),
        ("torch_geometric-2.0.dist-info", None),
        (None, None),
    ],
)
def test_the_version_is_read_off_the_installation(tmp_path, monkeypatch, directory, version):
    if directory is not None:
        (tmp_path / directory).mkdir()
    monkeypatch.setattr(torch_bridge.sys, "path", [str(tmp_path), str(tmp_path / "absent")])
    assert torch_bridge.installed_version() == version
