"""DCP3xx: are the bytes in the storage items the ones that were saved?"""

from __future__ import annotations

from collections.abc import Iterator

from dcpctl.check import words
from dcpctl.check.finding import ERROR, INFO, WARNING
from dcpctl.check.finite import count_not_finite
from dcpctl.check.registry import CannotRun, Hit, rule
from dcpctl.check.run import Run
from dcpctl.errors import quote
from dcpctl.formats.pickles.packed import inner_tensors, logical_bytes, packed_bytes

#: Tensors inside a packed one that a finding names.
_MOST_INNER = 4


@rule("DCP301", ERROR, "a tensor's numbers do not have their checksum")
def data_crc(run: Run) -> Iterator[Hit]:
    """CRC-32 of a data record against the archive's directory."""
    yield from _damage(run, is_data=True)
    run.scan.require_items()


@rule("DCP302", ERROR, "a header record does not have its checksum")
def header_crc(run: Run) -> Iterator[Hit]:
    """CRC-32 of what describes the numbers: `data.pkl`, `version`, `byteorder`."""
    yield from _damage(run, is_data=False)
    run.scan.require_items()


@rule("DCP303", INFO, "no checksum is recorded")
def no_crc(run: Run) -> Iterator[Hit]:
    """Items saved with `set_crc32_options(False)`, and safetensors, which has no checksums."""
    if run.scan.unsummed:
        why = (
            "safetensors has none"
            if any(form.safetensors for form in run.checkpoint.forms)
            else "torch.serialization.set_crc32_options(False) leaves them out"
        )
        yield Hit(
            run.checkpoint.path.name,
            f"{run.scan.unsummed:,} of {words.count(run.scan.opened, 'storage item')} record no "
            f"checksum ({why}): a wrong bit in them cannot be told",
        )


@rule("DCP304", ERROR, "the item holds another tensor than .metadata describes", security=True)
def other_tensor(run: Run) -> Iterator[Hit]:
    """Dtype and shape in the item's own pickle against `.metadata`."""
    for report in run.scan.reports:
        if report.unlike:
            yield Hit(report.fqn, report.unlike, report.file, report.offset)
    run.scan.require_items()


@rule("DCP305", ERROR, "a storage item is malformed", security=True)
def malformed(run: Run) -> Iterator[Hit]:
    """Archives that contradict themselves, and pickles that do not decode."""
    for report in run.scan.reports:
        if report.malformed:
            yield Hit(
                report.fqn, _without(report.fqn, report.malformed), report.file, report.offset
            )
    run.scan.require_items()


@rule("DCP306", WARNING, "a storage item is of unknown form", security=True)
def unknown_form(run: Run) -> Iterator[Hit]:
    """Items that dcpctl does not know how to read; an error where torch cannot load them either."""
    for report in run.scan.reports:
        if report.unknown:
            yield Hit(
                report.fqn,
                _without(report.fqn, report.unknown),
                report.file,
                report.offset,
                ERROR if report.unloadable else None,
            )


@rule("DCP308", INFO, "tensors of a class of their own")
def packed(run: Run) -> Iterator[Hit]:
    """Tensor subclasses and packed tensors: what they are, and what loading them needs."""
    for name, found in run.scan.packed.items():
        packed, report = found.first.packed, found.first
        assert packed is not None
        inner = ", ".join(
            f"{quote(key)} {ref.dtype}{list(ref.shape)}"
            for key, ref in list(inner_tensors(packed).items())[:_MOST_INNER]
        )
        shown = logical_bytes(packed)
        sizes = words.size(packed_bytes(packed)) + (f" for {words.size(shown)}" if shown else "")
        module = quote(packed.type.rpartition(".")[0])
        needs = "" if packed.form else f"; loading them needs {module} to be imported"
        kind = f"{name} tensors" if packed.form else f"tensors of the class {quote(name)}"
        yield Hit(
            report.fqn,
            f"{words.count(len(found.fqns), 'entry holds', 'entries hold')} {kind}, kept whole and "
            f"compared by checksum; the first is made of {inner} ({sizes}){needs}",
            report.file,
            report.offset,
        )


@rule("DCP307", ERROR, "NaN or infinities among the numbers")
def not_finite(run: Run) -> Iterator[Hit]:
    """Reads every float and complex number; only with `values`."""
    if not run.options.values:
        raise CannotRun("it reads all numbers, which --values asks for")
    unread = []
    for count in count_not_finite(run.checkpoint, run.options):
        if count.unread:
            unread.append(count)
        elif count.nan or count.infinite:
            yield Hit(
                count.fqn,
                f"{words.count(count.nan, 'NaN', 'NaN')} and "
                f"{words.count(count.infinite, 'infinity', 'infinities')} among "
                f"{words.count(count.numbers, 'number')}",
                severity=None if count.nan else WARNING,
            )
    if unread:
        raise CannotRun(
            f"{words.count(len(unread), 'tensor')} could not be read "
            f"({words.some(count.fqn for count in unread)}): {unread[0].unread}"
        )


def _without(fqn: str, message: str) -> str:
    """A message of an error, whose subject a finding tells anyway."""
    return message.removeprefix(f"{quote(fqn)}: ")


def _damage(run: Run, *, is_data: bool) -> Iterator[Hit]:
    for report in run.scan.reports:
        for damage in report.damage:
            if damage.is_data == is_data:
                yield Hit(
                    report.fqn,
                    f"record {quote(damage.record)} of {words.count(damage.size, 'byte')} has "
                    f"CRC-32 {damage.found:08x}, recorded is {damage.recorded:08x}",
                    report.file,
                    damage.offset,
                )
