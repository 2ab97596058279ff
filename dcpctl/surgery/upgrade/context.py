"""What every step of an upgrade is told, and what they look at together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model.draft import Draft
from dcpctl.model.optimizer.catalogue import catalogue, version_key
from dcpctl.model.optimizer.view import OptimizerView


@dataclass(slots=True)
class Context:
    """The choices of one upgrade.

    Attributes:
        torch: the target release, such as `2.13`.
        optimizer: class name in torch.optim that the user gave, or None.
        optimizer_keys: `fqn`, `index`, `flat` or None.
        fill_missing_state: `zeros` or None.
        wrappers: as `Upgrade` has it.
    """

    torch: str
    optimizer: str | None = None
    optimizer_keys: str | None = None
    fill_missing_state: str | None = None
    wrappers: bool | None = None
    _view: tuple[Draft, OptimizerView] | None = field(default=None, repr=False)

    @property
    def release(self) -> tuple[int, ...]:
        """Major and minor number of the target."""
        return version_key(self.torch)[:2]

    @property
    def catalogued(self) -> str:
        """The newest release in the catalogue of optimizers that is no newer than the target."""
        return catalogue().release_for(self.torch)

    @property
    def flattens(self) -> bool:
        """Whether the target opens all mappings (2.4 and later) or keeps plain ones whole."""
        return self.release >= (2, 4)

    def view(self, draft: Draft) -> OptimizerView:
        """The optimizer view of a draft; made once as long as the draft stays the same."""
        if self._view is None or self._view[0] is not draft:
            self._view = (draft, OptimizerView(draft))
        return self._view[1]


def stored_parts(draft: Draft) -> Iterator[StoredCheckpoint]:
    """What the metadata of each directory that the draft is made of says."""
    for source in draft.sources:
        for part in source.parts:
            yield part.stored
