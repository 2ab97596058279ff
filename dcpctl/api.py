"""The command line's verbs as functions: each returns a `Result`, and raises what the command says.

A function takes what its command takes, a path or an opened `Checkpoint` where that has PATH, SRC,
A or B, and keywords for options: `verify_data=True` for `--verify-data`. It prints nothing and
draws no progress. What a command says by its exit code 1 is no error: ask the result.

Surgery takes its own options under the names that they have in `edits.toml`, so that
`dcpctl.rename(src, dst, prefix={"model.": "net."})` is that edit, and those of writing under the
names of the command line: `dry_run=True`, `in_place=True`, `memory="1G"`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dcpctl import limits
from dcpctl.errors import DcpctlError, NotACheckpoint, UsageError, quote

if TYPE_CHECKING:
    from dcpctl.check.finding import Checked
    from dcpctl.diff.difference import Difference
    from dcpctl.inspect.runs import Run
    from dcpctl.inspect.summary import Summary
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.reports.blocks import Block
    from dcpctl.reports.repair import Repaired
    from dcpctl.reports.surgery import Surgery
    from dcpctl.signature.engine import Result as Diagnosed
    from dcpctl.surgery.verbs import Verb
    from dcpctl.writing.options import WriteOptions
    from dcpctl.writing.undo import UndoReport

    #: A checkpoint by its path, or opened; who opened it closes it.
    Source = str | os.PathLike[str] | Checkpoint

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Result(Generic[T]):
    """What a verb found or did. Printed, it is the command's report.

    Attributes:
        value: the typed result, with all details.
        ok: the command would exit with 0: nothing found, no difference, done.
    """

    value: T
    ok: bool
    _blocks: tuple[Block, ...]
    _document: Callable[[], dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document that the command prints with `--json`, as Python values."""
        return self._document()

    def __repr__(self) -> str:
        return self._rendered("text").rstrip("\n")

    def _repr_html_(self) -> str:
        """The report for a notebook; what it quotes from a checkpoint is escaped."""
        from html import escape

        return f"<pre>{escape(repr(self))}</pre>"

    def _repr_markdown_(self) -> str:
        return self._rendered("markdown")

    def _rendered(self, form: str) -> str:
        from dcpctl.reports.render import render

        stream = StringIO()
        render(self._blocks, stream, form=form, color=False, table_style="simple")
        return stream.getvalue()


def _result(
    value: T, ok: bool, blocks: Iterable[Block], head: Mapping[str, Any], **lists: Iterable[Any]
) -> Result[T]:
    """Take a report while its checkpoints are open; entries are read now, not when asked for."""
    from dcpctl.reports.json_lines import document

    text = "".join(document(head, **lists))
    return Result(value, ok, tuple(blocks), lambda: dict(json.loads(text)))


@contextmanager
def _opened(source: Source, **how: Any) -> Iterator[Checkpoint]:
    from dcpctl.model.checkpoint import Checkpoint
    from dcpctl.model.opening import open_checkpoint

    if isinstance(source, Checkpoint):
        yield source
        return
    with open_checkpoint(source, **how) as checkpoint:
        yield checkpoint


def _path(source: Source) -> Path:
    from dcpctl.model.checkpoint import Checkpoint

    return source.path if isinstance(source, Checkpoint) else Path(source)


