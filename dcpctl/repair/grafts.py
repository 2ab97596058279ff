"""What is lost, from another checkpoint: a copy of the same save, or another save."""

from __future__ import annotations

from dcpctl.formats.records import StoredBytes, StoredCheckpoint
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.entry import BytesEntry, TensorEntry
from dcpctl.model.sections import classify
from dcpctl.parallel import map_all
from dcpctl.repair.described import is_good
from dcpctl.repair.found import Found, look
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.parts import Key, PartsBin, Place
from dcpctl.repair.remedy import GRAFTED, GRAFTED_OLDER
from dcpctl.repair.survey import REBUILT, Lost, Survey
from dcpctl.repair.wording import count


class Sibling:
    """Another checkpoint, asked for the items that a broken one should have.

    Args:
        checkpoint: the other one.
        survey: of the broken one.
    """

    def __init__(self, checkpoint: Checkpoint, survey: Survey) -> None:
        self.checkpoint = checkpoint
        self._survey = survey
        self._boxes: dict[str, dict[tuple[object, object], int]] = {}

    def place(self, key: Key) -> Place | None:
        """Where it has the same chunk or bytes entry; None if it has none of that form."""
        fqn, row = key
        mine, theirs = self._survey.layout.entries[fqn], self.checkpoint.entries.get(fqn)
        if theirs is None or theirs.stored.encoding != "torch":
            return None
        if theirs.stored.transforms != mine.transforms:
            return None
        if isinstance(mine, StoredBytes) or isinstance(theirs, BytesEntry):
            if not (isinstance(mine, StoredBytes) and isinstance(theirs, BytesEntry)):
                return None
            return self._in_part(theirs.file, theirs.offset, theirs.length)
        if (theirs.shape, theirs.dtype) != (mine.shape, mine.dtype):
            return None
        found = self._row(theirs, mine.chunks[row][:2])
        if found is None:
            return None
        chunk = theirs.chunks[found]
        return self._in_part(chunk.file, chunk.offset, chunk.length)

    def _row(self, theirs: TensorEntry, box: tuple[object, object]) -> int | None:
        rows = self._boxes.get(theirs.fqn)
        if rows is None:
            rows = {chunk[:2]: row for row, chunk in enumerate(theirs.chunks)}
            self._boxes[theirs.fqn] = rows
        return rows.get(box)

    def _in_part(self, file: int, offset: int, length: int) -> Place | None:
        for number, part in reversed(list(enumerate(self.checkpoint.parts))):
            if 0 <= part.first_file <= file:
                return number, file - part.first_file, offset, length
        return None

    def look(self, key: Key, place: Place, *, whole: bool) -> Found:
        """Look at an item, as `found.look`."""
        number, file, offset, length = place
        part = self.checkpoint.parts[number]
        transforms = self._survey.layout.entries[key[0]].transforms
        name = part.stored.files[file]
        return look(part.storage, name, offset, length, transforms=transforms, whole=whole)


def collect_grafts(
    survey: Survey, bins: PartsBin, checkpoint: Checkpoint, options: RepairOptions
) -> None:
    """Find what is lost in another checkpoint, of the same save or, if allowed, of another one."""
    sibling = Sibling(checkpoint, survey)

    def usable(lost: Lost) -> Place | None:
        key = (lost.fqn, lost.row)
        place = sibling.place(key)
        if place is None or not is_good(sibling.look(key, place, whole=True), options):
            return None
        return place

    left = bins.left()
    found = [
        (lost, place)
        for lost, place in zip(left, map_all(usable, left, options.threads), strict=True)
        if place is not None
    ]
    if not found:
        return
    same = is_same_save(survey, checkpoint, options)
    if not same and not options.allow_older:
        bins.offered = len(found)
        return
    parts = [bins.add_part(f"from-{n}", part) for n, part in enumerate(checkpoint.parts)]
    for lost, (part, *rest) in found:
        file, offset, length = rest
        bins.put(lost, (parts[part], file, offset, length), GRAFTED if same else GRAFTED_OLDER)
    if not same:
        fqns = len({lost.fqn for lost, _ in found})
        bins.warnings.append(
            f"{count(len(found), 'item')} of {count(fqns, 'key')} taken from another save "
            f"({checkpoint.path}): the result is no exact copy of what was saved"
        )


def is_same_save(survey: Survey, checkpoint: Checkpoint, options: RepairOptions) -> bool:
    """Whether a checkpoint is a copy of the same save: all that is good here is the same there.

    Equal weights alone do not tell, since a frozen model has them in every save; optimizer state,
    or the save's own id in the metadata, has to be among what is equal.
    """
    sibling = Sibling(checkpoint, survey)
    keys = [key for key, item in survey.good.items() if item.digest is not None]

    def same(key: Key) -> bool | None:
        place = sibling.place(key)
        if place is None:
            return None
        return sibling.look(key, place, whole=False).digest == survey.good[key].digest

    answers = map_all(same, keys, options.threads)
    equal = [key for key, answer in zip(keys, answers, strict=True) if answer]
    if not equal or any(answer is False for answer in answers):
        return False
    # Rebuilt metadata are the sibling's own, and so is the id in them.
    saved = None if survey.basis == REBUILT else _save_id(survey.layout)
    if saved is not None and saved == _save_id(checkpoint.parts[0].stored):
        return True
    state = {fqn for raw in classify(checkpoint).optimizers for fqn in raw.fqns}
    return any(fqn in state and row >= 0 for fqn, row in equal)


def _save_id(stored: StoredCheckpoint) -> object:
    """The id that torch 2.4 and later give to each save."""
    return getattr(stored.fields.get("storage_meta"), "fields", {}).get("save_id")
