"""What there is to begin with: the directory, and metadata that say what is in its files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from dcpctl.errors import (
    DcpctlError,
    InputError,
    InterruptedSave,
    MissingFile,
    NotACheckpoint,
    Refused,
    quote,
)
from dcpctl.formats.metadata import read_metadata
from dcpctl.formats.records import StoredCheckpoint
from dcpctl.model import directories
from dcpctl.model.checkpoint import Checkpoint
from dcpctl.model.opening import open_checkpoint
from dcpctl.model.saves import COMPLETE, find_saves
from dcpctl.repair.described import survey_described
from dcpctl.repair.numbers import continuity
from dcpctl.repair.options import RepairOptions
from dcpctl.repair.rebuilt import survey_rebuilt
from dcpctl.repair.steps import check_one_save
from dcpctl.repair.survey import METADATA, OTHER, REBUILT, TEMPORARY, Survey
from dcpctl.repair.wording import clauses, sentence_of
from dcpctl.storage.local import LocalStorage

#: Forms of which every item has checksums of its own.
#: What helps where files were exchanged.
RENAME = "give each file the name of the rank that wrote it"
#: Tensors that have to be compared for their disagreement to mean something.
_ENOUGH = 4
_OTHERS = "of another save than the files"
_FROM = "--from SIBLING names another save of the same run, which tells what is in which file"
_MAKE_ONE = (
    "; to make one, start the job with the same model, optimizer and parallel layout, train one "
    "step and save"
)


def survey(
    path: Path,
    sibling: Checkpoint | None,
    options: RepairOptions,
    opened: ExitStack,
    *,
    in_part: bool = False,
) -> Survey:
    """Survey a directory by its metadata where there are any to go by, else by the sibling's.

    Args:
        path: the directory.
        sibling: another save of the same run.
        options: threads, progress, what counts as good.
        opened: closes what is opened here.
        in_part: files of another save than the metadata count as lost, and are no reason to refuse.

    Raises:
        Refused: there is nothing to go by, or what there is contradicts itself.
        InputError: there is nothing at all.
    """
    storage, stored, basis, why = _description(path, opened)
    made = None
    if stored is not None:
        made = survey_described(storage, stored, basis, why, options)
        if made.stale and basis == METADATA:
            made = _by_temporary(storage, options) or made
        if made.stale and not (in_part and sibling is None):
            _check_stale(made, sibling)
            why, made = f"{made.basis} is {_OTHERS}", None
    if made is None:
        if sibling is None:
            raise Refused(f"{quote(path)}: {why}", hint=_FROM + _such_as(path))
        made = survey_rebuilt(storage, _layout(sibling), why, options)
        if not made.verified:
            raise Refused(
                f"nothing in {quote(path)} fits {quote(sibling.path)}: {sentence_of(made)}",
                hint="the sibling must be a save of the same run with the same layout",
            )
    mine = Checkpoint(storage.root, [("", storage, made.stored)])
    if sibling is not None:
        _compare(made, mine, sibling, options)
    check_one_save(made, mine, sibling)
    return made


def _by_temporary(storage: LocalStorage, options: RepairOptions) -> Survey | None:
    """The survey by `.metadata.tmp`, where a later save has got so far as to write them whole."""
    if TEMPORARY not in storage.names():
        return None
    try:
        stored = read_metadata(storage, TEMPORARY)
    except DcpctlError:
        return None
    made = survey_described(storage, stored, TEMPORARY, f".metadata is {_OTHERS}", options)
    return None if made.stale else made


def _such_as(path: Path) -> str:
    """The newest whole save beside a broken one, for a hint."""
    run = path.absolute().parent
    try:
        saves = [save for save in find_saves(run) if save.path.parent == run]
    except DcpctlError:
        return _MAKE_ONE
    names = [s.path.name for s in saves if s.state == COMPLETE and s.path.name != path.name]
    return f", such as {quote(path.parent / names[0])}" if names else _MAKE_ONE


def _check_stale(made: Survey, sibling: Checkpoint | None) -> None:
    """Refuse metadata that are not of the files, unless there is a sibling to go by instead.

    Raises:
        Refused: there is none, or files were exchanged, which no sibling helps against.
    """
    odd = [file for file in made.files if file.state == OTHER]
    exchanged = any(file.holds for file in odd)
    if sibling is not None and not exchanged:
        return
    said = clauses(f"{file.name}: {file.why}" for file in odd)
    hint = RENAME
    if not exchanged:
        hint = f"{_FROM}; SRC itself will do, if its .metadata is an older save's"
    raise Refused(f"{made.basis} and the files do not belong together: {said}", hint=hint)


def _compare(made: Survey, mine: Checkpoint, sibling: Checkpoint, options: RepairOptions) -> None:
    """See that the numbers do not contradict what was matched.

    Raises:
        Refused: they do.
    """
    said = continuity(made, mine, sibling, options)
    made.confirmed, made.compared = said.confirmed, said.compared
    if said.contradictions:
        raise Refused(
            f"{quote(made.storage.root)} is not in the order of {quote(sibling.path)}: "
            f"{clauses(said.contradictions)}",
            hint=f"files may have been exchanged; {RENAME}",
        )
    if made.basis == REBUILT and said.compared >= _ENOUGH and not said.confirmed:
        _check_trust(made, sibling, said.compared, options)


def _check_trust(made: Survey, sibling: Checkpoint, compared: int, options: RepairOptions) -> None:
    """Refuse names that nothing but order and form speaks for, unless that is trusted.

    Raises:
        Refused: it is not.
    """
    if not options.trust_order:
        raise Refused(
            f"none of {compared:,} tensors in {quote(made.storage.root)} continues those of "
            f"{quote(sibling.path)}: it belongs to another run, or is in another order",
            hint="name a save of the same run; --trust-order takes the names by order, dtypes and "
            "shapes alone",
        )


def _description(
    path: Path, opened: ExitStack
) -> tuple[LocalStorage, StoredCheckpoint | None, str, str]:
    """The directory, what its metadata say, which metadata those are, and why no better ones."""
    try:
        return _of_checkpoint(opened.enter_context(open_checkpoint(path)))
    except (NotACheckpoint, MissingFile):
        if not path.is_dir() or not any(path.glob("__*_*.distcp")):
            raise
        why = "there are no metadata"
    except InterruptedSave:
        if not directories.is_interrupted(path):
            raise  # it is a part of the checkpoint, and the message names it
        why = "the save did not finish: there is no .metadata"
    except InputError as error:
        why = f".metadata cannot be read ({error.message})"
    storage = opened.enter_context(LocalStorage(path))
    names = storage.names()
    if not any(name.endswith(".distcp") for name in names):
        raise NotACheckpoint(f"there is no shard file in {quote(path)}")
    if TEMPORARY not in names:
        return storage, None, REBUILT, why
    try:
        return storage, read_metadata(storage, TEMPORARY), TEMPORARY, why
    except DcpctlError as error:
        return storage, None, REBUILT, f"{why}, and {error.message}"


def _of_checkpoint(
    checkpoint: Checkpoint,
) -> tuple[LocalStorage, StoredCheckpoint, str, str]:
    part = checkpoint.parts[0]
    stored = _layout(checkpoint)
    return part.storage, stored, METADATA, ""


def _layout(checkpoint: Checkpoint) -> StoredCheckpoint:
    """The description of a checkpoint in one directory, of a form with checksums.

    Raises:
        Refused: it is none.
    """
    if len(checkpoint.parts) > 1 or checkpoint.parts[0].name:
        names = [f"{checkpoint.path}/{part.name}" for part in checkpoint.parts]
        raise Refused(
            f"{quote(checkpoint.path)} is made of parts", hint=f"name one: {', '.join(names)}"
        )
    stored = checkpoint.parts[0].stored
    if not (stored.form.pickled and stored.form.checksums):
        raise Refused(
            f"{quote(checkpoint.path)} is of the form {stored.form.name}, whose items have no "
            "checksums of their own"
        )
    return stored
