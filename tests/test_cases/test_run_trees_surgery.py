"""Surgery keeps a save of any framework's tree what it is: its parts, and all files beside them."""

from __future__ import annotations

from pathlib import Path

from dcpctl.model import saves
from dcpctl.model.opening import open_checkpoint
from dcpctl.surgery.edits import apply_edits
from dcpctl.surgery.select import Select
from dcpctl.surgery.upgrade import Upgrade
from dcpctl.writing.options import WriteOptions
from dcpctl.writing.plan import plan
from dcpctl.writing.undo import undo
from dcpctl.writing.write import write
from tests.test_writing.building import assert_same, hashes


def files(path: Path, prefix: str = "") -> set[str]:
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return {name for name in names if name.startswith(prefix)}


def test_every_complete_save_of_every_tree(shared: Path, tmp_path: Path) -> None:
    seen = 0
    for tree in sorted((shared / "reports/run-trees").iterdir()):
        found = saves.look(tree)
        for save in [found.save] if found.save is not None else found.saves:
            if save.state != saves.COMPLETE:
                continue
            seen += 1
            made = tmp_path / str(seen)
            with open_checkpoint(save.path) as checkpoint:
                draft, _ = apply_edits(checkpoint, [Select(("*",))], lambda path: checkpoint)
                planned = plan(draft, made)
                write(planned)
            assert planned.warnings == (), save.path
            whole = save.path.is_dir()
            around, prefix = (save.path, "") if whole else (save.path.parent, save.path.name)
            assert files(made) == files(around, prefix), save.path
            assert_same(save.path, made)
            before = hashes(made)
            options = WriteOptions(in_place=True)
            with open_checkpoint(made) as checkpoint:
                draft, _ = apply_edits(checkpoint, [Upgrade("2.9")], lambda path: checkpoint)
                report = write(plan(draft, made, options), options)
            if report.backup is not None:
                undo(made)
            assert hashes(made) == before, save.path
    assert seen >= 10
