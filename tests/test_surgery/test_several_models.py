"""Two models with an optimizer each, saved by torch: every surgery's result loads, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dcpctl.errors import Refused, UsageError
from dcpctl.model import rename_rules as rules
from dcpctl.model.draft import Draft
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.surgery.drop import Drop
from dcpctl.surgery.names.renamer import rename
from dcpctl.surgery.names.survey import with_pairs
from dcpctl.surgery.rename import Rename
from dcpctl.surgery.select import Select
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.surgery.upgrade.engine import upgrade
from tests.test_surgery import oracle

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")
sd = pytest.importorskip("torch.distributed.checkpoint.state_dict")

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

#: From two models and their optimizers (state dicts) to what a job saves.
Tree = Callable[[Any, Any, Any, Any], dict[str, Any]]
TREES: dict[str, Tree] = {
    "siblings": lambda g, d, og, od: {"gen": g, "disc": d, "optG": og, "optD": od},
    "parents": lambda g, d, og, od: {"a": {"net": g, "opt": og}, "b": {"net": d, "opt": od}},
    "parallel": lambda g, d, og, od: {
        "models": {"gen": g, "disc": d},
        "optimizers": {"gen": og, "disc": od},
    },
    "list": lambda g, d, og, od: {"trainers": [{"m": g, "o": og}, {"m": d, "o": od}]},
    "odd": lambda g, d, og, od: {"actor": g, "critic": d, "critic.solver": od, "actor.o": og},
}
ROOTS = {
    "siblings": ("gen", "disc"),
    "parents": ("a.net", "b.net"),
    "parallel": ("models.gen", "models.disc"),
    "list": ("trainers.0.m", "trainers.1.m"),
    "odd": ("actor", "critic"),
}
CHANGES = [("index", "fqn"), ("index", "flat"), ("fqn", "index"), ("flat", "fqn")]


def some(trees: list[str], others: list[Any]) -> list[Any]:
    """All pairs, of which the gate runs each tree and each other thing once or twice."""
    made = []
    for n, tree in enumerate(trees):
        for m, other in enumerate(others):
            rest = [] if n % len(others) == m else [pytest.mark.soak, pytest.mark.slow]
            made.append(pytest.param(tree, other, marks=rest, id=f"{tree}-{other}"))
    return made


FLAT = {"flatten_optimizer_state_dict": True}


def net(out: int, *names: str) -> Any:
    """Two linear layers, or one."""
    made = torch.nn.Module()
    for name, size in zip(names, ((4, 8), (8, out)), strict=False):
        made.add_module(name, torch.nn.Linear(*size))
    return made


def adam(model: Any, seed: int) -> Any:
    """An optimizer after two steps on gradients of its own."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 * seed)
    random = torch.Generator().manual_seed(seed)
    for _ in range(1 + seed):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=random)
        optimizer.step()
    return optimizer


class Job:
    """Two models and their optimizers."""

    def __init__(self, tree: str, style: str, generator: Any, discriminator: Any) -> None:
        self.tree, self.style = TREES[tree], style
        self.nets = [generator, discriminator]
        self.optimizers = [adam(model, 1 + n) for n, model in enumerate(self.nets)]

    def states(self) -> dict[str, Any]:
        return self.tree(*map(sd.get_model_state_dict, self.nets), *self._optimizer_states())

    def _optimizer_states(self) -> list[Any]:
        if self.style == "index":
            return [optimizer.state_dict() for optimizer in self.optimizers]
        options = sd.StateDictOptions(**(FLAT if self.style == "flat" else {}))
        return [
            sd.get_optimizer_state_dict(model, optimizer, options=options)
            for model, optimizer in zip(self.nets, self.optimizers, strict=True)
        ]

    def save(self, path: Path) -> Path:
        dcp.save(self.states(), checkpoint_id=path, no_dist=True)
        return path

    def load(self, path: Path, only: int | None = None) -> None:
        """What a training script does: ask for what it has, and put it back."""
        asked = self._optimizer_states()
        models = list(map(sd.get_model_state_dict, self.nets))
        state = self.tree(*models, *asked)
        if only is not None:
            state = {key: value for key, value in state.items() if value is models[only]}
            state |= {
                key: value
                for key, value in self.tree(*models, *asked).items()
                if value is asked[only]
            }
        dcp.load(state, checkpoint_id=path, no_dist=True)
        options = sd.StateDictOptions(**(FLAT if self.style == "flat" else {}))
        for number, (model, optimizer) in enumerate(zip(self.nets, self.optimizers, strict=True)):
            if only not in (None, number):
                continue
            sd.set_model_state_dict(model, models[number])
            if self.style == "index":
                optimizer.load_state_dict(asked[number])
            else:
                sd.set_optimizer_state_dict(model, optimizer, asked[number], options=options)

    def numbers(self, number: int) -> list[Any]:
        """All tensors of one model and its optimizer, in order, and the learning rate."""
        optimizer = self.optimizers[number]
        slots = [optimizer.state[p][s] for p in self.nets[number].parameters() for s in _SLOTS]
        return [*self.nets[number].parameters(), *slots]


