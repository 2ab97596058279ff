"""A contract as a file: the JSON `dcpctl.contract/1`, one key a line and always in one order.

Equal contracts are equal texts, so that a `diff` of two files is a diff of two state dicts, and the
digest in it names a state dict's form in one word.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dcpctl import limits
from dcpctl.documents.fields import Document, Field, Table
from dcpctl.documents.files import Kind
from dcpctl.documents.parsing import integers
from dcpctl.errors import InputError, quote
from dcpctl.model.contract import Contract, Spec, contract_of
from dcpctl.model.opening import open_checkpoint

SCHEMA = "dcpctl.contract/1"
TENSOR, BYTES = "tensor", "bytes"

_FAULT = f"is missing or not what {SCHEMA} says"
_ALGORITHM = "sha256"


class MalformedContract(InputError):
    """A file that was given as a contract and is none, or was changed by hand."""

    id = "malformed-contract"


_KIND = Kind("contract", MalformedContract, limits.DOCUMENT_BYTES)


def contract_lines(contract: Contract) -> Iterator[str]:
    """Yield the text of a contract, keys sorted, with the digest of what it says."""
    content = _content(contract)
    yield "{\n"
    yield f'  "schema": {_text(SCHEMA)},\n'
    yield f'  "digest": {_text(_digest_of(content))},\n'
    yield f'  "optimizer": {_text(content["optimizer"])},\n'
    yield from _block('  "group_keys": [', [_text(keys) for keys in content["group_keys"]], "],\n")
    entries = [f"{_text(fqn)}: {_text(entry)}" for fqn, entry in content["entries"].items()]
    yield from _block('  "entries": {', entries, "}\n")
    yield "}\n"


def digest(contract: Contract) -> str:
    """Return `sha256:` and the hash of what a contract says, 64 digits; the same for equal ones."""
    return _digest_of(_content(contract))


def read_contract(path: Path) -> Contract:
    """Read a contract.

    Raises:
        MalformedContract: it is none, or its digest is not that of what it says.
        MalformedMetadata, LimitExceeded: it is no JSON, or too large.
        ReadFailed: the operating system failed to read.
    """
    writer = "dcpctl contract CKPT -o contract.json writes one"
    document = Document.of_json(path, _KIND, SCHEMA, writer)
    contract, found = _parsed(document), document.found
    if "digest" in found and found["digest"] != digest(contract):
        raise MalformedContract(
            f"{quote(path)} was changed: its digest is that of another contract",
            hint="write it again with dcpctl contract, or take the digest out of it",
        )
    return contract


def load_contract(path: Path) -> Contract:
    """Return the contract in a file, or the one that a checkpoint keeps.

    Raises:
        InputError: it is neither.
        ReadFailed: the operating system failed to read.
    """
    if path.is_file():
        return read_contract(path)
    with open_checkpoint(path) as checkpoint:
        return contract_of(checkpoint)


def _content(contract: Contract) -> dict[str, Any]:
    return {
        "optimizer": contract.optimizer,
        "group_keys": [list(keys) for keys in contract.group_keys],
        "entries": {fqn: _entry(contract.entries[fqn]) for fqn in sorted(contract.entries)},
    }


def _entry(spec: Spec) -> dict[str, Any]:
    if spec.shape is None:
        return {"kind": BYTES}
    return {"kind": TENSOR, "dtype": spec.dtype, "shape": list(spec.shape)}


def _digest_of(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return f"{_ALGORITHM}:{hashlib.new(_ALGORITHM, text.encode('ascii')).hexdigest()}"


def _block(begin: str, lines: list[str], end: str) -> Iterator[str]:
    yield begin
    yield ",".join(f"\n    {line}" for line in lines)
    yield ("\n  " if lines else "") + end


def _text(value: Any) -> str:
    return json.dumps(value)


def _parsed(document: Document) -> Contract:
    found = Table(document, (), document.found).declared(
        Field("optimizer", lambda value: isinstance(value, (str, type(None))), _FAULT, None),
        Field("group_keys", _are_groups, _FAULT),
        Field("entries", lambda value: isinstance(value, dict), _FAULT),
    )
    specs = {}
    for fqn, entry in found["entries"].items():
        spec = _spec(entry)
        if spec is None:
            raise document.error(("entries", fqn), f"{quote(fqn)} {_FAULT}")
        specs[fqn] = spec
    groups = tuple(tuple(keys) for keys in found["group_keys"])
    return Contract(specs, found["optimizer"], groups)


def _are_groups(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(keys, list) and all(isinstance(name, str) for name in keys) for keys in value
    )


def _spec(entry: Any) -> Spec | None:
    if entry == {"kind": BYTES}:
        return Spec()
    if not isinstance(entry, dict) or set(entry) != {"kind", "dtype", "shape"}:
        return None
    shape = integers(entry["shape"])
    if entry["kind"] != TENSOR or shape is None or not isinstance(entry["dtype"], str):
        return None
    return Spec(shape, entry["dtype"])
