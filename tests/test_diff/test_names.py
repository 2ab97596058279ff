"""Names that are edited alike, found again and told as rules."""

from __future__ import annotations

import pytest

from dcpctl.diff.edit_rules import replaced_words, rules_of
from dcpctl.diff.key_groups import group_keys, shares
from dcpctl.model.name_edits import Edit, distance, edits_between
from dcpctl.model.rename_rules import Renaming
from dcpctl.model.renames import renamed_names
from dcpctl.reports.diff_keys import command_of


def tokens(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


@pytest.mark.parametrize(
    ("old", "new", "edits"),
    [
        ("layers.0.w", "blocks.0.w", [Edit(("layers",), ("blocks",), ())]),
        ("a.wq.weight", "a.q_proj.weight", [Edit(("wq",), ("q_proj",))]),
        ("_orig_mod.a._orig_mod.w", "a.w", [Edit(("_orig_mod",), ())] * 2),
        ("layers.3.w", "layers.3._orig_mod.w", [Edit((), ("_orig_mod",), ("layers", "#"))]),
        ("layers.3.w", "layers.7.w", [Edit((), (), ("layers",), 4)]),
        ("w", "model.w", [Edit((), ("model",), ())]),
        ("a.b", "a.b", []),
    ],
)
def test_edits_between(old: str, new: str, edits: list[Edit]) -> None:
    found = edits_between(tokens(old), tokens(new))
    assert found == edits
    made = tokens(old)
    for edit in found:
        made = edit.apply(made) or made
    assert made == tokens(new)
    assert distance(tokens(old), tokens(new)) == 0 or edits


def test_an_edit_is_not_about_every_name() -> None:
    assert Edit(("wq",), ("q",)).apply(tokens("a.wk.weight")) is None
    assert Edit((), ("x",), ("layers", "#")).apply(tokens("blocks.0.w")) is None
    assert Edit((), (), ("layers",), -4).apply(tokens("layers.3.w")) is None
    assert Edit((), (), ("layers",), 1).apply(tokens("layers.norm.w")) is None


LAYERS = range(4)


def model(layer: str, *names: str, first: int = 0) -> dict[str, tuple[int, ...]]:
    shapes = [(8, 8), (8, 8), (8, 4), (8,)]
    return {
        f"{layer}.{number + first}.{name}": shape
        for number in LAYERS
        for name, shape in zip(names, shapes, strict=True)
    }


OLD = model("layers", "attn.wq.weight", "attn.wk.weight", "mlp.up.weight", "norm.weight")


@pytest.mark.parametrize(
    "new",
    [
        model("blocks", "attn.wq.weight", "attn.wk.weight", "mlp.up.weight", "norm.weight"),
        model("layers", "self_attn.q.weight", "self_attn.k.weight", "ffn.up.weight", "ln.weight"),
        model("layers", "attn.wq.kernel", "attn.wk.kernel", "mlp.up.kernel", "norm.kernel"),
        model(
            "layers", "attn.wq.weight", "attn.wk.weight", "mlp.up.weight", "norm.weight", first=9
        ),
        model("model.h", "self.q_proj.kernel", "self.k_proj.kernel", "ffn.w.kernel", "ln.scale"),
        model("h", "attn.wq.weight", "attn.wk.weight", "mlp.up.weight", "norm.weight"),
    ],
    ids=["blocks", "inner", "leaves", "renumbered", "another library", "h"],
)
def test_systematic_renames_are_found(new: dict[str, tuple[int, ...]]) -> None:
    wanted = dict(zip(OLD, new, strict=True))
    assert renamed_names(OLD, new) == wanted
    assert renamed_names(new, OLD) == {b: a for a, b in wanted.items()}


def test_what_has_another_shape_is_not_renamed() -> None:
    assert renamed_names({"a.x": (2, 2), "b.x": (3,)}, {"a.y": (2, 3), "b.y": (4,)}) == {}


def test_one_parameter_of_its_shape_alone_is_renamed() -> None:
    assert renamed_names({"head.weight": (9, 2)}, {"lm_head.weight": (9, 2)}) == {
        "head.weight": "lm_head.weight"
    }


def test_what_does_not_come_out_even_is_none() -> None:
    other = model("h", "q.kernel", "k.kernel", "ffn.kernel", "ln.scale")
    assert len(renamed_names(OLD, other)) == len(OLD)
    del other["h.3.ffn.kernel"]
    assert "h.0.ffn.kernel" not in renamed_names(OLD, other).values()


def test_what_may_be_several_is_none() -> None:
    two = {"head.weight": (9, 2), "tail.weight": (9, 2)}
    assert renamed_names({"lm.weight": (9, 2)}, two) == {}
    assert renamed_names(two, {"lm.weight": (9, 2)}) == {}


@pytest.mark.parametrize(
    ("edit", "names", "words", "arguments"),
    [
        (Edit(("layers",), ("h",), ()), ["layers.#.w"], ("layers", "h"), ("layers=h",)),
        (Edit((), ("x",), ()), ["w"], ("", "x."), ("--prefix", "model.=model.x.")),
        (Edit(("x",), (), ()), ["x.w"], ("x.", ""), ("--prefix", "model.x.=model.")),
        (Edit(("_orig_mod",), ()), ["a._orig_mod.w"], ("_orig_mod.", ""),
         ("--regex", r"\b_orig_mod\.=")),
        (Edit((), ("x",), ("layers", "#")), ["layers.#.w"], ("layers.N.", "layers.N.x."),
         ("--regex", r"^(model\.layers\.\d+)\.=\1.x.")),
        (Edit((), (), ("layers",), 1), ["layers.0.w", "layers.1.w"], ("layers.N", "layers.N+1"),
         ("layers.1=layers.2", "layers.0=layers.1")),
        (Edit((), (), ("layers",), -2), ["layers.2.w", "layers.3.w"], ("layers.N", "layers.N-2"),
         ("layers.2=layers.0", "layers.3=layers.1")),
    ],
)  # fmt: skip
def test_edits_as_words_and_arguments(
    edit: Edit, names: list[str], words: tuple[str, str], arguments: tuple[str, ...]
) -> None:
    assert replaced_words(edit) == words
    made = rules_of(edit, [tokens(name) for name in names], "model", full=False)
    assert command_of(Renaming(made)) == ("rename", *arguments)


def test_keys_in_groups() -> None:
    everything: dict[str, object] = dict.fromkeys(
        [
            *(f"model.layers.{n}.{name}" for n in range(3) for name in ("w", "b")),
            "model.norm.w",
            *(f"optim.state.{p}.w.{slot}" for p in "abc" for slot in ("exp_avg", "step")),
            "epoch",
        ]
    )

    def words(*fqns: str) -> list[tuple[str, int]]:
        return [(g.words, len(g.keys)) for g in group_keys(fqns, everything)]  # type: ignore[arg-type]

    assert words(*everything) == [("model.*", 7), ("optim.*", 6), ("epoch", 1)]
    assert words("model.layers.1.w", "model.layers.1.b") == [("model.layers.1.*", 2)]
    assert words(*(f"model.layers.{n}.b" for n in range(3))) == [("model.layers.*.b", 3)]
    assert words("model.layers.0.b", "model.layers.2.b") == [("model.layers.0,2.b", 2)]
    assert words(*(f"optim.state.{p}.w.step" for p in "abc")) == [("optim.state.*.step", 3)]
    (found,) = shares(["optim.state.a.w.step"], everything)  # type: ignore[arg-type]
    assert (found.words, len(found.keys), found.of) == ("optim.state.*.step", 1, 3)
