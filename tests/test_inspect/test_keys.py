"""Choosing keys, and the tree of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcpctl.errors import NothingSelected
from dcpctl.inspect.keys import Branch, find, select, tree
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint


@pytest.fixture(scope="module")
def healthy(samples: Path):
    with open_checkpoint(samples / "healthy" / "step-8500") as checkpoint:
        yield checkpoint


@pytest.mark.parametrize("glob", ["model.layers.0.*", "model.layers.0", "model.layers.0."])
def test_a_glob_crosses_dots_and_a_prefix_will_do(healthy: Checkpoint, glob: str) -> None:
    found = select(healthy, glob)
    assert len(found) == 9
    assert found == tuple(fqn for fqn in healthy if fqn.startswith("model.layers.0."))


def test_order_is_the_metadata_order(healthy: Checkpoint) -> None:
    assert select(healthy, "*") == tuple(healthy)


def test_tensors_only(healthy: Checkpoint) -> None:
    assert set(select(healthy, "*", tensors_only=True)) == set(healthy.tensors)
    with pytest.raises(NothingSelected, match="no tensor"):
        select(healthy, "lr_scheduler.*", tensors_only=True)


def test_nothing_selected_names_what_is_like_it(healthy: Checkpoint) -> None:
    with pytest.raises(NothingSelected) as caught:
        find(healthy, "tok_embeddings.weight")
    assert caught.value.exit_code == 4
    with pytest.raises(NothingSelected) as caught:
        find(healthy, "model.tok_embeddings")
    assert caught.value.hint is not None
    assert "'model.tok_embeddings.weight'" in caught.value.hint


def leaves(branch: Branch) -> int:
    own = branch.entry is not None
    return own + sum(leaves(child) for child in branch.children.values())


def test_layers_of_one_structure_are_one_branch(healthy: Checkpoint) -> None:
    root = tree(healthy)
    assert (root.tensors, root.objects) == (len(healthy.tensors), len(healthy.bytes_entries))
    assert root.nbytes == healthy.nbytes
    layers = root.children["model"].children["layers"]
    assert list(layers.children) == ["0-1"]
    assert layers.children["0-1"].alike == 2
    assert layers.children["0-1"].tensors == 18
    assert leaves(root) < len(healthy)


def test_a_very_deep_name_is_no_trouble() -> None:
    class Entry:
        kind = "bytes"

    fake = type("Fake", (), {})()
    fake.entries = {".".join("x" * 50_000): Entry()}
    fake.planner_data = None
    assert tree(fake).objects == 1
