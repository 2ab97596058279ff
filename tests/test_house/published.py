"""dcpctl as others get it: a git repository with what a commit of this tree would have."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

#: What an installation reads, and what names it to those who install.
FILES = ("pyproject.toml", "README.md", "LICENSE", "action.yml", ".pre-commit-hooks.yaml")


def environment(**more: str) -> dict[str, str]:
    """An environment in which git knows nobody's settings and writes for somebody."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "PRE_COMMIT"))}
    for who in ("AUTHOR", "COMMITTER"):
        clean |= {f"GIT_{who}_NAME": "someone", f"GIT_{who}_EMAIL": "someone@example.com"}
    clean |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return {**clean, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COMPILE": "1", **more}


def git(where: Path, *arguments: str) -> str:
    """Run git; return what it printed."""
    done = subprocess.run(
        ["git", *arguments], cwd=where, env=environment(), check=True, stdout=subprocess.PIPE
    )
    return done.stdout.decode().strip()


def commit(where: Path) -> str:
    """Commit everything in a repository, made if need be; return the commit's id."""
    git(where, "init", "--quiet")
    git(where, "add", "--all")
    git(where, "commit", "--quiet", "--message", "all")
    return git(where, "rev-parse", "HEAD")


def publish(repository: Path, where: Path) -> str:
    """Make a git repository of the working tree at `where`; return its only commit's id."""
    junk = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "dcpctl", where / "dcpctl", ignore=junk)
    shutil.copytree(repository / "sample_checkpoints", where / "sample_checkpoints", ignore=junk)
    for name in FILES:
        shutil.copy(repository / name, where / name)
    return commit(where)
