"""Where each arm's code comes from: two folders of equal path length, exchanged by a coin, and nothing left behind.

An arm is a git revision (in a separate worktree), the working tree as it is now (a commit of it that belongs to no
branch, so that editing can continue meanwhile), or the running cnnbench. A check's folder under the cache is locked
while its process lives; a folder without a lock belongs to a process that was killed, and is removed at the next start.

The repository need not be cnnbench's: if it has no `cnnbench` folder, the arms run this one and find the repository's
packages (your own workload, for example) before any installed ones.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cnnbench.errors import LedgerError, UsageError, WorkerError
from cnnbench.files import LockedFile
from cnnbench.paired_protocol import ARMS, Arm, other_arm

WORKING_TREE = "working tree"
LOCK = "lock"
GIT_SECONDS = 300.0
AUTHOR = ("-c", "user.name=cnnbench", "-c", "user.email=cnnbench@localhost")


@dataclass(frozen=True)
class Revision:
    """A commit as it was asked for: `text` is the ref, or WORKING_TREE."""

    text: str
    commit: str

    @property
    def label(self) -> str:
        """`v1.2 (3f2a91c04d)`; only the beginning of the hash if the commit was given by its hash."""
        if self.commit.startswith(self.text):
            return self.text[:10]
        return f"{self.text} ({self.commit[:10]})"


@dataclass(frozen=True)
class Repository:
    """A git repository and the folder in it that is tested, `prefix` below its top."""

    top: Path
    prefix: str


def find_repository(folder: Path) -> Repository:
    """Find the repository a folder belongs to. Raises UsageError if there is none, or no git."""
    try:
        top = _git(folder, "rev-parse", "--show-toplevel")
        return Repository(Path(top), _git(folder, "rev-parse", "--show-prefix"))
    except subprocess.CalledProcessError as error:
        raise UsageError(f"{folder}: not in a git repository, so no revision can be checked; go into one") from error


def resolve(repository: Repository, arm: Arm, ref: str) -> Revision:
    """Resolve a ref to its commit. Raises UsageError if it does not name one."""
    try:
        return Revision(
            ref, _git(repository.top, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        )
    except subprocess.CalledProcessError as error:
        hint = ""
        with contextlib.suppress(subprocess.SubprocessError):
            if _git(repository.top, "rev-parse", "--is-shallow-repository") == "true":
                hint = "; a shallow clone may lack it: git fetch --unshallow"
        raise UsageError(f"--{arm} {ref!r} is not a revision of {repository.top}{hint}") from error


def snapshot(repository: Repository, scratch: Path) -> Revision:
    """Commit the working tree as it is, with untracked files that git does not ignore.

    HEAD itself if nothing changed.
    """
    top, index = repository.top, scratch / "index"
    try:
        head = _git(top, "rev-parse", "--verify", "HEAD")
        if not _git(top, "status", "--porcelain"):
            return Revision(WORKING_TREE, head)
        own_index = ("env", f"GIT_INDEX_FILE={index}")
        _git(top, "read-tree", "HEAD", before=own_index)
        _git(top, "add", "--all", before=own_index)
        tree = _git(top, "write-tree", before=own_index)
        commit = _git(top, *AUTHOR, "commit-tree", tree, "-p", head, "-m", "working tree of a cnnbench check")
    except subprocess.CalledProcessError as error:
        raise UsageError(f"{top}: its working tree cannot be read: {_last_line(error)}") from error
    finally:
        index.unlink(missing_ok=True)
    return Revision(WORKING_TREE, commit)


@dataclass(frozen=True)
class Checkouts:
    """The folders of a check. `running_package` has the running cnnbench, for an arm whose folder has none."""

    root: Path
    running_package: Path

    def exchange_arms(self, first: Arm) -> None:
        """Assign the first folder to that arm and the second to the other."""
        for number, arm in enumerate((first, other_arm(first))):
            link, fresh = self.slot_path(number), self.root / f"new{number}"
            fresh.symlink_to(self.root / arm, target_is_directory=True)
            fresh.replace(link)

    def slot_path(self, number: int) -> Path:
        """Name the path under which arms find their packages: equally long for both."""
        return self.root / f"slot{number}"

    def folders(self, arm: Arm, first: Arm) -> tuple[Path, ...]:
        """List where the arm looks for packages, first to last."""
        slot = self.slot_path(0 if arm == first else 1)
        return slot, slot / "src", self.running_package


@contextlib.contextmanager
def open_checkouts(
    cache: Path, repository: Repository | None, revisions: Mapping[Arm, Revision]
) -> Iterator[Checkouts]:
    """Make the folders and remove them again; arms without a revision run this cnnbench.

    Raises WorkerError from git. Folders that a killed check left are removed first.
    """
    cache.mkdir(parents=True, exist_ok=True)
    remove_leftovers(cache)
    root = cache / secrets.token_hex(4)
    root.mkdir()
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(LockedFile.create(root / LOCK))
        top = None if repository is None else str(repository.top)
        lock.append_line(json.dumps({"repository": top}))
        stack.callback(_remove, root, top)
        own = root / "own"
        own.mkdir()
        (own / "cnnbench").symlink_to(Path(__file__).resolve().parents[1], target_is_directory=True)
        for arm in ARMS:
            _fill(root, arm, repository, revisions.get(arm), own)
        places = Checkouts(root, own)
        places.exchange_arms("base")
        yield places


def remove_leftovers(cache: Path) -> None:
    """Remove what killed checks left: every folder whose lock is free."""
    for root in sorted(filter(Path.is_dir, cache.glob("*"))):
        with contextlib.suppress(LedgerError), LockedFile.reopen(root / LOCK) as lock:
            repository = None
            with contextlib.suppress(ValueError, AttributeError):  # it was killed before it had written the line
                repository = json.loads(lock.path.read_text()).get("repository")
            _remove(root, repository)


def _fill(
    root: Path, arm: Arm, repository: Repository | None, revision: Revision | None, running_package: Path
) -> None:
    """Make `root/arm`, a link to the folder with the arm's packages."""
    if repository is None or revision is None:
        (root / arm).symlink_to(running_package, target_is_directory=True)
        return
    tree = root / f"tree-{arm}"
    try:
        _git(repository.top, "worktree", "add", "--detach", "--force", str(tree), revision.commit)
    except subprocess.CalledProcessError as error:
        raise WorkerError(f"{arm} {revision.label}: git cannot check it out: {_last_line(error)}") from error
    (root / arm).symlink_to(tree / repository.prefix, target_is_directory=True)


def _remove(root: Path, repository: str | None) -> None:
    def change_worktrees(*arguments: str) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):  # the repository itself may be gone
            if repository is not None:
                _git(Path(repository), "worktree", *arguments)

    for tree in root.glob("tree-*"):
        change_worktrees("remove", "--force", "--force", str(tree))
    shutil.rmtree(root, ignore_errors=True)
    change_worktrees("prune")


def _git(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> str:
    """Run git and return its output.

    Raises CalledProcessError, or UsageError if git is not installed.
    """
    command = [*before, "git", "-C", str(folder), "-c", "core.hooksPath=/dev/null", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except FileNotFoundError as error:
        raise UsageError(
            "git is not installed, and revisions need it; compare with --base-python or --base-set"
        ) from error
    return done.stdout.strip()


def _last_line(error: subprocess.CalledProcessError) -> str:
    return (str(error.stderr).strip().splitlines() or ["git gave no reason"])[-1]
