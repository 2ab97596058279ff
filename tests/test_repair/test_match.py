"""Items of a file against a sibling's: one to one, the first ones, both ends, or those certain."""

from __future__ import annotations

import pytest

from dcpctl.repair.found import TENSOR, UNKNOWN, VALUE, Found
from dcpctl.repair.match import ALL, BEGIN, ENDS, NONE, SOME, match_items
from dcpctl.repair.wanted import Owner, Wanted


def found(*sizes: int | str | None) -> list[Found]:
    """Tensors of so many elements; None for an object, `?` for what cannot be read."""
    kinds = {None: VALUE, "?": UNKNOWN}
    return [
        Found(100 * n, 100, TENSOR, "float32", (size,))
        if isinstance(size, int)
        else Found(100 * n, 100, kinds[size])
        for n, size in enumerate(sizes)
    ]


def wanted(*sizes: int | None) -> list[Wanted]:
    return [
        Wanted(100 * n, 100, (Owner(f"k{n}", 0),), VALUE)
        if size is None
        else Wanted(100 * n, 100, (Owner(f"k{n}", 0),), TENSOR, "float32", (size,))
        for n, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("items", [(), (4,), (None, None, 4, 4, 8), (4, "?", 8)])
def test_as_many_as_wanted(items: tuple[int | str | None, ...]) -> None:
    sizes = [4 if item == "?" else item for item in items]
    match = match_items(found(*items), [], wanted(*sizes), whole=True)  # type: ignore[arg-type]
    assert match.how == ALL
    assert match.pairs == tuple((n, n) for n in range(len(items)))


def test_another_order_fits_nowhere() -> None:
    match = match_items(found(None, 8, 4), [], wanted(None, 4, 8), whole=True)
    assert match.how == NONE
    assert "item 2 at byte 100 is float32[8], the sibling's is float32[4]" in match.why


def test_objects_and_tensors_are_told_apart() -> None:
    assert match_items(found(4), [], wanted(None), whole=True).how == NONE
    assert match_items(found(None), [], wanted(4), whole=True).how == NONE


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_file_that_was_cut_off_has_the_first_ones(count: int, whole: bool) -> None:
    match = match_items(found(None, 4, 4, 8)[:count], [], wanted(None, 4, 4, 8), whole=whole)
    assert match.how == BEGIN
    assert match.pairs == tuple((n, n) for n in range(count))


def test_both_ends_around_a_hole() -> None:
    match = match_items(found(None, 4), found(4, 8), wanted(None, 4, 4, 4, 4, 8), whole=False)
    assert match.how == ENDS
    assert match.pairs == ((0, 0), (1, 1), (2, 4), (3, 5))


def test_ends_that_are_unlike_the_siblings() -> None:
    assert match_items(found(8), found(8), wanted(4, 4, 8), whole=False).how == NONE
    assert match_items(found(4), found(4), wanted(4, 4, 8), whole=False).how == NONE


def test_of_fewer_items_only_those_with_one_place_count() -> None:
    match = match_items(found(4, 8, 2, 4), [], wanted(4, 4, 8, 2, 4, 4), whole=True)
    assert match.how == SOME
    assert match.pairs == ((1, 2), (2, 3))
    assert match.doubtful == (0, 1, 4, 5)


def test_fewer_items_with_one_way_to_fit_are_certain() -> None:
    match = match_items(found(2, 8), [], wanted(2, 4, 8), whole=True)
    assert match.how == SOME
    assert match.pairs == ((0, 0), (1, 2))
    assert not match.doubtful


@pytest.mark.parametrize(
    ("front", "whole"), [((4, 4, 8), True), ((4, 8), False)], ids=["an item", "bytes"]
)
def test_more_than_wanted_is_refused(front: tuple[int, ...], whole: bool) -> None:
    assert match_items(found(*front), [], wanted(4, 8), whole=whole).how == NONE
