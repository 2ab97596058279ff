"""The record that a mended checkpoint carries: `dcpctl-repair.json`, beside its shard files.

Loaders read `.metadata` and the files that it names, and let any other file be.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dcpctl import __version__
from dcpctl.errors import printable
from dcpctl.repair.engine import Mended
from dcpctl.repair.remedy import Remedy
from dcpctl.repair.survey import Survey
from dcpctl.writing.plan import Plan
from dcpctl.writing.segments import NewBytes, OutputFile

NAME = "dcpctl-repair.json"
SCHEMA = "dcpctl.repair/1"


def with_record(plan: Plan, verb: str, source: Path, sibling: Path | None, mended: Mended) -> Plan:
    """Add the record to the files that a plan writes; the same plan gives the same record."""
    said = {
        "schema": SCHEMA,
        "verb": verb,
        "dcpctl": __version__,
        "source": str(source.resolve()),
        "sibling": None if sibling is None else str(sibling.resolve()),
        **survey_document(mended.survey),
        "remedies": remedy_documents(mended.remedies),
        "warnings": list(mended.warnings),
    }
    data = (json.dumps(_printable(said), indent=1, ensure_ascii=False) + "\n").encode()
    file = OutputFile(NAME, len(data), None, -1, (NewBytes(0, data, NAME),))
    # The source may have been mended before, and have a record of that.
    others = [known for known in plan.files if known.name != NAME]
    return dataclasses.replace(plan, files=(*others, file))


def survey_document(survey: Survey) -> dict[str, Any]:
    """What there was, as JSON."""
    return {
        "basis": survey.basis,
        "why": survey.why_basis,
        "files": [
            {
                "file": file.name,
                "state": file.state,
                "bytes": file.size,
                "items": file.items,
                "good_items": file.good,
                "why": file.why,
            }
            for file in survey.files
        ],
        "items": survey.items,
        "good_items": survey.verified,
        "bytes_read": survey.bytes_read,
        "items_without_checksum": survey.unsummed,
        "chunks_that_continue_sibling": survey.confirmed,
        "unknown_files": list(survey.strangers),
        "lost": [
            {"key": fqn, "chunks": _boxes(survey, fqn), "why": sorted({one.why for one in lost})}
            for fqn, lost in survey.lost_of().items()
        ],
    }


def _boxes(survey: Survey, fqn: str) -> list[dict[str, list[int]]]:
    """The lost chunks of a tensor; none for a bytes entry."""
    entry = survey.layout.entries[fqn]
    chunks = getattr(entry, "chunks", None)
    if chunks is None:
        return []
    rows = sorted(lost.row for lost in survey.lost if lost.fqn == fqn)
    boxes = (chunks[row][:2] for row in rows)
    return [{"offsets": list(offsets), "sizes": list(sizes)} for offsets, sizes in boxes]


def remedy_documents(remedies: Sequence[Remedy]) -> list[dict[str, Any]]:
    """What was done, as JSON."""
    return [
        {
            "what": remedy.what,
            "key": remedy.fqn,
            "offsets": None if remedy.offsets is None else list(remedy.offsets),
            "sizes": None if remedy.sizes is None else list(remedy.sizes),
            "origin": remedy.origin or None,
        }
        for remedy in remedies
    ]


def _printable(value: Any) -> Any:
    """Names out of a checkpoint or a directory may be no Unicode that can be encoded."""
    if isinstance(value, str):
        return value if value.isprintable() else printable(value)
    if isinstance(value, dict):
        return {key: _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list) else value
