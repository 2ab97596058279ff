"""What each torch release calls the classes in `.metadata`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dcpctl.errors import UnknownForm, quote


@dataclass(frozen=True, slots=True)
class MetadataForm:
    """What a torch release calls the classes in `.metadata`, and how many fields they have.

    Attributes:
        metadata: module of `Metadata` and its parts.
        storage_info: path of `_StorageInfo`.
        properties: path of `TensorProperties`.
        memory_format: path of the enum in it.
        fields: number of its fields.
        planner_data: whether object paths are written.
        storage_meta: whether `storage_meta` and `version` are known.
        transforms: whether storage items may be transformed (compressed).
    """

    metadata: str = "torch.distributed.checkpoint.metadata"
    storage_info: str = "torch.distributed.checkpoint.filesystem._StorageInfo"
    properties: str = "torch.distributed.checkpoint.metadata.TensorProperties"
    memory_format: str = "torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING"
    fields: int = 5
    planner_data: bool = True
    storage_meta: bool = True
    transforms: bool = True


_SHARDED = "torch.distributed._shard.sharded_tensor.metadata"
_OLDEST = "torch.distributed._shard.checkpoint"
#: What 2.4 to 2.15 all read: 2.15's sixth field is one too many for any older release.
_COMMON = MetadataForm()
_2_4 = replace(_COMMON, transforms=False)
_2_3 = replace(_2_4, storage_meta=False)
_2_0 = replace(
    _2_3,
    properties=f"{_SHARDED}.TensorProperties",
    memory_format=f"{_SHARDED}.MEM_FORMAT_ENCODING",
)
_1_13 = replace(
    _2_0,
    metadata=f"{_OLDEST}.metadata",
    storage_info=f"{_OLDEST}.filesystem._StorageInfo",
    planner_data=False,
)
#: First release -> form, up to the next one's first release.
_FORMS = (
    ((1, 13), _1_13),
    ((2, 0), _2_0),
    ((2, 3), _2_3),
    ((2, 4), _2_4),
    ((2, 7), _COMMON),
    ((2, 15), replace(_COMMON, fields=6)),
)
_LAST = (2, 15)


def metadata_form(release: str | None) -> MetadataForm:
    """Return the form that a torch release (`2.2`, `2.4.1`) writes; None: what 2.4 to 2.15 read.

    Raises:
        UnknownForm: that release has no DCP, or is newer than the last one known.
    """
    if release is None:
        return _COMMON
    found = re.match(r"(\d+)\.(\d+)(\D|$)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if not (1, 13) <= version <= _LAST:
        raise UnknownForm(
            f"no known form of {quote(release)}, expected a torch release from 1.13 to 2.15"
        )
    return [form for first, form in _FORMS if first <= version][-1]
