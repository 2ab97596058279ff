from __future__ import annotations

from typing import Any

import pytest

from dcpctl.model.optimizer.pairing import Claim, Model, Pairing, pair
from dcpctl.model.optimizer.parameters import ModelParameter

SHAPES = {"a.weight": (4, 2), "a.bias": (4,), "b.weight": (3, 4), "b.bias": (3,)}
OTHER = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (1, 4), "b.bias": (1,)}


def model(root: str, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Model:
    fqns = {name: f"{root}.{name}".lstrip(".") for name in shapes}
    parameters = tuple(ModelParameter(n, fqns[n], shape) for n, shape in shapes.items())
    return Model(root, fqns, parameters)


def named(root: str, shapes: dict[str, tuple[int, ...]] = SHAPES, *, state: bool = True) -> Claim:
    return Claim(root, frozenset(shapes), shapes if state else {})


def indexed(root: str, shapes: dict[str, tuple[int, ...]] = SHAPES, *, state: bool = True) -> Claim:
    known = {str(n): shape for n, shape in enumerate(shapes.values())} if state else {}
    return Claim(root, shapes=known, groups=(tuple(str(n) for n in range(len(shapes))),))


def told(claims: list[Claim], models: list[Model], **given: Any) -> dict[str, str | None]:
    return {p.optimizer: p.model for p in pair(claims, models, **given)}


def one(claims: list[Claim], models: list[Model], **given: Any) -> Pairing:
    return pair(claims, models, **given)[0]


def test_the_only_model_needs_no_more_evidence() -> None:
    assert one([named("o")], [model("m")]) == Pairing("o", "m", "names")
    assert one([indexed("o")], [model("")]).model == ""


@pytest.mark.parametrize("claim", [named, indexed])
def test_shapes_rule_a_model_out(claim: Any) -> None:
    claims, models = [claim("o", SHAPES), claim("p", OTHER)], [model("x"), model("y", OTHER)]
    assert told(claims, models) == {"o": "x", "p": "y"}
    assert "shapes" in one(claims, models).evidence


def test_names_rule_a_model_out_whatever_its_path() -> None:
    short = {name: SHAPES[name] for name in ("a.weight", "a.bias")}
    models = [model("t.net", short), model("elsewhere")]
    assert one([named("t.o")], models).model == "elsewhere"


@pytest.mark.parametrize(
    ("optimizers", "models", "evidence"),
    [
        (("a.opt", "b.opt"), ("a.net", "b.net"), "a common parent"),
        (("trainers.0.o", "trainers.1.o"), ("trainers.0.m", "trainers.1.m"), "a common parent"),
        (("optimizers.gen", "optimizers.disc"), ("models.gen", "models.disc"), "words in common"),
        (("optimizers.0", "optimizers.1"), ("models.0", "models.1"), "words in common"),
        (("actor_optimizer", "critic_optimizer"), ("actor", "critic"), "words in common"),
        (("optG", "optD"), ("netG", "netD"), "words in common"),
        (("gen_opt", "disc_opt"), ("netG", "netD"), "words in common"),
        (("optim_g", "optim_d"), ("generator", "discriminator"), "words in common"),
        (("app.optim", "app.ema_optim"), ("app.net", "app.net_ema"), "words in common"),
    ],
)
@pytest.mark.parametrize("claim", [named, indexed])
@pytest.mark.parametrize("state", [True, False])
def test_object_paths_tell_models_of_equal_names_and_shapes_apart(
    claim: Any,
    state: bool,
    optimizers: tuple[str, str],
    models: tuple[str, str],
    evidence: str,
) -> None:
    claims = [claim(root, state=state) for root in optimizers]
    assert told(claims, [model(root) for root in models]) == dict(
        zip(optimizers, models, strict=True)
    )
    assert one(claims, [model(root) for root in models]).evidence.endswith(evidence)


def test_a_model_without_a_word_of_its_own_is_that_of_the_plain_optimizer() -> None:
    models = [model("net"), model("target_net")]
    assert one([named("optimizer")], models).model == "net"
    assert one([named("optimizer")], [model(""), model("ema.params")]).model == ""


def test_where_nothing_decides_it_is_ambiguous() -> None:
    models = [model("actor"), model("critic")]
    found = one([named("one")], models)
    assert (found.model, found.candidates, found.ambiguous) == (None, ("actor", "critic"), True)
    assert found.sentence == "optimizer 'one' is ambiguous between 'actor' and 'critic'"
    assert told([named("one"), named("two")], models) == {"one": None, "two": None}


def test_a_parameter_has_one_optimizer() -> None:
    models = [model("actor"), model("critic", OTHER)]
    claims = [named("one"), named("two", state=False)]
    assert told(claims, models) == {"one": "actor", "two": "critic"}
    halves = [
        named("one", {"a.weight": (4, 2), "a.bias": (4,)}),
        named("two", {"b.weight": (3, 4), "b.bias": (3,)}, state=False),
    ]
    assert told(halves, models) == {"one": "actor", "two": None}


def test_who_says_so_decides() -> None:
    models = [model("actor"), model("critic")]
    decided = {"one": "critic"}
    found = pair([named("one"), named("two")], models, decided=decided)
    assert [p.model for p in found] == ["critic", "actor"]
    assert found[0].evidence == "--optimizer-of"


def test_what_shows_that_it_is_a_copy_comes_last() -> None:
    models = [model("x"), model("y")]
    assert one([named("o")], models, copied=lambda root, of: (root, of) == ("y", "x")).model == "x"
    same = one([named("o")], models, same_bytes=lambda optimizer, root: root == "y")
    assert (same.model, same.evidence) == ("y", "checksums")


def test_an_optimizer_of_none_of_the_models() -> None:
    models = [model("x"), model("y", OTHER)]
    found = one([named("o", {"c.weight": (2, 2)})], models)
    assert (found.model, found.ambiguous) == (None, False)
    assert found.sentence == "optimizer 'o' belongs to none of the models here"


def test_damaged_state_does_not_lose_its_model() -> None:
    wrong = {**SHAPES, "a.weight": (9, 9)}
    assert one([named("o", wrong)], [model("x")]).model == "x"
