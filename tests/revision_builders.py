"""Toy repositories for checks between revisions: what a commit's workers do stands in its file `fake-arm`, see there."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

SUITE = """
description = "two jobs"
[[job]]
workload = "mnist-cnn"
data = "synthetic"
batch_size = 32
final_evaluation = false
[[job]]
workload = "gemm"
size = 64
"""
SAME = "mnist-cnn 1.0\ngemm 1.0\n"
BROKEN = {"fake-arm": SAME, "cnnbench/__init__.py": "raise ImportError('deliberate: no such symbol')\n"}
"""A commit whose package cannot be imported."""


def git(folder: Path, *arguments: str) -> str:
    """What git answers."""
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, *commits: Mapping[str, str]) -> tuple[str, ...]:
    """A repository with these commits, each the files named and no others; returns the commits' names, oldest first."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    made = []
    for number, files in enumerate(commits):
        git(folder, "rm", "-qr", "--ignore-unmatch", ".")
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"commit {number}", "--allow-empty")
        made.append(git(folder, "rev-parse", "HEAD"))
    return tuple(made)


def worktrees(folder: Path) -> int:
    """How many the repository has beside its own."""
    return git(folder, "worktree", "list").count("\n")