def inspect(
    path: Source, *, torch: str | None = None, chunks: bool = False
) -> Result[Summary] | Result[tuple[Run, ...]]:
    """Say what a checkpoint holds and whether training can be resumed from it.

    Args:
        path: a checkpoint, or a directory of saves.
        torch: release that is to load it, such as `2.13`; None for the installed one.
        chunks: put every chunk of every tensor into `to_dict()`.

    Returns:
        `.value` is a `Summary`, or the runs of a directory with their saves.

    Raises:
        InputError: it is not a readable checkpoint.
        UsageError: dcpctl knows no such torch release.
    """
    from dcpctl.inspect.summary import summarize
    from dcpctl.model.releases import check_release
    from dcpctl.reports.inspect_json import entry_documents, summary_document
    from dcpctl.reports.summary_blocks import summary_blocks

    if torch is not None:
        check_release(torch)
    with ExitStack() as opened:
        try:
            checkpoint = opened.enter_context(_opened(path))
        except NotACheckpoint as error:
            return _listing(_path(path), error)
        if checkpoint is not path and _holds_saves(_path(path)):
            return _listing(_path(path), NotACheckpoint(f"no saves in {quote(_path(path))}"))
        summary = summarize(checkpoint, torch)
        entries = entry_documents(checkpoint, checkpoint, chunks=chunks)
        head = summary_document(summary)
        return _result(summary, True, summary_blocks(summary), head, entries=entries)


def _holds_saves(path: Path) -> bool:
    """Whether saves lie below what is a checkpoint itself."""
    from dcpctl.model.saves import look

    try:
        return bool(look(path).runs)
    except DcpctlError:
        return False


def _listing(path: Path, error: DcpctlError) -> Result[tuple[Run, ...]]:
    """The saves of the runs in a directory; raises the error where there are none."""
    from dcpctl.inspect.runs import list_runs
    from dcpctl.reports.inspect_json import run_document
    from dcpctl.reports.run_blocks import run_blocks

    if not path.is_dir():
        raise error
    runs, found = list_runs(path)
    if not runs:
        raise error
    head, listed = run_document(path, runs, found.unread)
    return _result(runs, True, run_blocks(str(path), runs, found), head, run=listed)


def check(
    *paths: Source,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    strict: bool = False,
    max_findings: int | None = limits.LISTED_FINDINGS,
    verify_data: bool = False,
    values: bool = False,
    security: bool = False,
    torch: str | None = None,
    expect_step: int | None = None,
    against: str | os.PathLike[str] | None = None,
    policy: str | os.PathLike[str] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    like: str | os.PathLike[str] | None = None,
    receipt: str | os.PathLike[str] | None = None,
    may_skip: Sequence[str] = (),
    jobs: int | None = None,
) -> Result[Checked]:
    """Find what is wrong with a checkpoint, with several, or with the saves of a run.

    Args:
        paths: checkpoints and run directories.
        select: rules to run, `DCP103` or `DCP2xx`; empty for all.
        ignore: rules not to run.
        strict: warnings count as errors for `ok`.
        max_findings: most findings to list a checkpoint; None for all.
        verify_data: read every byte and compare every checksum.
        values: read all numbers and look for NaN and infinities.
        security: only what a load would run, paths, and ambiguous bytes.
        torch: release that is to load it; None for the installed one.
        expect_step: the step that the optimizer should have.
        against: the save of the same run that came before.
        policy: file of what is asked of checkpoints; unlike the command, none is looked for.
        baseline: file of waivers.
        like: contract or checkpoint of the run that is to load it.
        receipt: what a load of it wrote down.
        may_skip: globs of keys that a load may leave on disk.
        jobs: threads; None for one a processor, at most 8.

    Returns:
        `.value.results` has the findings of each checkpoint; `ok` is exit code 0.

    Raises:
        InputError: the only checkpoint cannot be read; of several it is in `.value.unreadable`.
        UsageError, PolicyError, BaselineError: an option is not what it should be.
        NothingSelected: `select` and `ignore` leave no rule.
    """
    from dcpctl.check.baseline_file import read_baseline
    from dcpctl.check.engine import run_checks
    from dcpctl.check.finding import Checked
    from dcpctl.check.like import read_like
    from dcpctl.check.many import check_many, look_for
    from dcpctl.check.options import CheckOptions
    from dcpctl.check.policy_file import read_policy
    from dcpctl.model.directories import meant_by
    from dcpctl.model.receipt import read_receipt
    from dcpctl.model.releases import check_release
    from dcpctl.reports.check_formats import Look, blocks_of
    from dcpctl.reports.check_json import many_document, one_document

    if not paths:
        raise UsageError("which checkpoint?", hint="dcpctl.check(path)")
    if torch is not None:
        check_release(torch)
    asked = CheckOptions(
        select=_listed(select),
        ignore=_listed(ignore),
        strict=strict,
        max_findings=max_findings,
        verify_data=verify_data,
        values=values,
        security=security,
        torch=torch,
        expect_step=expect_step,
        against=None if against is None else Path(against),
        may_skip=_listed(may_skip),
        jobs=jobs,
    )
    told = None if policy is None else read_policy(Path(policy))
    asked = asked if told is None else told.applied(asked)
    waivers = Path(baseline) if baseline is not None else told.baseline if told else None
    options = dataclasses.replace(
        asked,
        baseline=None if waivers is None else read_baseline(waivers),
        like=None if like is None else read_like(Path(like)),
        receipt=None if receipt is None else read_receipt(Path(receipt)),
    )
    named = list(dict.fromkeys(meant_by(_path(path)) for path in paths))
    looked = [look_for(path) for path in named]
    targets = [target for found, _ in looked for target in found]
    if receipt is not None and len(targets) > 1:
        raise UsageError("receipt is of one load, and several checkpoints are checked")
    one = [target.path for target in targets] == named[:1]
    if one:
        checked = Checked((run_checks(targets[0].path, options),))
        made = one_document(checked.results[0], strict=options.strict)
    else:
        unread = {where: why for _, others in looked for where, why in others.items()}
        checked = check_many(targets, options, unread=unread)
        made = many_document(checked, strict=options.strict)
    ok = not checked.failed(options.strict) and not checked.unreadable
    blocks = blocks_of(checked, Look(strict=options.strict, one=one))
    head, lists = made
    return _result(checked, ok, blocks, head, **lists)


