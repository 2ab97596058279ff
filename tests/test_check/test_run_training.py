"""DCP6xx on saves of small runs that are really trained, in one process, in many ways."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dcpctl.check.finding import CheckResult
from tests.test_check.helpers import check, rules, skipped, the

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")

BETAS = (0.9, 0.95)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower on several threads, and waits for them on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Job:
    """A model with an embedding, whose rows are rarely used, and dense layers."""

    def __init__(
        self,
        optimizer: Callable[..., torch.optim.Optimizer],
        dtype: Any = torch.float32,
        **options: Any,
    ) -> None:
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleDict(
            {
                "embedding": torch.nn.Embedding(50, 8),
                "up": torch.nn.Linear(8, 24),
                "head": torch.nn.Linear(24, 50),
            }
        ).to(dtype)
        self.make = lambda: optimizer(self.trained(), **options)
        self.optimizer = self.make()
        self.step = 0

    def trained(self) -> Iterable[Any]:
        return [p for p in self.layers.parameters() if p.requires_grad]

    def train(self, until: int) -> None:
        while self.step < until:
            generator = torch.Generator().manual_seed(self.step)
            words = (torch.rand(16, generator=generator) ** 3 * 50).long()
            x = torch.relu(self.layers["up"](self.layers["embedding"](words)))
            logits = self.layers["head"](x).float()
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, (words * 7 + 3) % 50).backward()
            self.optimizer.step()
            self.step += 1

    def save(self, run: Path, **more: Any) -> Path:
        names = {p: name for name, p in self.layers.named_parameters()}
        state = {names[p]: dict(s) for p, s in self.optimizer.state.items()}
        groups = [
            {**group, "params": [names[p] for p in group["params"]]}
            for group in self.optimizer.param_groups
        ]
        optimizer = {"state": state, "param_groups": groups}
        state_dict = {"model": self.layers.state_dict(), "optimizer": optimizer, **more}
        dcp.save(state_dict, checkpoint_id=run / f"step-{self.step}", no_dist=True)
        return run / f"step-{self.step}"

    def reset(self, *slots: str, only: Callable[[str], bool] = lambda name: True) -> None:
        """Zero moments, as if they had not been loaded; `step` stays."""
        for name, parameter in self.layers.named_parameters():
            state = self.optimizer.state[parameter]
            for slot in slots or set(state) - {"step"}:
                if only(name):
                    state[slot].zero_()


def adamw(*, dtype: Any = torch.float32, **options: Any) -> Job:
    return Job(torch.optim.AdamW, dtype, **{"lr": 3e-3, "betas": BETAS, **options})


def between(run: Path, job: Job, happens: Callable[[Job], None], steps: int = 20) -> CheckResult:
    """Save at step 30 and some steps later; something happens right after the first save."""
    job.train(30)
    before = job.save(run)
    happens(job)
    job.train(30 + steps)
    return check(job.save(run), "DCP6", against=before)


def nothing(job: Job) -> None:
    """A healthy run."""


def freeze(job: Job) -> None:
    job.layers["up"].requires_grad_(False)


def other_beta2(job: Job) -> None:
    job.optimizer.param_groups[0]["betas"] = (0.9, 0.9)


def integer_steps(job: Job) -> None:
    for state in job.optimizer.state.values():
        state["step"] = int(state["step"])


HEALTHY: dict[str, tuple[Callable[[], Job], Callable[[Job], None]]] = {
    "AdamW": (adamw, nothing),
    "AdamW, 0.999": (lambda: adamw(betas=(0.9, 0.999)), nothing),
    "AMSGrad": (lambda: adamw(amsgrad=True), nothing),
    "bfloat16": (lambda: adamw(dtype=torch.bfloat16), nothing),
    "a layer is frozen": (adamw, freeze),
    "beta2 changes": (adamw, other_beta2),
    "RMSprop": (lambda: Job(torch.optim.RMSprop, lr=1e-3, alpha=0.9), nothing),
    "Adagrad": (lambda: Job(torch.optim.Adagrad, lr=1e-2), nothing),
    "Adamax": (lambda: Job(torch.optim.Adamax, lr=1e-3), nothing),
    "Adadelta": (lambda: Job(torch.optim.Adadelta), nothing),
    "NAdam": (lambda: Job(torch.optim.NAdam, lr=1e-3), nothing),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_have_no_finding(tmp_path: Path, name: str) -> None:
    make, happens = HEALTHY[name]
    result = between(tmp_path, make(), happens)
    assert rules(result, "error", "warning") == set()
    assert result.skipped == ()


def test_integer_steps_are_steps(tmp_path: Path) -> None:
    job = adamw()
    job.train(30)
    before = job.save(tmp_path)
    job.train(50)
    integer_steps(job)
    result = check(job.save(tmp_path), "DCP6", against=before)
    assert result.findings == result.skipped == ()


def test_without_moments_there_is_nothing_to_compare(tmp_path: Path) -> None:
    result = between(tmp_path, Job(torch.optim.SGD, lr=0.1, momentum=0.9), nothing)
    assert result.findings == ()
    assert skipped(result) == {
        "DCP601": "the optimizer keeps no step in 'step-50', or it could not be read",
        "DCP602": "the saves have no second moments in common whose decay is known",
    }


def test_a_layer_that_is_freed_has_new_moments(tmp_path: Path) -> None:
    job = adamw()
    job.layers["up"].requires_grad_(False)
    job.optimizer = job.make()

    def free(job: Job) -> None:
        job.layers["up"].requires_grad_(True)
        job.optimizer.add_param_group({"params": list(job.layers["up"].parameters())})

    assert rules(between(tmp_path, job, free), "error", "warning") == set()


def test_a_layer_that_left_the_optimizer_is_told(tmp_path: Path) -> None:
    def freeze_for_good(job: Job) -> None:
        freeze(job)
        kept = job.optimizer.state
        job.optimizer = job.make()
        job.optimizer.state.update({p: kept[p] for p in job.trained()})

    found = the(between(tmp_path, adamw(), freeze_for_good))
    assert (found.rule, found.severity) == ("DCP603", "info")
    assert found.message == (
        "2 parameters trained in 'step-30' and in no param group here: 'up.weight', 'up.bias'"
    )


RESETS: dict[str, tuple[Callable[[], Job], str]] = {
    "AdamW": (adamw, "exp_avg_sq"),
    "AdamW, 0.999": (lambda: adamw(betas=(0.9, 0.999)), "exp_avg_sq"),
    "bfloat16": (lambda: adamw(dtype=torch.bfloat16), "exp_avg_sq"),
    "RMSprop": (lambda: Job(torch.optim.RMSprop, lr=1e-3, alpha=0.9), "square_avg"),
    "Adagrad": (lambda: Job(torch.optim.Adagrad, lr=1e-2), "sum"),
    "Adamax": (lambda: Job(torch.optim.Adamax, lr=1e-3), "exp_inf"),
}


@pytest.mark.parametrize("name", RESETS)
def test_moments_that_began_again_are_found_though_step_went_on(tmp_path: Path, name: str) -> None:
    make, slot = RESETS[name]
    found = the(between(tmp_path, make(), lambda job: job.reset()))
    assert (found.rule, found.severity) == ("DCP602", "error")
    assert found.subject.endswith(f".{slot}")
    assert found.message.startswith(f"{slot} restarted in ")
    if name not in ("Adagrad", "Adamax"):
        at, apart = found.message.partition("reset at about step ")[2].split(" (±")
        assert abs(int(at) - 30) <= int(apart.partition(")")[0])
    assert found.message.endswith("; step says 50 all the same") or name == "RMSprop"


def test_moments_that_never_fall_show_a_reset_long_ago(tmp_path: Path) -> None:
    found = the(between(tmp_path, adamw(amsgrad=True), lambda job: job.reset(), steps=200))
    assert found.rule == "DCP602"
    assert "max_exp_avg_sq" in found.message


def test_one_layer_that_began_again_is_named(tmp_path: Path) -> None:
    result = between(
        tmp_path, adamw(), lambda job: job.reset(only=lambda name: name.startswith("up")), steps=5
    )
    found = the(result)
    assert found.subject == "optimizer.state.up.weight.exp_avg_sq"
    assert "restarted in 2 of 5 tensors" in found.message


def test_second_moments_alone_are_enough(tmp_path: Path) -> None:
    found = the(between(tmp_path, adamw(), lambda job: job.reset("exp_avg_sq")))
    assert found.rule == "DCP602"


def test_the_check_says_how_far_it_sees(tmp_path: Path) -> None:
    result = between(tmp_path, adamw(), nothing, steps=100)
    assert result.findings == ()
    assert result.notes == (
        "Of 5 second moments, 5 were compared with those of 'step-30', 100 steps before, in part. "
        "With a decay of 0.95 they see some 30 to 60 steps back, so that a restart in between may "
        "not show in them.",
    )
