"""What the rules of one check share: the checkpoint, the options and what was read already."""

from __future__ import annotations

import math
from functools import cached_property

from dcpctl import torch_bridge
from dcpctl.check import words
from dcpctl.check.estimate import Estimate, judge
from dcpctl.check.history import History, Save
from dcpctl.check.history_moments import Compared, compare_moments
from dcpctl.check.items import Items, collect_items, part_of
from dcpctl.check.moment_pairs import MomentPairs, read_pairs
from dcpctl.check.moments import Moments, read_moments
from dcpctl.check.options import CheckOptions
from dcpctl.check.registry import CannotRun, NotAsked, rules_of
from dcpctl.check.scan import Scan, scan_items
from dcpctl.check.tiling import Tiling, tile
from dcpctl.check.weight_pairs import WeightPairs, compare_weights
from dcpctl.errors import DcpctlError, quote
from dcpctl.model.checkpoint import Checkpoint, Part
from dcpctl.model.entry import TensorEntry
from dcpctl.model.loading import LoadPreview, predict_load
from dcpctl.model.optimizer.view import OptimizerView
from dcpctl.model.positions import Position, position_of
from dcpctl.model.saves import save_around


class Run:
    """One check of one checkpoint.

    Args:
        checkpoint: opened.
        options: what was asked.
        against: the save of the same run that came before, opened; None to look at this one alone.
        newest: it is the newest save of its run.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: CheckOptions,
        against: Checkpoint | None = None,
        *,
        newest: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.options = options
        self.against = against
        self.newest = newest
        self.scanned: Scan | None = None
        self._moments: Moments | None = None
        self._pairs: MomentPairs | None = None
        self.compared_moments: Compared | None = None
        self._noted: dict[str, None] = {}

    @cached_property
    def target(self) -> str | None:
        """The torch release that the checkpoint shall load in; None if none is known."""
        return self.options.torch or torch_bridge.installed_version()

    @cached_property
    def optimizer(self) -> OptimizerView:
        """What the checkpoint says of its optimizer."""
        return OptimizerView(self.checkpoint)

    @cached_property
    def preview(self) -> LoadPreview | None:
        """What a run like `options.like` would get of the checkpoint; None if none is named."""
        like = self.options.like
        if like is None:
            return None
        return predict_load(
            like.asked,
            self.checkpoint,
            ignore=self.options.may_skip,
            torch=self.target,
            paths=like.paths,
        )

    @cached_property
    def history(self) -> History | None:
        """The earlier save and this one; None where there is none to compare with."""
        pair = self._pair
        return None if pair is None or pair.other_shapes else pair

    @cached_property
    def _pair(self) -> History | None:
        if self.against is None:
            return None
        return History(
            Save(self.against, OptimizerView(self.against)),
            Save(self.checkpoint, self.optimizer),
            self.newest,
        )

    @property
    def of_another_model(self) -> History | None:
        """The earlier save and this one, where that one is of another model."""
        return self._pair if self.history is None else None

    @cached_property
    def position(self) -> Position | None:
        """What the name of the save's directory says of its place in the run."""
        return position_of(save_around(self.checkpoint.path).name)

    def note(self, sentence: str) -> None:
        """Add to what the reader must know of the check."""
        self._noted[sentence] = None

    def since(self) -> History:
        """Return the earlier save and this one, for a rule that compares them.

        Raises:
            NotAsked: there is no earlier save.
            CannotRun: nor is there one, and rules were selected by name.
        """
        if self.history is not None:
            return self.history
        if self._pair is not None:
            raise NotAsked(f"{self._pair.earlier.name} is of another model")
        if self.options.select:
            raise CannotRun("there is no earlier save to compare with, which --against names")
        raise NotAsked

    def runs(self, rule_id: str) -> bool:
        """Whether a rule is among those that this check runs."""
        return any(rule.id == rule_id for rule in rules_of(self.options))

    @property
    def compared(self) -> Compared | None:
        """The second moments of both saves; None where it is unknown how they should differ."""
        steps = None if self.history is None else self.history.steps
        if self.compared_moments is None and self.history is not None and steps is not None:
            whole = self.options.verify_data or self.options.values
            self.compared_moments = compare_moments(self.history, steps, whole=whole)
        return self.compared_moments

    @cached_property
    def restart(self) -> Estimate | None:
        """What the moments say of a restart since the earlier save; None where they show none."""
        if self.history is None or self.compared is None:
            return None
        return judge(self.compared.tallies, self.history.earlier.step or math.inf)

    @cached_property
    def weights(self) -> WeightPairs:
        """The trained weights of both saves; none where there is no earlier one."""
        if self.history is None:
            return WeightPairs()
        whole = self.options.verify_data or self.options.values
        return compare_weights(self.history, whole=whole)

    @staticmethod
    def is_regular(entry: TensorEntry) -> bool:
        """Whether an entry's chunks have as many dimensions as its shape says."""
        dims = len(entry.shape)
        chunks = entry.chunks
        return not len(chunks) or chunks.offsets.shape[1] == chunks.sizes.shape[1] == dims

    @cached_property
    def unsound(self) -> dict[str, Tiling]:
        """How the chunks lie of each tensor that they do not tile."""
        found = {}
        sound: set[tuple[tuple[int, ...], bytes, bytes]] = set()
        for fqn, entry in self.checkpoint.tensors.items():
            if not self.is_regular(entry) or min(entry.shape, default=0) < 0:
                continue
            # The layers of a model repeat a few layouts.
            chunks = entry.chunks
            layout = (entry.shape, chunks.offsets.tobytes(), chunks.sizes.tobytes())
            if layout not in sound:
                tiling = tile(entry.shape, entry.chunks)
                if tiling.sound:
                    sound.add(layout)
                else:
                    found[fqn] = tiling
        return found

    @cached_property
    def items(self) -> Items:
        """Every storage item, in file order."""
        return collect_items(self.checkpoint)

    @property
    def scan(self) -> Scan:
        """What is in the storage items: all of them, or the sample; read when first asked for."""
        if self.scanned is None:
            self.scanned = scan_items(self.checkpoint, self.items, self.options)
        return self.scanned

    @property
    def displaced(self) -> dict[int, int]:
        """Numbers of files to those of the ones whose content they hold; scans if need be."""
        return self.scan.displaced

    @property
    def moments(self) -> Moments:
        """The optimizer's second moments: all numbers, or the sample; read when asked for."""
        if self._moments is None:
            self._moments = read_moments(self.checkpoint, self.optimizer, self.options)
        return self._moments

    @property
    def pairs(self) -> MomentPairs:
        """First and second moments side by side, as `moments`; read when asked for."""
        if self._pairs is None:
            earlier = None if self.history is None else self.history.earlier.view
            self._pairs = read_pairs(self.checkpoint, self.optimizer, self.options, earlier)
        return self._pairs

    @cached_property
    def closed(self) -> dict[int, DcpctlError]:
        """Numbers of the shard files that cannot be opened, and why."""
        found: dict[int, DcpctlError] = {}
        for part in self.checkpoint.parts:
            for number, name in enumerate(part.stored.files, start=part.first_file):
                if self.checkpoint.files[number].size is None:
                    try:
                        part.storage.size(name)
                    except DcpctlError as error:
                        found[number] = error
        return found

    def part_of(self, file: int) -> Part:
        """The part that a shard file belongs to."""
        return part_of(self.checkpoint, file)

    def is_blob(self, file: int) -> bool:
        """Whether a shard file holds safetensors, whose header belongs to no item."""
        return self.part_of(file).stored.form.safetensors

    def notes(self) -> tuple[str, ...]:
        """What the reader must know of the check: how much was read of what was looked at."""
        said = []
        if self.scanned is not None and self.scanned.items:
            said.append(self.scanned.note)
        moments = self._moments
        if moments is not None:
            said.append(moments.note)
        pairs = self._pairs
        if pairs is not None and pairs.looked < pairs.expected:
            said.append(
                f"First and second moments were compared in {pairs.looked:,} of "
                f"{words.count(pairs.expected, 'chunk')}. --values compares them all."
            )
        if self.compared_moments is not None and self.history is not None:
            said.append(self.compared_moments.note(self.history, shown=self.restart is not None))
        if self.options.like is not None:
            said.append(f"Loads were predicted for a run like {quote(self.options.like.path)}.")
        return (*filter(None, said), *self._noted)