def diff(
    a: Source,
    b: Source,
    *,
    keys_only: bool = False,
    layout: bool = False,
    optimizer: bool = False,
    values: bool = False,
    tolerance: float = 0.0,
    ignore: Sequence[str] = (),
    jobs: int | None = None,
) -> Result[Difference]:
    """Say what differs between two checkpoints, and what a load of A would silently lose.

    Args:
        a: a checkpoint.
        b: another one.
        keys_only: compare keys, shapes and dtypes.
        layout: compare how tensors lie over the ranks.
        optimizer: compare kind, coverage, param groups and steps.
        values: compare all numbers and objects; reads every tensor.
        tolerance: with `values`, differences up to this do not count.
        ignore: globs of keys to leave out.
        jobs: threads; None for one a processor, at most 8.

    Returns:
        `ok` says that nothing differs of what was compared.

    Raises:
        InputError: one of them is not a readable checkpoint.
        UsageError: a tolerance without `values`, or one that is no number of at least 0.
    """
    from dcpctl.diff.engine import diff as compare
    from dcpctl.diff.options import DiffOptions
    from dcpctl.reports.diff_blocks import diff_blocks
    from dcpctl.reports.diff_json import diff_document, diff_lists
    from dcpctl.surgery.edits import names_after

    if not 0 <= tolerance < float("inf"):
        raise UsageError(f"tolerance takes a number of at least 0, not {tolerance!r}")
    if tolerance and not values:
        raise UsageError("tolerance is for values=True")
    options = DiffOptions(
        keys_only=keys_only,
        layout=layout,
        optimizer=optimizer,
        values=values,
        tolerance=float(tolerance),
        ignore=_listed(ignore),
        threads=jobs,
    )
    with _opened(a) as one, _opened(b) as other:
        found = compare(one, other, options, try_rename=lambda rules: names_after(one, rules))
        made = _result(
            found, found.same, diff_blocks(found), diff_document(found), **diff_lists(found)
        )
    for _, _, error in found.unread:
        raise error
    return made


