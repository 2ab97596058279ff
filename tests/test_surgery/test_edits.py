from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import DcpctlError, NothingSelected, ReadFailed, UsageError
from dcpctl.model import rename_rules as rules
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.cast import Cast
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.edits.file import read_edits
from dcpctl.surgery.merge import Merge
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.reshard import Reshard
from dcpctl.surgery.select import Select
from dcpctl.surgery.set import Assignment, Set, assignment
from dcpctl.surgery.upgrade import Upgrade
from tests.test_surgery import oracle

EVERYTHING = """
[[edits]]
verb = "merge"
with = ["other"]

[[edits]]
verb = "rename"
names = { "layers" = "blocks" }
prefix = { "model." = "net." }
regex = { 'x(\\d)' = 'y\\1' }
map = "names.txt"
keys_only = true
optimizer_of = { optim_d = "discriminator" }

[[edits]]
verb = "drop"
keys = ["lr_scheduler.*"]
with_state = true

[[edits]]
verb = "select"
section = "model"

[[edits]]
verb = "set"
null = "foreach"
fill = true
[edits.values]
lr = 1e-4
betas = [0.9, 0.99]
train_state.step = 9000

[[edits]]
verb = "cast"
dtype = "bf16"
keys = "model.*"
allow_lossy = true

[[edits]]
verb = "upgrade"
torch = "2.13"
optimizer = "adamw"
wrappers = false

[[edits]]
verb = "reshard"
mesh = { fsdp = 2, tp = 2 }
optimizer_of = { "a.o" = "" }
"""


def no_other(path: Path) -> Any:
    raise AssertionError(path)


def test_every_verb_as_toml(tmp_path: Path) -> None:
    path = tmp_path / "edits.toml"
    path.write_text(EVERYTHING)
    (tmp_path / "names.txt").write_text("a b\n")
    found = read_edits(path)
    assert found[0] == Merge((tmp_path / "other",))
    assert isinstance(found[1], Rename)
    assert found[1].keys_only
    assert found[1].optimizer_of == (("optim_d", "discriminator"),)
    assert [type(rule).__name__ for rule in found[1].rules] == [
        *("Literal", "Prefix", "Regex", "Table")
    ]
    assert found[2] == Drop(("lr_scheduler.*",), None, True)
    assert found[3] == Select((), "model", False)
    assert found[4] == Set(
        (
            Assignment("lr", 1e-4),
            Assignment("betas", [0.9, 0.99]),
            Assignment("train_state.step", 9000),
            Assignment("foreach", None),
        ),
        fill=True,
    )
    assert found[5] == Cast("bfloat16", ("model.*",), True)
    assert found[6] == Upgrade("2.13", "adamw", wrappers=False)
    assert found[7] == Reshard(mesh={"fsdp": 2, "tp": 2}, optimizer_of=(("a.o", ""),))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no list of edits"),
        ("edits = 3", "holds no list of edits"),
        ("edits = []", "holds no list of edits"),
        ("[[edits]\n", "cannot be parsed"),
        ("[[edits]]\nverb = 'drop'\n[more]\n", "holds no list of edits"),
        ("edits = [1]", "edit 1: expected a table"),
        ("[[edits]]\nkeys = []", "edit 1: no verb"),
        ("[[edits]]\nverb = 'explode'", "unknown verb 'explode'"),
        ("[[edits]]\nverb = 3", "verb is '3', expected str"),
        ("[[edits]]\nverb = 'drop'\nkey = 'x'", "unknown field 'key'"),
        ("[[edits]]\nverb = 'drop'\nkeys = [1]", "keys is no list of texts"),
        ("[[edits]]\nverb = 'drop'\nwith_state = 1", "with_state is '1', expected bool"),
        ("[[edits]]\nverb = 'drop'\nsection = 'x'", "section is model or optimizer"),
        ("[[edits]]\nverb = 'rename'", "none of names, prefix, regex, map"),
        ("[[edits]]\nverb = 'rename'\nnames = { a = 1 }", "no table of names"),
        ("[[edits]]\nverb = 'set'", "neither values nor null"),
        ("[[edits]]\nverb = 'cast'", "no dtype"),
        ("[[edits]]\nverb = 'reshard'\nworld_size = true", "expected int"),
        ("[[edits]]\nverb = 'reshard'\nmesh = { a = 'b' }", "mesh is no table"),
    ],
)
def test_malformed_files(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "edits.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_edits(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ReadFailed, match="cannot read"):
        read_edits(tmp_path / "edits.toml")


def test_the_order_counts(samples: Path) -> None:
    names = Rename((rules.literal("layers=blocks"),))
    late, early = (Drop((glob,)) for glob in ("model.blocks.0", "model.layers.0"))
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        draft, done = apply_edits(checkpoint, [names, late], no_other)
        other, _ = apply_edits(checkpoint, [early, names], no_other)
        assert list(draft.entries) == list(other.entries)
        assert [applied.verb for applied in done] == ["rename", "drop"]
        with pytest.raises(NothingSelected, match=r"edit 2, drop: no key matches 'model\.layers"):
            apply_edits(checkpoint, [names, early], no_other)


def test_one_edit_s_error_is_its_own(samples: Path) -> None:
    with (
        open_checkpoint(samples / "healthy" / "step-8500") as checkpoint,
        pytest.raises(DcpctlError, match=r"^no key matches"),
    ):
        apply_edits(checkpoint, [Drop(("nothing",))], no_other)


def test_the_same_edits_give_the_same_bytes(samples: Path, tmp_path: Path) -> None:
    listed = (
        Rename((rules.literal("layers=blocks"),)),
        Set((assignment("lr=1e-4"), assignment("step=9"))),
        Drop(("lr_scheduler",)),
    )
    source = samples / "healthy" / "step-8500"
    one, other = (oracle.made(source, tmp_path / name, *listed) for name in "ab")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()
    }


@pytest.mark.torch
def test_torch_loads_ten_edits_at_once(samples: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    source = samples / "healthy" / "step-8500"
    target = oracle.made(
        source,
        tmp_path / "made",
        Rename((rules.literal("layers=blocks"),)),
        Rename((rules.prefix("model.=net."),)),
        Set((assignment("step=1"),)),
        Set((assignment("step=2"), assignment("weight_decay=0.5"))),
        Drop(("lr_scheduler",)),
        Drop(("net.blocks.1",), with_state=True),
        Cast("float64", ("net.norm",)),
        Reshard(world_size=3),
    )
    found, wanted = oracle.by_torch(target), {}
    for fqn, held in oracle.truth(source).items():
        if fqn.startswith("lr_scheduler") or "layers.1." in fqn:
            continue
        name = fqn.replace("layers.", "blocks.")
        if name.startswith("model."):
            name = f"net.{name.removeprefix('model.')}"
        if name.startswith("optimizer.state.") and name.endswith(".step"):
            held = oracle.describe(torch.tensor(2.0))
        elif name.endswith(".weight_decay"):
            held = 0.5
        elif name.endswith(".params"):
            held = [p.replace("layers.", "blocks.") for p in held if "layers.1." not in p]
        wanted[name] = held
    norm = {"model.norm.weight": torch.empty(16)}
    oracle.load(norm, source)
    wanted["net.norm.weight"] = oracle.describe(norm["model.norm.weight"].double())
    assert found == wanted
    files = sorted(path.name for path in target.iterdir())
    assert files == [".metadata", "__0_0.distcp", "__1_0.distcp", "__2_0.distcp"]
