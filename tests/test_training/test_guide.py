"""What docs/guides/guard.md shows is what they do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import torch.distributed.checkpoint as dcp  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.state_dict import get_state_dict  # noqa: E402

from dcpctl.model.receipt import read_receipt  # noqa: E402


@pytest.mark.filterwarnings("ignore:torch.distributed is")
def test_the_guides_script(
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    section = (repository / "docs/guides/guard.md").read_text()
    script = re.search(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert script is not None
    model = nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(model.parameters())
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "lr_scheduler": {"last_epoch": 1}}
    dcp.save(state, checkpoint_id=tmp_path / "x")
    monkeypatch.chdir(tmp_path)
    exec(script[1], {"model": model, "optimizer": optimizer, "path": tmp_path / "x"})
    assert "the load would succeed and leave 1 key on disk" in capsys.readouterr().out
    assert [one.key for one in read_receipt("receipt.json").skipped] == ["lr_scheduler.last_epoch"]