def repair(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sibling: Source | None = None,
    allow_older: bool = False,
    drop_broken_state: bool = False,
    fill_broken_state: bool = False,
    trust_order: bool = False,
    allow_unsummed: bool = False,
    **writing: Any,
) -> Result[Repaired]:
    """Make a broken checkpoint whole in a new directory, or say why that cannot be done.

    Args:
        source: the broken checkpoint.
        target: the directory to make.
        sibling: another save of the same run, same layout (`--from`).
        allow_older: take lost chunks from the sibling if it is another save.
        drop_broken_state: leave out all state of damaged parameters.
        fill_broken_state: give them the state of a new optimizer: zeros.
        trust_order: accept a sibling whose numbers tell nothing.
        allow_unsummed: trust items that record no checksum.
        writing: `dry_run`, `overwrite`, `memory` and the other options of writing.

    Raises:
        DcpctlError: of any kind; nothing has been published then.
    """
    if drop_broken_state and fill_broken_state:
        raise UsageError("drop_broken_state and fill_broken_state contradict")
    if allow_older and sibling is None:
        raise UsageError("allow_older takes chunks from a sibling, so it needs one")
    allowed = {
        "allow_older": allow_older,
        "drop_broken_state": drop_broken_state,
        "fill_broken_state": fill_broken_state,
        "trust_order": trust_order,
        "allow_unsummed": allow_unsummed,
    }
    return _mended("repair", source, target, sibling, allowed, writing)


def salvage(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    sibling: Source | None = None,
    trust_order: bool = False,
    allow_unsummed: bool = False,
    **writing: Any,
) -> Result[Repaired]:
    """Take what is provably good out of a broken checkpoint, and say what is lost.

    Args:
        source: the broken checkpoint.
        target: the directory to make.
        sibling: another save of the same run, same layout (`--from`).
        trust_order: accept a sibling whose numbers tell nothing.
        allow_unsummed: trust items that record no checksum.
        writing: `dry_run`, `overwrite`, `memory` and the other options of writing.

    Raises:
        DcpctlError: of any kind; nothing has been published then.
    """
    allowed = {"trust_order": trust_order, "allow_unsummed": allow_unsummed}
    return _mended("salvage", source, target, sibling, allowed, writing)


def _mended(
    verb: str,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    sibling: Source | None,
    allowed: Mapping[str, Any],
    writing: Mapping[str, Any],
) -> Result[Repaired]:
    from dcpctl.repair import engine
    from dcpctl.repair.options import RepairOptions
    from dcpctl.repair.record import with_record
    from dcpctl.reports.repair import Repaired, repair_blocks, repair_document
    from dcpctl.writing.plan import plan
    from dcpctl.writing.write import write

    options = _write_options(writing)
    if options.in_place:
        raise UsageError(f"a {verb} makes a new directory, so there is no in_place")
    wreck, place = Path(source), Path(target)
    beside = None if sibling is None else _path(sibling)
    engine.check_destination(place, beside)
    mend = {"repair": engine.repair, "salvage": engine.salvage}[verb]
    with ExitStack() as opened:
        other = None if sibling is None else opened.enter_context(_opened(sibling))
        mended = mend(wreck, other, RepairOptions(**allowed, jobs=options.jobs), opened)
        draft = dataclasses.replace(mended.draft, beside=(wreck,))
        made = with_record(plan(draft, place, options), verb, wreck, beside, mended)
        report = write(made, options)
        done = Repaired(verb, wreck, place, beside, mended, made, report, options.dry_run)
        blocks = repair_blocks(done, with_warnings=True)
        return _result(done, True, blocks, repair_document(done))


