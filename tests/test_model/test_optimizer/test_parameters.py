from __future__ import annotations

from dcpctl.model.optimizer.parameters import (
    ModelParameter,
    name_indices,
    stateless_modules,
    tied_names,
)

MATRIX, VECTOR = (4, 4), (4,)


def model(**shapes: tuple[int, ...]) -> list[ModelParameter]:
    return [ModelParameter(name, f"model.{name}", shape) for name, shape in shapes.items()]


def test_one_group_in_the_models_order() -> None:
    found = name_indices([["0", "1", "2"]], {"0": MATRIX}, model(a=MATRIX, b=VECTOR, c=MATRIX))
    assert found == {"0": "a", "1": "b", "2": "c"}


def test_two_groups_are_taken_apart_by_shape() -> None:
    shapes = {"0": MATRIX, "1": MATRIX, "2": VECTOR, "3": VECTOR}
    found = name_indices(
        [["0", "1"], ["2", "3"]], shapes, model(a=MATRIX, n=VECTOR, b=MATRIX, m=VECTOR)
    )
    assert found == {"0": "a", "1": "b", "2": "n", "3": "m"}


def test_an_unknown_shape_fits_where_nothing_else_does() -> None:
    shapes = {"0": MATRIX, "2": VECTOR}
    found = name_indices([["0", "1"], ["2"]], shapes, model(a=MATRIX, n=VECTOR, b=MATRIX))
    assert found == {"0": "a", "1": "b", "2": "n"}


def test_several_ways_name_nothing() -> None:
    shapes = {"0": MATRIX, "1": MATRIX}
    assert name_indices([["0"], ["1"]], shapes, model(a=MATRIX, b=MATRIX)) == {}
    # One of two equal layers is frozen: the indices do not tell which.
    assert name_indices([["0"]], {"0": MATRIX}, model(a=MATRIX, b=MATRIX)) == {}


def test_a_frozen_parameter_that_is_told_by_its_shape() -> None:
    assert name_indices([["0"]], {"0": MATRIX}, model(a=VECTOR, b=MATRIX)) == {"0": "b"}


def test_shapes_that_do_not_fit_the_model_name_nothing() -> None:
    assert name_indices([["0"]], {"0": (9, 9)}, model(a=MATRIX)) == {}
    assert name_indices([["0", "1"]], {}, model(a=MATRIX)) == {}


def test_a_second_name_of_a_tied_tensor_is_left_out() -> None:
    names = model(**{"embed.weight": (16, 4), "w": MATRIX, "lm_head.weight": (16, 4)})
    assert tied_names(names) == {"lm_head.weight": "embed.weight"}
    found = name_indices([["0", "1"]], {"0": (16, 4), "1": MATRIX}, names)
    assert found == {"0": "embed.weight", "1": "w"}


def test_tied_needs_an_embedding_and_equal_shapes() -> None:
    assert tied_names(model(**{"a.output.weight": MATRIX, "b.output.weight": MATRIX})) == {}
    assert tied_names(model(**{"embed.weight": (16, 4), "lm_head.weight": (17, 4)})) == {}
    shared = ["shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    assert tied_names(model(**dict.fromkeys(shared, (16, 4)))) == {
        shared[1]: shared[0],
        shared[2]: shared[0],
    }


def test_too_many_ways_end_the_search() -> None:
    groups = [[str(10 * g + i) for i in range(10)] for g in range(8)]
    names = {f"p{i}": MATRIX for i in range(80)}
    shapes = {index: MATRIX for group in groups for index in group}
    assert name_indices(groups, shapes, model(**names)) == {}


def test_whole_modules_without_state() -> None:
    names = ["layers.0.a.w", "layers.0.b.w", "layers.1.a.w", "layers.1.b.w", "head.w"]
    without = frozenset({"layers.0.a.w", "layers.0.b.w", "layers.1.a.w", "head.w"})
    modules = stateless_modules(names, without)
    assert modules == {"layers.0.a.w": "layers.0", "layers.0.b.w": "layers.0"}


def test_neither_many_parameters_nor_deep_names_take_long() -> None:
    names = [f"layers.{i}.w" for i in range(50_000)] + ["a" + ".a" * 20_000 + f".{i}" for i in "xy"]
    without = frozenset(names[1:])
    assert len(stateless_modules(names, without)) == 2
    groups = [[str(i)] for i in range(10_000)]
    assert name_indices(groups, {}, model(**{f"p{i}": MATRIX for i in range(10_000)})) == {}
