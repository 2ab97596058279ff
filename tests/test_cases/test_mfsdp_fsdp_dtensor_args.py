"""Megatron-FSDP keeps its argparse.Namespace in the entry `args`: plain values are shown."""

from __future__ import annotations

from pathlib import Path

from dcpctl.model.opening import open_checkpoint
from dcpctl.model.values import to_json
from dcpctl.reports import values_text
from tests.test_check.helpers import check


def test_args_are_shown(shared: Path) -> None:
    path = shared / "reports" / "mfsdp-fsdp-dtensor" / "run" / "iter_0000100"
    with open_checkpoint(path) as checkpoint:
        entry = checkpoint.bytes_entries["args"]
        shown = to_json(entry.value)
        assert entry.type == shown.pop("__type__") == "argparse.Namespace"
        assert {"__repr__": "torch.bfloat16", "__type__": "torch.dtype"} in shown.values()
        assert values_text.short(entry.value).startswith("Namespace(")
    assert not check(path, "DCP110").findings
