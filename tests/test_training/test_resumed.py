"""`assert_resumed` in one process: what it finds, and what it does not take for a loss."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict  # noqa: E402

from dcpctl.errors import NotACheckpoint  # noqa: E402
from dcpctl.model.opening import open_checkpoint  # noqa: E402
from dcpctl.training import UnresumedState, assert_resumed  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")

WIDTH = 4


class Model(nn.Module):
    """Two layers of one shape, a scalar, a frozen parameter, and buffers of both kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(WIDTH, WIDTH)
        self.two = nn.Linear(WIDTH, WIDTH)
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(torch.tanh(self.one(x))) * self.scale


def build(kind: type = torch.optim.AdamW, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(0)
    model = Model()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return model, kind(trained, lr=0.1, **options)


def trained(kind: type = torch.optim.AdamW, **options: Any) -> tuple[Any, Any]:
    model, optimizer = build(kind, **options)
    for step in range(3):
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(2, WIDTH)).pow(2).sum().backward()
        optimizer.step()
        model.seen += 1
    return model, optimizer


@pytest.fixture(scope="module")
def job() -> tuple[Any, Any]:
    return trained()


@pytest.fixture(scope="module", params=["named", "by index"])
def saved(
    job: tuple[Any, Any], tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Saved as get_state_dict names things, and as optimizer.state_dict() counts them."""
    model, optimizer = job
    path = tmp_path_factory.mktemp("saved") / "step-3"
    if request.param == "named":
        weights, moments = get_state_dict(model, optimizer)
    else:
        weights, moments = model.state_dict(), optimizer.state_dict()
    with pytest.warns(UserWarning, match="torch.distributed is"):
        dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=path)
    return path


@pytest.fixture
def resumed(job: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """A job that holds what was saved."""
    yield copy.deepcopy(job)


def told(job: tuple[Any, Any], path: Path, **options: Any) -> str:
    with pytest.raises(UnresumedState) as caught:
        assert_resumed(*job, path, **options)
    assert (caught.value.id, caught.value.exit_code) == ("unresumed-state", 1)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return str(caught.value)


def test_a_resumed_job(resumed: tuple[Any, Any], saved: Path) -> None:
    before = torch.get_rng_state()
    assert_resumed(*resumed, saved)
    assert torch.equal(before, torch.get_rng_state())
    assert_resumed(resumed[0], None, saved)
    assert_resumed([resumed[0]], [resumed[1]], str(saved), samples=1)
    with open_checkpoint(saved) as checkpoint:
        assert_resumed(*resumed, checkpoint)
        assert checkpoint["model.scale"].numpy() == resumed[0].scale.item()  # still open


def test_a_wrapped_module(resumed: tuple[Any, Any], saved: Path) -> None:
    model, optimizer = resumed
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model.one = checkpoint_wrapper(model.one)
    outer = nn.Module()
    outer.module = model
    assert_resumed(outer, optimizer, saved)


def reset(model: Any, optimizer: Any) -> None:
    optimizer.state.clear()


def reset_to_zero(model: Any, optimizer: Any) -> None:
    for slots in optimizer.state.values():
        for value in slots.values():
            value.zero_()


def lose_one(model: Any, optimizer: Any) -> None:
    del optimizer.state[model.two.weight]


def lose_a_slot(model: Any, optimizer: Any) -> None:
    for slots in optimizer.state.values():
        slots["exp_avg_sq"].zero_()


def step_by_hand(model: Any, optimizer: Any) -> None:
    """`step` restored by hand, moments not."""
    for slots in optimizer.state.values():
        slots["exp_avg"].zero_()
        slots["exp_avg_sq"].zero_()


def another_step(model: Any, optimizer: Any) -> None:
    optimizer.state[model.scale]["step"] += 1


def swap_moments(model: Any, optimizer: Any) -> None:
    state, one, two = optimizer.state, model.one.weight, model.two.weight
    state[one], state[two] = state[two], state[one]


def swap_weights(model: Any, optimizer: Any) -> None:
    one, two = model.one.weight.data, model.two.weight.data
    model.one.weight.data, model.two.weight.data = two, one


def new_weights(model: Any, optimizer: Any) -> None:
    model.load_state_dict(build()[0].state_dict())


def new_buffer(model: Any, optimizer: Any) -> None:
    model.seen.zero_()


def new_layer(model: Any, optimizer: Any) -> None:
    model.three = nn.Linear(2, 2)


LOSSES: dict[Callable[[Any, Any], None], list[str]] = {
    reset: ["the optimizer was reset", "5 of 5 parameters", "step (5 not there)",
            "step: none in memory, 3 on disk", "fix: "],
    reset_to_zero: ["the optimizer was reset", "exp_avg (5 zero)", "step: 0 in memory, 3 on disk"],
    lose_one: ["the optimizer was restored in part: 1 of 5 parameters differ: 'two.weight'"],
    lose_a_slot: ["the optimizer was restored in part: 5 of 5", "what state: exp_avg_sq (5 zero)"],
    step_by_hand: ["the optimizer was reset", "exp_avg (5 zero), exp_avg_sq (5 zero)"],
    another_step: ["1 of 5 parameters differ: 'scale'", "step: 4 in memory, 3 on disk"],
    swap_moments: ["the optimizer's state belongs to other parameters: 2 of 5",
                   "exp_avg of 'one.weight' holds what the checkpoint has for 'two.weight'"],
    swap_weights: ["the model was loaded in part: 2 of 6 parameters differ",
                   "swapped: 'two.weight' holds what the checkpoint has for 'one.weight'"],
    new_weights: ["the model was loaded in part: 5 of 6", "'one.weight'"],
    new_buffer: ["the model was loaded in part: 1 buffer differ: 'seen'"],
    new_layer: ["does not have 2 of the model's parameters: 'three.weight', 'three.bias'"],
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_what_is_lost_is_named(
    resumed: tuple[Any, Any], saved: Path, loss: Callable[[Any, Any], None]
) -> None:
    loss(*resumed)
    message = told(resumed, saved)
    assert message.startswith("memory does not hold what the checkpoint has: ")
    for text in LOSSES[loss]:
        assert text in message
    assert ("swapped" in message) == loss.__name__.startswith("swap")


def test_what_may_differ(resumed: tuple[Any, Any], saved: Path) -> None:
    lose_one(*resumed)
    assert_resumed(*resumed, saved, ignore=["two.*"])
    assert_resumed(*resumed, saved, ignore="two")
    assert_resumed(resumed[0], None, saved)


def test_a_checkpoint_without_an_optimizer(
    resumed: tuple[Any, Any], saved: Path, tmp_path: Path
) -> None:
    dcp.save({"model": resumed[0].state_dict()}, checkpoint_id=tmp_path / "only")
    assert "has no optimizer state" in told(resumed, tmp_path / "only")
    assert_resumed(resumed[0], None, tmp_path / "only")


def test_another_models_checkpoint(resumed: tuple[Any, Any], samples: Path) -> None:
    message = told(resumed, samples / "healthy" / "step-8500")
    assert "does not have 6 of the model's parameters" in message


def test_no_checkpoint(resumed: tuple[Any, Any], tmp_path: Path) -> None:
    with pytest.raises(NotACheckpoint):
        assert_resumed(*resumed, tmp_path)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "Adafactor", "NAdam", "ASGD", "LBFGS"])
def test_other_optimizers(tmp_path: Path, kind: str) -> None:
    if kind == "LBFGS":
        model, optimizer = build(torch.optim.LBFGS)
        optimizer.step(lambda: model(torch.ones(1, WIDTH)).sum() * 0 + model.scale.sum())
    else:
        model, optimizer = trained(getattr(torch.optim, kind))
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    dcp.save(state, checkpoint_id=tmp_path / "x")
    assert_resumed(model, optimizer, tmp_path / "x")
    if optimizer.state:
        optimizer.state.clear()
        assert "the optimizer was reset" in told((model, optimizer), tmp_path / "x")


def test_numbers_that_a_load_converts(tmp_path: Path) -> None:
    """bfloat16 in memory, float32 on disk: what the load made of it is what is compared."""
    model, _ = trained()
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "x")
    assert_resumed(model.bfloat16(), None, tmp_path / "x")
    with torch.no_grad():
        model.one.weight.view(torch.int16).add_(1)  # the next number up
    assert "'one.weight'" in told((model, None), tmp_path / "x")


def test_not_a_number_is_what_it_is(tmp_path: Path) -> None:
    model, _ = trained()
    with torch.no_grad():
        model.one.weight.fill_(float("nan"))
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "x")
    assert_resumed(model, None, tmp_path / "x")


def test_several_optimizers(tmp_path: Path) -> None:
    model, _ = trained()
    several = [torch.optim.AdamW(layer.parameters()) for layer in (model.one, model.two)]
    for optimizer in several:
        optimizer.step()
    weights, moments = get_state_dict(model, several)
    dcp.save({"model": weights, "optimizer": moments}, checkpoint_id=tmp_path / "x")
    assert_resumed(model, several, tmp_path / "x")
    several[1].state.clear()
    assert "2 of 4 parameters differ: 'two.weight', 'two.bias'" in told(
        (model, several), tmp_path / "x"
    )


def test_only_some_bytes_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dcpctl.storage.local import LocalStorage

    model = nn.Linear(512, 512)
    dcp.save({"model": model.state_dict()}, checkpoint_id=tmp_path / "x")
    read = 0
    fill = LocalStorage._fill

    def counted(self: Any, name: str, handle: Any, offset: int, view: memoryview) -> None:
        nonlocal read
        read += len(view)
        fill(self, name, handle, offset, view)

    monkeypatch.setattr(LocalStorage, "_fill", counted)
    with open_checkpoint(tmp_path / "x") as checkpoint:
        read = 0
        assert_resumed(model, None, checkpoint)
    assert 0 < read < 50_000  # of a megabyte