_SLOTS = ("step", "exp_avg", "exp_avg_sq")


def assert_equal(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def saved(tree: str, style: str, path: Path, out: int = 6) -> Job:
    job = Job(tree, style, net(6, "first", "last"), net(out, "first", "last"))
    job.save(path)
    return job


@pytest.mark.parametrize(("tree", "style"), some(list(TREES), ["fqn", "flat"]))
def test_a_rename_in_one_model_leaves_the_other_alone(
    tree: str, style: str, tmp_path: Path
) -> None:
    """Both models have the same names and shapes, so that only object paths tell them apart."""
    job = saved(tree, style, tmp_path / "old")
    root = ROOTS[tree][0]
    rule = rules.literal(f"{root}.first={root}.entry")
    made = oracle.made(tmp_path / "old", tmp_path / "new", Rename((rule,)))
    other = Job(tree, style, net(6, "entry", "last"), net(6, "first", "last"))
    other.load(made)
    for number in (0, 1):
        assert_equal(other.numbers(number), job.numbers(number))
    assert other.optimizers[1].param_groups[0]["lr"] == 0.2


@pytest.mark.parametrize(("tree", "style"), some(list(TREES), ["fqn", "flat"]))
def test_a_drop_takes_the_state_of_its_own_model(tree: str, style: str, tmp_path: Path) -> None:
    job = saved(tree, style, tmp_path / "old")
    edit = Drop((f"{ROOTS[tree][1]}.last",), with_state=True)
    made = oracle.made(tmp_path / "old", tmp_path / "new", edit)
    other = Job(tree, style, net(6, "first", "last"), net(6, "first"))
    other.load(made)
    assert_equal(other.numbers(0), job.numbers(0))
    assert torch.equal(other.nets[1].first.weight, job.nets[1].first.weight)
    mine, theirs = (o.optimizers[1].state for o in (other, job))
    for slot in _SLOTS:
        a, b = mine[other.nets[1].first.bias][slot], theirs[job.nets[1].first.bias][slot]
        assert torch.equal(a, b)


@pytest.mark.parametrize("style", ["fqn", "flat", "index"])
def test_a_select_keeps_one_model_and_its_optimizer(style: str, tmp_path: Path) -> None:
    job = saved("siblings", style, tmp_path / "old")
    made = oracle.made(tmp_path / "old", tmp_path / "new", Select(("disc.*",), with_state=True))
    with open_checkpoint(made) as checkpoint:
        assert {fqn.partition(".")[0] for fqn in checkpoint} == {"disc", "optD"}
    other = Job("siblings", style, net(6, "first", "last"), net(6, "first", "last"))
    other.load(made, only=1)
    assert_equal(other.numbers(1), job.numbers(1))


@pytest.mark.parametrize(("tree", "change"), some(list(TREES), CHANGES))
def test_an_upgrade_names_parameters_as_torch_asks(
    tree: str, change: tuple[str, str], tmp_path: Path
) -> None:
    before, after = change
    job = saved(tree, before, tmp_path / "old", out=1)
    edit = Upgrade(torch="2.13", optimizer_keys=after)
    made = oracle.made(tmp_path / "old", tmp_path / "new", edit)
    other = Job(tree, after, net(6, "first", "last"), net(1, "first", "last"))
    other.load(made)
    for number in (0, 1):
        assert_equal(other.numbers(number), job.numbers(number))


def test_indices_of_models_with_equal_shapes_are_told_by_their_paths(tmp_path: Path) -> None:
    saved("parents", "index", tmp_path / "old")
    with open_checkpoint(tmp_path / "old") as checkpoint:
        view = OptimizerView(checkpoint)
        shares = {share.root: share.pairing for share in view.shares}
    assert {root: pairing.model for root, pairing in shares.items()} == {
        "a.opt": "a.net",
        "b.opt": "b.net",
    }
    assert shares["a.opt"].evidence == "object paths: a common parent"


def ambiguous(path: Path, style: str = "fqn") -> Path:
    """Two models that nothing tells apart, and optimizers with names that are of no help."""
    job = Job("siblings", style, net(6, "first", "last"), net(6, "first", "last"))
    generator, discriminator, one, two = job.states().values()
    state = {"actor": generator, "critic": discriminator, "one": one, "two": two}
    dcp.save(state, checkpoint_id=path, no_dist=True)
    return path


def test_what_cannot_be_told_is_said_and_refused(
    tmp_path: Path, opened: Callable[[Path], Draft]
) -> None:
    draft = opened(ambiguous(tmp_path / "old"))
    view = OptimizerView(draft)
    assert [share.pairing.candidates for share in view.shares] == [("actor", "critic")] * 2
    assert "'one' is ambiguous between 'actor' and 'critic'" in view.notes[0]
    assert view.verdict == "complete"
    rule = rules.literal("actor.first=actor.entry")
    with pytest.raises(Refused, match="'one' is ambiguous between 'actor' and 'critic'") as error:
        rename(draft, [rule])
    assert error.value.hint == "say which: --optimizer-of one=actor"
    for edit in (
        Drop(("actor.first",), with_state=True),
        Select(("actor",), None, True),
    ):
        with pytest.raises(Refused, match="ambiguous"):
            edit.apply(draft, open_checkpoint)


def test_an_option_decides(tmp_path: Path) -> None:
    old = ambiguous(tmp_path / "old")
    pairs = (("one", "actor"), ("two", "critic"))
    edit = Rename((rules.literal("critic.first=critic.entry"),), optimizer_of=pairs)
    with open_checkpoint(oracle.made(old, tmp_path / "new", edit)) as made:
        assert "two.state.entry.weight.exp_avg" in made
        assert "one.state.first.weight.exp_avg" in made
        assert made["two.param_groups.0.params"].value[0] == "entry.weight"


def test_one_answer_decides_the_other(tmp_path: Path, opened: Callable[[Path], Draft]) -> None:
    """A parameter has one optimizer: where one takes a model, the other's is the one left."""
    draft = with_pairs(opened(ambiguous(tmp_path / "old")), [("one", "critic")])
    told = {share.root: share.pairing.model for share in OptimizerView(draft).shares}
    assert told == {"one": "critic", "two": "actor"}


def test_a_decision_follows_a_model_that_moves(
    tmp_path: Path, opened: Callable[[Path], Draft]
) -> None:
    draft = with_pairs(opened(ambiguous(tmp_path / "old")), [("one", "actor"), ("two", "critic")])
    made = rename(
        draft, [rules.prefix("actor.=policy."), rules.literal("policy.first=policy.entry")]
    ).draft
    assert made.optimizer_of == {"one": "policy", "two": "critic"}
    assert "one.state.entry.weight.exp_avg" in made.entries


@pytest.mark.parametrize(
    ("pair", "message"),
    [(("three", "actor"), "no optimizer 'three'"), (("one", "value"), "no model 'value'")],
)
def test_names_that_are_not_there_are_refused(
    tmp_path: Path, opened: Callable[[Path], Draft], pair: tuple[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        with_pairs(opened(ambiguous(tmp_path / "old")), [pair])


def test_a_name_that_both_models_have_is_refused_as_such(
    tmp_path: Path, opened: Callable[[Path], Draft]
) -> None:
    saved("siblings", "fqn", tmp_path / "old")
    with pytest.raises(Refused, match="names parameters of several models"):
        rename(opened(tmp_path / "old"), [rules.literal("first=entry")])


def test_two_optimizers_share_one_model(tmp_path: Path) -> None:
    """Muon for matrices beside AdamW for the rest, in a list of optimizers."""
    model = net(6, "first", "last")
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizers = [torch.optim.SGD(matrices, lr=0.1, momentum=0.9), torch.optim.AdamW(vectors)]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    named = {id(p): name for name, p in model.named_parameters()}

    def by_name(optimizer: Any) -> dict[str, Any]:
        state = {named[id(p)]: dict(slots) for p, slots in optimizer.state.items()}
        groups = [
            {**group, "params": [named[id(p)] for p in group["params"]]}
            for group in optimizer.param_groups
        ]
        return {"state": state, "param_groups": groups}

    state = {"net": model.state_dict(), "optims": [by_name(o) for o in optimizers]}
    dcp.save(state, checkpoint_id=tmp_path / "old", no_dist=True)
    rule = rules.literal("net.first=net.entry")
    made = oracle.made(tmp_path / "old", tmp_path / "new", Rename((rule,)))
    with open_checkpoint(made) as checkpoint:
        assert "optims.0.state.entry.weight.momentum_buffer" in checkpoint
        assert "optims.1.state.entry.bias.exp_avg" in checkpoint
        assert checkpoint["optims.1.param_groups.0.params"].value == ["entry.bias", "last.bias"]
        view = OptimizerView(checkpoint)
        assert {share.pairing.model for share in view.shares} == {"net"}
        assert (view.verdict, view.frozen) == ("complete", ())


def test_an_optimizer_without_state_leaves_the_others_verdict(tmp_path: Path) -> None:
    """A warm-up in which one of two optimizers has not stepped yet."""
    job = Job("siblings", "fqn", net(6, "first", "last"), net(1, "first", "last"))
    state = job.states()
    state["optD"] = {**state["optD"], "state": {}}
    dcp.save(state, checkpoint_id=tmp_path / "old", no_dist=True)
    with open_checkpoint(tmp_path / "old") as checkpoint:
        view = OptimizerView(checkpoint)
        verdicts = {share.root: share.verdict for share in view.shares}
        assert (verdicts, view.verdict) == ({"optG": "complete", "optD": "absent"}, "partial")


def test_an_upgrade_refuses_indices_that_two_models_fit(
    tmp_path: Path, opened: Callable[[Path], Draft]
) -> None:
    draft = opened(ambiguous(tmp_path / "old", "index"))
    with pytest.raises(Refused, match="ambiguous between 'actor' and 'critic'"):
        upgrade(draft, Upgrade("2.13", optimizer_keys="fqn"))


def test_master_weights_tell_whose_optimizer_it_is(
    tmp_path: Path, opened: Callable[[Path], Draft]
) -> None:
    """Where names and paths are of no help, state that repeats the weights is."""
    job = Job("siblings", "fqn", net(6, "first", "last"), net(6, "first", "last"))
    generator, discriminator, one, two = job.states().values()
    for optimizer, model in ((one, discriminator), (two, generator)):
        for name, slots in optimizer["state"].items():
            slots["master_param"] = model[name].detach().clone()
    state = {"actor": generator, "critic": discriminator, "one": one, "two": two}
    dcp.save(state, checkpoint_id=tmp_path / "old", no_dist=True)
    shares = OptimizerView(opened(tmp_path / "old")).shares
    assert {share.root: share.pairing.model for share in shares} == {
        "one": "critic",
        "two": "actor",
    }
    assert {share.pairing.evidence for share in shares} == {"checksums"}


@pytest.mark.parametrize("style", ["fqn", "index"])
def test_a_resume_of_both_models_is_told_from_one_of_neither(style: str, tmp_path: Path) -> None:
    from dcpctl.training import UnresumedState, assert_resumed

    job = saved("siblings", style, tmp_path / "old")
    assert_resumed(job.nets, job.optimizers, tmp_path / "old")
    assert_resumed(job.nets[::-1], job.optimizers[::-1], tmp_path / "old")
    assert_resumed(job.nets[1], job.optimizers[1], tmp_path / "old")
    other = Job("siblings", style, job.nets[0], net(6, "first", "last"))
    with pytest.raises(UnresumedState, match=r"disc\.first\.weight"):
        assert_resumed(other.nets, other.optimizers, tmp_path / "old")