def undo(path: str | os.PathLike[str], *, dry_run: bool = False) -> Result[UndoReport]:
    """Take back the last edit that was made in place.

    Args:
        path: an edited checkpoint.
        dry_run: say what would be undone, and do nothing.

    Raises:
        Refused: there is nothing to undo, or it was saved again since.
    """
    from dcpctl.reports.surgery import undo_blocks, undo_document
    from dcpctl.writing.undo import undo as take_back

    undone = take_back(path, dry_run=dry_run)
    blocks = undo_blocks(undone, dry_run=dry_run)
    return _result(undone, True, blocks, undo_document(undone, dry_run=dry_run))


def signature(
    *logs: str | os.PathLike[str],
    resume_step: int | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | os.PathLike[str] | None = None,
    window: int = 100,
    steps: int = 10,
    expect_match: bool = False,
) -> Result[Diagnosed]:
    """Tell from a training log whether a resume lost the optimizer's state.

    Args:
        logs: JSON lines, CSV, TSV, console output, TensorBoard files.
        resume_step: the step resumed from; None finds the resumes.
        columns: where step, loss, grad_norm, lr ... are found (`--map`).
        run: the run's saves, which decide where they tell.
        window: rows to compare on each side, at least 20.
        steps: rows that are the first steps after a resume, at least 5.
        expect_match: `ok` asks that the first steps match the regime before them.

    Raises:
        InputError: a file is no training log.
        UsageError: an option is not what it should be.
    """
    from dcpctl.reports.signature_blocks import gate_blocks, signature_blocks
    from dcpctl.reports.signature_json import resume_documents, signature_document
    from dcpctl.signature.columns import parse_map
    from dcpctl.signature.engine import diagnose
    from dcpctl.signature.reading import read_logs

    if not logs:
        raise UsageError("which log?", hint="dcpctl.signature(log)")
    for name, given, least in (("window", window, 20), ("steps", steps, 5)):
        if given < least:
            raise UsageError(f"{name} is {given}; the least is {least}")
    log = read_logs(
        [os.fspath(path) for path in logs],
        parse_map([f"{name}={column}" for name, column in (columns or {}).items()]),
    )
    result = diagnose(log, resume_step=resume_step, window=window, first=steps)
    if run is not None:
        from dcpctl.cli.signature_saves import checked_saves
        from dcpctl.signature.saves import ask_saves

        result = ask_saves(result, checked_saves(Path(run), lambda done, total: None))
    failed = not result.matches if expect_match else result.lost
    blocks = [*signature_blocks(result), *(gate_blocks(result) if expect_match else ())]
    head = signature_document(result, failed=failed)
    return _result(result, not failed, blocks, head, resumes=resume_documents(result))


def edit(
    source: Source,
    target: str | os.PathLike[str] | None = None,
    edits: Sequence[Mapping[str, Any]] | str | os.PathLike[str] = (),
    **writing: Any,
) -> Result[Surgery]:
    """Make several edits in one pass.

    Args:
        source: a checkpoint.
        target: the directory to make; None with `in_place=True`.
        edits: as in `edits.toml`, `[{"verb": "drop", "keys": ["ema.*"]}]`; or such a file.
        writing: `dry_run`, `overwrite`, `memory` and the other options of writing.

    Raises:
        DcpctlError: of any kind; nothing has been published then.
    """
    from dcpctl.surgery.edits.file import edits_of, read_edits

    if isinstance(edits, (str, os.PathLike)):
        made = read_edits(Path(edits))
    else:
        made = edits_of([_plain(one) for one in edits])
    return _operated("edit", source, target, made, writing)


