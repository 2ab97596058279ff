"""`preview_load` says what stock `dcp.load` then does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402

from dcpctl.model.opening import open_checkpoint  # noqa: E402
from dcpctl.training import preview_load  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")


class Part:
    """A Stateful."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def job() -> dict[str, Any]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 3}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    dcp.save(job(), checkpoint_id=tmp_path / "step-3")
    return tmp_path / "step-3"


def stock(state: dict[str, Any], path: Path) -> str:
    """The first error of the load, without its class; empty if it succeeds."""
    try:
        dcp.load(state, checkpoint_id=path)
    except dcp.CheckpointException as error:
        return str(error.failures[0][0])
    return ""


def test_all_of_it(saved: Path) -> None:
    preview = preview_load(job(), saved)
    assert (preview.raises, preview.skipped, len(preview.loads)) == (False, (), 21)
    assert stock(job(), saved) == ""
    assert str(preview).splitlines() == [
        "the load would take all that the state dict asks for and the checkpoint has",
        "",
        "  loads  21  read into the state dict",
    ]


def test_the_silent_reset(saved: Path) -> None:
    state = {"model": job()["model"]}
    preview = preview_load(state, saved, ignore=["step"])
    assert not preview.raises
    assert preview.ignored == ("step",)
    assert preview.skipped_optimizer is not None
    assert preview.skipped_optimizer.whole
    assert stock(state, saved) == ""
    text = str(preview)
    assert text.startswith(
        "the load would succeed and leave all of the optimizer's state on disk: 18 keys"
    )
    assert "skipped, optimizer  18  on disk and not asked for: stays there, and torch says" in text
    assert "'optimizer.state.0.step'" in text
    assert "and 15 more" in text


def test_what_raises(saved: Path) -> None:
    state = {**job(), "new": torch.zeros(2)}
    preview = preview_load(state, saved)
    assert preview.error_text == stock(state, saved)
    assert str(preview).startswith("the load would raise RuntimeError: Missing key in checkpoint")
    assert "missing   1  asked for and not on disk: raises" in str(preview)
    assert not preview_load(state, saved, allow_partial_load=True).raises

    state = job()
    state["model"]["weight"] = torch.zeros(5)
    preview = preview_load(state, saved)
    assert preview.error_text == stock(state, saved)
    assert "'model.weight': asked for float32 [5], on disk float32 [2, 3]" in str(preview)


def test_what_is_converted(saved: Path) -> None:
    state = job()
    state["model"] = {key: value.bfloat16() for key, value in state["model"].items()}
    text = str(preview_load(state, saved))
    assert "converted   2  another dtype: converted on the way" in text
    assert "'model.bias': asked for bfloat16 [2], on disk float32 [2]" in text


def test_nothing_is_changed(saved: Path) -> None:
    with torch.device("meta"):
        model = nn.Linear(3, 2)
    part = Part({"weight": torch.zeros(2, 3)})
    state = {"model": model.state_dict(), "part": part}
    with open_checkpoint(saved) as checkpoint:
        preview = preview_load(state, checkpoint)
        assert checkpoint["model.bias"].numpy().shape == (2,)  # still open
    assert preview.missing == ("part.weight",)
    assert state["part"] is part
    assert part.state["weight"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert state["model"]["weight"].is_meta
