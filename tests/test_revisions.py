"""Where the arms' code comes from, and that none of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnbench.errors import UsageError, WorkerError
from cnnbench.runner.revisions import (
    WORKING_TREE,
    Repository,
    Revision,
    find_repository,
    open_checkouts,
    remove_leftovers,
    resolve,
    snapshot,
)


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@t")
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two commits; `net.py` says which."""
    top = tmp_path / "toy"
    top.mkdir()
    git(top, "init", "-q", "-b", "main")
    (top / ".gitignore").write_text("*.log\n")
    for text in ("one", "two"):
        (top / "net.py").write_text(text)
        git(top, "add", "-A")
        git(top, "commit", "-qm", text)
    return find_repository(top)


def trees(repository: Repository) -> list[str]:
    return git(repository.top, "worktree", "list", "--porcelain").splitlines()


def test_a_ref_is_a_commit_and_an_unknown_one_is_named(repository: Repository) -> None:
    assert resolve(repository, "base", "HEAD~1").commit == git(repository.top, "rev-parse", "HEAD~1")
    for ref in ("nosuch", "--all", "HEAD:net.py"):
        with pytest.raises(UsageError, match=r"--base '.*' is not a revision"):
            resolve(repository, "base", ref)


def test_outside_a_repository_there_are_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository"):
        find_repository(tmp_path)


def test_the_working_tree_is_taken_as_it_is_and_left_as_it_is(repository: Repository, tmp_path: Path) -> None:
    """Changed and new files are in the snapshot, ignored ones are not; index, branch and files stay what they were."""
    top = repository.top
    assert snapshot(repository, tmp_path) == Revision(WORKING_TREE, git(top, "rev-parse", "HEAD"))
    (top / "net.py").write_text("three")
    (top / "new.py").write_text("new")
    (top / "run.log").write_text("ignored")
    before = git(top, "status", "--porcelain"), git(top, "rev-parse", "HEAD")
    commit = snapshot(repository, tmp_path).commit
    assert git(top, "show", f"{commit}:net.py") == "three"
    assert sorted(git(top, "ls-tree", "--name-only", commit).split()) == [".gitignore", "net.py", "new.py"]
    assert (git(top, "status", "--porcelain"), git(top, "rev-parse", "HEAD")) == before


def test_arms_sit_in_folders_of_equal_length_and_change_places(repository: Repository, tmp_path: Path) -> None:
    revisions = {"base": resolve(repository, "base", "HEAD~1"), "head": resolve(repository, "head", "HEAD")}
    with open_checkouts(tmp_path / "cache", repository, revisions) as places:  # type: ignore[arg-type]
        seen = {}
        for first in ("base", "head"):
            places.exchange_arms(first)
            for arm in ("base", "head"):
                folder = places.folders(arm, first)[0]
                seen[first, arm] = folder.name, (folder / "net.py").read_text()
        assert len(str(places.slot_path(0))) == len(str(places.slot_path(1)))
    assert {text for (_, arm), (_, text) in seen.items() if arm == "base"} == {"one"}
    assert seen["base", "base"][0] == seen["head", "head"][0] == "slot0"
    assert seen["base", "head"][0] == seen["head", "base"][0] == "slot1"


def test_nothing_is_left_after_an_error(repository: Repository, tmp_path: Path) -> None:
    before, cache = trees(repository), tmp_path / "cache"
    revisions = {"base": resolve(repository, "base", "HEAD~1")}

    def fail() -> None:
        with open_checkouts(cache, repository, revisions):  # type: ignore[arg-type]
            assert trees(repository) != before
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert trees(repository) == before
    assert list(cache.iterdir()) == []
    gone = {"base": Revision("gone", "0" * 40)}
    with pytest.raises(WorkerError, match="cannot check it out"), open_checkouts(cache, repository, gone):  # type: ignore[arg-type]
        pass
    assert list(cache.iterdir()) == []


def test_what_a_killed_check_left_is_removed_at_the_next_start(repository: Repository, tmp_path: Path) -> None:
    """And what a living one uses is not."""
    cache, before = tmp_path / "cache", trees(repository)
    code = (
        "import sys, time; from pathlib import Path; from cnnbench.runner.revisions import *;"
        "top, cache = map(Path, sys.argv[1:]); r = find_repository(top);"
        "c = open_checkouts(cache, r, {'base': resolve(r, 'base', 'HEAD~1')});"
        "c.__enter__(); print('ready', flush=True); time.sleep(600)"
    )
    search = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    killed = subprocess.Popen(
        [sys.executable, "-c", code, repository.top, cache],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"ready\n"
    (root,) = cache.iterdir()
    remove_leftovers(cache)
    assert (root / "base" / "net.py").read_text() == "one"
    killed.kill()
    killed.wait()
    assert root.exists()
    assert trees(repository) != before
    deadline = time.monotonic() + 5
    while root.exists():
        remove_leftovers(cache)
        assert time.monotonic() < deadline
    assert trees(repository) == before
