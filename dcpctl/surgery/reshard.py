"""`reshard`: the same values on another number of ranks, or on another mesh."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dcpctl.errors import UsageError, listed, quote
from dcpctl.surgery.options import OPTIMIZER_OF, Kind, Option, given, number, of_type, path
from dcpctl.surgery.verbs import Open, Verb

if TYPE_CHECKING:
    from dcpctl.model.draft import Draft
    from dcpctl.surgery.layouts.placements import Placement
    from dcpctl.surgery.outcome import Outcome


def parse_mesh(text: str) -> dict[str, int]:
    """Read `fsdp=4,tp=2`.

    Raises:
        UsageError: it is not that.
    """
    mesh: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = (piece.strip() for piece in part.partition("="))
        if not axis or axis in mesh or not size.isdecimal() or not int(size[:9]) > 0:
            raise UsageError(f"{quote(text)} is not a mesh", hint="such as fsdp=4,tp=2")
        mesh[axis] = int(size[:9])
    return mesh


def _mesh(value: Any, base: Path) -> Any:
    whole = isinstance(value, dict) and all(
        isinstance(size, int) and not isinstance(size, bool) for size in value.values()
    )
    if not whole:
        raise ValueError("is no table of axes and sizes")
    return value


def _read_placements(path: Path) -> dict[str, Any]:
    from dcpctl.surgery.layouts.placements import read_placements

    return read_placements(path)


@dataclass(frozen=True, slots=True)
class Reshard(Verb):
    """Lay a checkpoint out for another number of ranks or another mesh; values stay bit for bit.

    The chunks are those that FSDP2 and DTensor would write, one file a rank. torch loads a
    checkpoint of any layout; one that fits is loaded faster, and some loaders accept no other.
    Under torchrun, on one machine or several, the ranks share the work: torchrun --nnodes 2
    --nproc-per-node 4 ... -m dcpctl reshard SRC DST --world-size 64.

    A file of placements says a placement for each axis of the mesh, by glob:
    "*.wo.weight" = ["S(0)", "S(1)"].

    Examples:
      dcpctl reshard sample_checkpoints/healthy/step-8500 out/two --world-size 2
      dcpctl reshard sample_checkpoints/healthy/step-8500 out/mesh --mesh fsdp=2,tp=2
      dcpctl reshard out/two out/again --like sample_checkpoints/healthy/step-8500
    """

    verb = "reshard"
    order = 20
    anew = "a reshard rewrites tensors"
    by_options = "one layout can be asked for, and there are several"

    world_size: int | None = given(
        Option(
            ("--world-size", "-n"),
            number(),
            metavar="N",
            help="Ranks, under FSDP2 over all.",
            key="world_size",
            least=1,
        )
    )
    mesh: Mapping[str, int] | None = given(
        Option(
            ("--mesh",),
            Kind(
                str,
                parse_mesh,
                _mesh,
                {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
            ),
            metavar="AXIS=SIZE,...",
            help="A device mesh: fsdp=4,tp=2.",
            key="mesh",
        )
    )
    placements: Mapping[str, Any] | None = given(
        Option(
            ("--placements",),
            Kind(Path, _read_placements, of_type(dict), {"type": "object"}),
            metavar="FILE",
            help="Globs to placements, such as S(0) and R; TOML or JSON.",
            key="placements",
        )
    )
    like: Path | None = given(
        Option(
            ("--like",),
            path(),
            metavar="PATH",
            help="A checkpoint whose layout to copy.",
            key="like",
        )
    )
    optimizer_of: tuple[tuple[str, str], ...] = given(OPTIMIZER_OF)

    def apply(self, draft: Draft, open_: Open) -> Outcome:
        """Make the edit, as `layouts.layout.reshard` does."""
        from dcpctl.surgery.layouts.layout import ReshardOptions, kept_by_rank, laid_out
        from dcpctl.surgery.outcome import Change, Outcome

        like = None if self.like is None else open_(self.like)
        options = ReshardOptions(self.world_size, self.mesh, self.placements, like)
        made, assumed = laid_out(draft, options)
        ranks = made.world_size or 0
        note = f"laid out for {ranks:,} rank{'' if ranks == 1 else 's'}"
        notes = [
            f"assumed {_on_axes(self.mesh or (), chosen)} for {listed(names, 3)}"
            for chosen, names in assumed.items()
        ]
        if notes:
            notes.append(
                "a mesh does not say how a job splits its tensors: --like PATH copies the layout "
                "of a save of that job, --placements FILE says it by name"
            )
        notes += kept_by_rank(draft, ranks)
        warnings = tuple(_partial_state(draft))
        return Outcome(made, (Change("resharded", "", note),), tuple(notes), warnings)


def _partial_state(draft: Draft) -> Iterator[str]:
    """What a new layout does not give back: state of which a part is not in the source."""
    from dcpctl.model.optimizer.verdict import PARTIAL
    from dcpctl.model.optimizer.view import OptimizerView

    for source in draft.sources:
        view = OptimizerView(source)
        if view.verdict == PARTIAL:
            yield f"{view.sentence} Another layout does not bring it back."


def _on_axes(axes: Iterable[str], placements: Iterable[Placement]) -> str:
    return ", ".join(f"{axis} {placed}" for axis, placed in zip(axes, placements, strict=True))