def surgery(name: str) -> Callable[..., Result[Surgery]]:
    """Return the function of a verb of surgery, a plugin's included.

    Raises:
        KeyError: there is no such verb.
    """
    import inspect as of_python

    from dcpctl.surgery.edits.file import edits_of
    from dcpctl.surgery.verbs import find, help_of, options_of

    verb = find(name)
    if verb is None:
        raise KeyError(name)
    keys = {option.key: option for _, option in options_of(verb) if option.key}
    more = next((key for key, option in keys.items() if option.sources), None)

    def function(
        source: Source | Sequence[Source],
        target: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> Result[Surgery]:
        own = {key: options.pop(key) for key in keys if options.get(key) is not None}
        options = {key: value for key, value in options.items() if key not in keys}
        if isinstance(source, (list, tuple)):
            if not source or (len(source) > 1 and more is None):
                raise UsageError(f"{name} takes one checkpoint, not {len(source)}")
            if more is not None:
                own[more] = list(source[1:])
            source = source[0]
        _write_options(options)  # a mistyped name is one of these
        edits = edits_of([{"verb": name, **_plain(own)}])
        return _operated(name, source, target, edits, options)  # type: ignore[arg-type]

    told = [
        f"    {key}: {option.help or option.step}" for key, option in keys.items() if key != more
    ]
    arguments = "\n".join(["Keywords, beside those of writing:", *told])
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{help_of(verb).partition('Examples:')[0].rstrip()}\n\n{arguments}\n"
    plain = of_python.signature(function)
    own = [
        of_python.Parameter(key, of_python.Parameter.KEYWORD_ONLY, default=None)
        for key in keys
        if key != more
    ]
    *places, rest = plain.parameters.values()
    function.__signature__ = plain.replace(  # type: ignore[attr-defined]
        parameters=[*places, *own, rest.replace(name="writing")]
    )
    return function


def _operated(
    name: str,
    source: Source,
    target: str | os.PathLike[str] | None,
    edits: Sequence[Verb],
    writing: Mapping[str, Any],
) -> Result[Surgery]:
    from dcpctl.reports.surgery import Surgery, surgery_blocks, surgery_document
    from dcpctl.surgery.edits import apply_edits
    from dcpctl.writing.plan import plan
    from dcpctl.writing.report import Report
    from dcpctl.writing.write import write

    options = _write_options(writing)
    if options.in_place and target is not None:
        raise UsageError(f"in_place changes the source itself, so {quote(target)} is one too many")
    if not options.in_place and target is None:
        raise UsageError("no destination", hint="name a new directory, or pass in_place=True")
    place = None if target is None else Path(target)
    if options.in_place and any(edit.anew for edit in edits):
        raise UsageError(f"{next(e.anew for e in edits if e.anew)}, so there is no in_place")
    with ExitStack() as opened:

        def open_(path: Path) -> Checkpoint:
            return opened.enter_context(_opened(path))

        how = {"keep_rank": options.keep_rank}
        checkpoint = opened.enter_context(_opened(source, **how))
        draft, applied = apply_edits(checkpoint, edits, open_)
        made = plan(draft, place or checkpoint.path, options)
        idle = place is None and not any(edit.outcome.changes for edit in applied)
        report = Report(checkpoint.path, made.counts) if idle else write(made, options)
        done = Surgery(name, checkpoint.path, place, tuple(applied), made, report, options.dry_run)
        return _result(done, True, surgery_blocks(done, with_warnings=True), surgery_document(done))


def _write_options(given: Mapping[str, Any]) -> WriteOptions:
    """The writer's options; it draws no progress unless `progress=True`."""
    from dcpctl.model.sizes import parse_size
    from dcpctl.writing.options import WriteOptions

    known = [one.name for one in dataclasses.fields(WriteOptions)]
    for name in given:
        if name not in known:
            raise UsageError(f"unknown option {quote(name)}", hint=f"one of {', '.join(known)}")
    settings = {"progress": False, **given}
    if isinstance(settings.get("memory"), str):
        settings["memory"] = parse_size(settings["memory"])
    return WriteOptions(**settings)


def _plain(value: Any) -> Any:
    """A value as a document has it: texts for paths, and lists for other sequences."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    path = getattr(value, "path", value)  # of an opened checkpoint
    return os.fspath(path) if isinstance(path, os.PathLike) else value


def _listed(names: Sequence[str] | str) -> tuple[str, ...]:
    """One name, or several."""
    return (names,) if isinstance(names, str) else tuple(names)
