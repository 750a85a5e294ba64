"""Merging ledgers of many machines: nothing lost, nothing overwritten, the same tree in any order, names not trusted."""

from __future__ import annotations

import errno
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import builders as b
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import merge as merging
from cnnbench import store
from cnnbench.cli.main import run_cli
from cnnbench.errors import ExitCode, FileError, LedgerError
from cnnbench.merge import MergeResult, merge
from cnnbench.schema import SCHEMA, digest
from cnnbench.store import find_published_dir, load_tree

SHIPPED = (find_published_dir() / "lecture-2017.jsonl").read_bytes()


def run_lines(
    run_id: str = "r1", machine_id: str = "box", seconds: tuple[float, ...] = (0.01, 0.02, 0.03)
) -> list[str]:
    """A header and one record a value of `seconds`; runs with the same first values have the same first lines."""
    records = b.repeats(b.cnn_job(), seconds)
    unstarted = [b.cnn_job(round=r, seed=r) for r in range(len(seconds), 6)]  # one plan for all: the same header
    return b.lines(b.ledger(records, run_id=run_id, machine=b.machine(machine_id), unstarted=unstarted))


def content(*args, **fields) -> bytes:
    return "".join(f"{line}\n" for line in run_lines(*args, **fields)).encode()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def statuses(merged: MergeResult) -> list[str]:
    return [entry.status for entry in merged.entries]


def notes(merged: MergeResult) -> str:
    return "\n".join(note for entry in merged.entries for note in entry.notes)


@pytest.fixture
def farm(tmp_path: Path) -> list[Path]:
    """Three machines' folders: runs of their own, a run twice, a run in two lengths, published rows."""
    folders = [tmp_path / name for name in ("usb", "nas", "cloud")]
    put(folders[0] / "box" / "r1.jsonl", content("r1"))
    put(folders[0] / "box" / "r2.jsonl", content("r2", seconds=(0.01,)))
    put(folders[1] / "deep" / "er" / "r2.jsonl", content("r2", seconds=(0.01, 0.02)))
    put(folders[1] / "any-name.jsonl", content("r3", "other"))
    put(folders[1] / "reference" / "lecture-2017.jsonl", SHIPPED)
    put(folders[2] / "r1.jsonl", content("r1"))
    put(folders[2] / "r4.jsonl", content("r4", "third", seconds=()))
    return folders


def test_every_run_comes_to_its_place_byte_for_byte(farm: list[Path], tmp_path: Path) -> None:
    before = [tree(folder) for folder in farm]
    merged = merge(farm, tmp_path / "results")
    assert tree(tmp_path / "results") == {
        "box/r1.jsonl": content("r1"),
        "box/r2.jsonl": content("r2", seconds=(0.01, 0.02)),
        "other/r3.jsonl": content("r3", "other"),
        "reference/lecture-2017.jsonl": SHIPPED,
        "third/r4.jsonl": content("r4", "third", seconds=()),
    }
    assert statuses(merged) == ["brought"] * 5
    assert (merged.records, merged.exit_code) == (3 + 2 + 3 + 0, ExitCode.DONE)
    assert [tree(folder) for folder in farm] == before


def test_the_merged_tree_holds_the_union_of_the_records(farm: list[Path], tmp_path: Path) -> None:
    merge(farm, tmp_path / "results")
    apart, together = load_tree(farm), load_tree([tmp_path / "results"])
    assert {r.model_dump_json() for each in together.ledgers for r in each.records} == {
        r.model_dump_json() for each in apart.ledgers for r in each.records
    }
    assert together.published_rows == apart.published_rows
    assert together.problems == ()


def test_merging_twice_changes_nothing(farm: list[Path], tmp_path: Path) -> None:
    merge(farm, tmp_path / "results")
    once = tree(tmp_path / "results")
    again = merge(farm, tmp_path / "results")
    assert tree(tmp_path / "results") == once
    assert set(statuses(again)) == {"there"}
    assert merge([tmp_path / "results"], tmp_path / "results").count("there") == 5


def test_merging_one_after_the_other_is_merging_at_once(farm: list[Path], tmp_path: Path) -> None:
    merge(farm, tmp_path / "at-once")
    for folder in farm:
        merge([folder], tmp_path / "one-by-one")
    assert tree(tmp_path / "at-once") == tree(tmp_path / "one-by-one")


COPIES = st.sampled_from(
    [
        content(seconds=()),
        content(seconds=(0.01,)),
        content(seconds=(0.01, 0.02)),
        content(seconds=(0.01, 0.02, 0.03)),
        content(seconds=(0.01, 0.5)),
        content(seconds=(0.5,)),
    ]
)
TAILS = st.sampled_from([b"", b'{"kind":"rec', b"\0" * 9, b"\n"])


@given(
    copies=st.lists(st.tuples(COPIES, TAILS, st.integers(0, 3)), min_size=1, max_size=4),
    resident=st.none() | st.tuples(COPIES, TAILS),
)
def test_the_order_of_folders_decides_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    copies: list[tuple[bytes, bytes, int]],
    resident: tuple[bytes, bytes] | None,
) -> None:
    """Nor does a second merge change anything; and no whole line that was in the tree is ever lost."""
    base = tmp_path_factory.mktemp("orders")
    folders = []
    for number, (data, tail, cut) in enumerate(copies):
        folders.append(put(base / f"from-{number}" / "r1.jsonl", data[: len(data) - cut] + tail).parent)
    outcomes = []
    for number, order in enumerate(itertools.islice(itertools.permutations(folders), 6)):
        results = base / f"results-{number}"
        if resident is not None:
            put(results / "box" / "r1.jsonl", b"".join(resident))
        merged = merge(order, results)
        outcomes.append((tree(results), [(e.status, e.sources, e.records) for e in merged.entries]))
        merge(order, results)
        assert tree(results) == outcomes[-1][0]
        if resident is not None:
            now = (results / "box" / "r1.jsonl").read_bytes()
            assert now.startswith(resident[0][: resident[0].rfind(b"\n") + 1])
    assert all(outcome == outcomes[0] for outcome in outcomes)
    shutil.rmtree(base)


def test_a_longer_copy_takes_the_place_of_the_shorter_and_says_so(tmp_path: Path) -> None:
    target = put(tmp_path / "results" / "box" / "r1.jsonl", content(seconds=(0.01,)))
    source = put(tmp_path / "usb" / "r1.jsonl", content(seconds=(0.01, 0.02)))
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["longer"]
    assert notes(merged) == f"{target} has the first 2 of the 3 lines"
    assert target.read_bytes() == source.read_bytes()
    put(source, content(seconds=(0.01,)))
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["there"]
    assert notes(merged) == f"{source} has the first 2 of the 3 lines"
    assert len(store.load(target).records) == 2


@pytest.mark.parametrize("tail", [b"", b'{"kind":"record","sche', b"\0\0\0\0 torn by a power cut"])
def test_a_torn_last_line_gives_way_to_a_whole_one(tmp_path: Path, tail: bytes) -> None:
    """Whether or not the torn part begins the line that the other copy has there; it is no record, and its loss is said."""
    whole = content(seconds=(0.01, 0.02))
    target = put(tmp_path / "results" / "box" / "r1.jsonl", content(seconds=(0.01,)) + tail)
    put(tmp_path / "usb" / "r1.jsonl", whole)
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["longer"]
    assert target.read_bytes() == whole
    assert ("left out here" in notes(merged)) == (tail.startswith(b"\0"))
    assert (f"a torn one ({len(tail)} bytes, no record" in notes(merged)) == bool(tail)


def test_an_empty_file_at_its_place_gives_way(tmp_path: Path) -> None:
    """A run that was ended before it wrote its header leaves one."""
    target = put(tmp_path / "results" / "box" / "r1.jsonl", b"")
    put(tmp_path / "usb" / "r1.jsonl", content())
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["longer"]
    assert target.read_bytes() == content()


def test_a_torn_copy_of_what_is_there_is_already_there(tmp_path: Path) -> None:
    whole = content()
    target = put(tmp_path / "results" / "box" / "r1.jsonl", whole)
    put(tmp_path / "usb" / "r1.jsonl", whole[:-50])
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["there"]
    assert "the first 3 of the 4 lines, then a torn one" in notes(merged)
    assert target.read_bytes() == whole


def test_a_whole_last_line_without_its_end_is_a_record(tmp_path: Path) -> None:
    """It is read as one, so a copy with another record in its place is a conflict and no longer version of it."""
    target = put(tmp_path / "results" / "box" / "r1.jsonl", content(seconds=(0.01, 0.02))[:-1])
    assert len(store.load(target).records) == 2
    put(tmp_path / "usb" / "r1.jsonl", content(seconds=(0.01, 0.5, 0.6)))
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["conflict"]
    put(tmp_path / "usb" / "r1.jsonl", content(seconds=(0.01, 0.02)))
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["longer"]


def test_a_conflict_leaves_both_untouched_and_the_rest_is_merged(tmp_path: Path) -> None:
    target = put(tmp_path / "results" / "box" / "r1.jsonl", content(seconds=(0.01, 0.02)))
    source = put(tmp_path / "usb" / "r1.jsonl", content(seconds=(0.01, 0.03, 0.04)))
    put(tmp_path / "usb" / "r2.jsonl", content("r2"))
    before = target.read_bytes(), source.read_bytes()
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["conflict", "brought"]
    assert notes(merged) == f"{source} and {target} differ from line 3 on (outcome)"
    assert (target.read_bytes(), source.read_bytes()) == before
    assert (tmp_path / "results" / "box" / "r2.jsonl").is_file()
    assert merged.exit_code == ExitCode.FINDING


def test_two_sources_in_conflict_bring_neither(tmp_path: Path) -> None:
    """Whichever came first would be chance; a third copy that is the beginning of both does not settle it."""
    for name, seconds in (("a", (0.01, 0.02)), ("b", (0.01, 0.03)), ("c", (0.01,))):
        put(tmp_path / name / "r1.jsonl", content(seconds=seconds))
    merged = merge([tmp_path / name for name in "abc"], tmp_path / "results")
    assert statuses(merged) == ["conflict"]
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("one", "other", "how"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "b, c"),
        ({str(n): n for n in range(9)}, {}, "0, 1, 2, 3, 4 and more"),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, "only in how it is written"),
        ({"a": 1}, "junk", "one is not a JSON object"),
        ("no", "junk", "neither is a JSON object"),
    ],
)
def test_what_differs_is_named(tmp_path: Path, one: object, other: object, how: str) -> None:
    for name, line in (("a", one), ("b", other)):
        put(tmp_path / name / "r1.jsonl", content(seconds=()) + json.dumps(line).encode() + b"\n")
    assert f"differ from line 2 on ({how})" in notes(merge([tmp_path / "a", tmp_path / "b"], tmp_path / "results"))


def test_a_live_run_is_left_out_until_it_has_ended(tmp_path: Path) -> None:
    put(tmp_path / "usb" / "r2.jsonl", content("r2"))
    with store.create(tmp_path / "usb", b.header(run_id="live")) as writer:
        merged = merge([tmp_path / "usb"], tmp_path / "results")
        assert statuses(merged) == ["alive", "brought"]
        assert "merge again when it has ended" in notes(merged)
        assert merged.exit_code == ExitCode.JOB_FAILED
        assert list(tree(tmp_path / "results")) == ["box/r2.jsonl"]
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["there", "brought"]
    store.reopen(writer.path)[0].close()


def test_a_live_run_of_this_tree_is_there_and_not_replaced(tmp_path: Path) -> None:
    """Its writer would go on in the file that was taken away."""
    with store.create(tmp_path / "results", b.header(run_id="live")) as writer:
        assert statuses(merge([tmp_path / "results"], tmp_path / "results")) == ["there"]
        header = writer.path.read_bytes()
        put(tmp_path / "usb" / "copy.jsonl", header + b'{"kind":"record"}\n')
        for dry_run in (True, False):
            merged = merge([tmp_path / "usb"], tmp_path / "results", dry_run=dry_run)
            assert (statuses(merged), merged.exit_code) == (["alive"], ExitCode.JOB_FAILED)
            assert writer.path.read_bytes() == header


def test_a_file_system_without_locks_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    put(tmp_path / "usb" / "r1.jsonl", content())
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["brought"]


HOSTILE = [
    "../../x",
    "/tmp/x",
    "a/b",
    "..",
    ".",
    "",
    ".hidden",
    "--results",
    "a\0b",
    "a\nb",
    "a\x1b[2J",
    "a\\b",
    "a\u202eb",
    "x" * 201,
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("which", ["machine", "run"])
def test_an_id_that_is_no_plain_name_writes_nothing_anywhere(tmp_path: Path, name: str, which: str) -> None:
    ids = {"machine": ("r1", name), "run": (name, "box")}[which]
    put(tmp_path / "usb" / "evil.jsonl", content(*ids))
    put(tmp_path / "usb" / "good.jsonl", content("r2"))
    before = tree(tmp_path)
    merged = merge([tmp_path / "usb"], tmp_path / "deep" / "down" / "results")
    assert statuses(merged) == ["refused", "brought"]
    assert f"evil.jsonl: {which} id " in notes(merged)
    assert merged.exit_code == ExitCode.USAGE
    after = tree(tmp_path)
    assert set(after) - set(before) == {"deep/down/results/box/r2.jsonl"}
    assert before.items() <= after.items()


def test_a_machine_may_not_call_itself_reference(tmp_path: Path) -> None:
    for number, name in enumerate(("reference", "Reference")):
        put(tmp_path / "usb" / f"{number}.jsonl", content("r1", name))
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["refused", "refused"]
    assert "published rows" in notes(merged)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no readable run header"),
        (b"junk\n", "not a JSON line"),
        (b"\xff\xfe\0\n", "not a JSON line"),
        (b"[" * 100_000, "no readable run header"),
        (content()[:100], "torn last line"),
        (
            content(seconds=()).replace(b'"schema_version":%d' % SCHEMA, b'"schema_version":%d' % (SCHEMA + 1)),
            "upgrade cnnbench",
        ),
        (b"".join(content().splitlines(keepends=True)[1:]), "neither a run nor a record|no readable run header"),
        (content("r1") + content("r2"), "not one run: line 5 is another header"),
        (
            content("r1") + content("r2").replace(b'"kind":"run"', b'"kind":"\\u0072un"'),
            "not one run: line 5 is another header",
        ),
        (content("r1") * 2, "not one run"),
        (SHIPPED.replace(b'"year":2017', b'"year":"long ago"', 1), "field year"),
        (SHIPPED + b"junk\n", "rows.jsonl:6: "),
    ],
)
def test_what_is_no_ledger_is_named_and_the_rest_is_merged(tmp_path: Path, data: bytes, why: str) -> None:
    put(tmp_path / "usb" / "rows.jsonl", data)
    put(tmp_path / "usb" / "r9.jsonl", content("r9"))
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert sorted(statuses(merged)) == ["brought", "refused"]
    assert any(part in notes(merged) for part in why.split("|"))
    assert list(tree(tmp_path / "results")) == ["box/r9.jsonl"]
    assert merged.exit_code == ExitCode.USAGE


def test_a_broken_copy_does_not_hide_a_good_one(tmp_path: Path) -> None:
    put(tmp_path / "usb" / "good.jsonl", content())
    put(tmp_path / "usb" / "twice.jsonl", content() * 2)
    put(tmp_path / "usb" / "rows.jsonl", SHIPPED)
    put(tmp_path / "nas" / "rows.jsonl", SHIPPED + b"junk\n")
    merged = merge([tmp_path / "usb", tmp_path / "nas"], tmp_path / "results")
    assert sorted(statuses(merged)) == ["brought", "brought", "refused", "refused"]
    assert tree(tmp_path / "results") == {"box/r1.jsonl": content(), "reference/rows.jsonl": SHIPPED}


def test_broken_chains_and_newer_records_are_named_and_copied_as_they_are(tmp_path: Path) -> None:
    lines = run_lines()
    chain = put(tmp_path / "usb" / "a.jsonl", "".join(f"{line}\n" for line in (lines[0], *lines[2:])).encode())
    newer = lines[1].replace(f'"schema_version":{SCHEMA}', f'"schema_version":{SCHEMA + 1}')
    put(tmp_path / "usb" / "b.jsonl", "\n".join([*run_lines("r2", seconds=()), newer, ""]).encode())
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["brought", "brought"]
    first, second = (entry.problems[0] for entry in merged.entries)
    assert first.startswith(f"{chain}:2: digest chain broken")
    assert "upgrade cnnbench" in second
    assert (tmp_path / "results" / "box" / "r1.jsonl").read_bytes() == chain.read_bytes()
    assert merged.exit_code == ExitCode.DONE


def test_published_rows_are_deduplicated_by_content(tmp_path: Path) -> None:
    put(tmp_path / "usb" / "a.jsonl", SHIPPED)
    put(tmp_path / "usb" / "b.jsonl", SHIPPED)
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["brought", "there"]
    assert tree(tmp_path / "results") == {"reference/a.jsonl": SHIPPED}
    assert statuses(merge([tmp_path / "usb"], tmp_path / "results")) == ["there", "there"]
    put(tmp_path / "nas" / "a.jsonl", SHIPPED.replace(b"GTX-970", b"GTX-971"))
    merged = merge([tmp_path / "nas"], tmp_path / "results")
    assert statuses(merged) == ["conflict"]
    assert "(processor" in notes(merged)
    put(tmp_path / "nas" / "a.jsonl", SHIPPED + SHIPPED.splitlines(keepends=True)[0])
    assert statuses(merge([tmp_path / "nas"], tmp_path / "results")) == ["longer"]


def test_a_file_reached_twice_counts_once(tmp_path: Path) -> None:
    path = put(tmp_path / "usb" / "deep" / "r1.jsonl", content())
    (tmp_path / "usb" / "link.jsonl").symlink_to(path)
    merged = merge([tmp_path / "usb", tmp_path / "usb" / "deep", path], tmp_path / "results")
    assert [len(entry.sources) for entry in merged.entries] == [1]


def test_what_lies_in_the_results_is_already_there_wherever_it_lies(tmp_path: Path) -> None:
    put(tmp_path / "results" / "incoming" / "r1.jsonl", content())
    put(tmp_path / "usb" / "r1.jsonl", content(seconds=(0.01,)))
    before = tree(tmp_path)
    assert statuses(merge([tmp_path], tmp_path / "results")) == ["there"]
    assert tree(tmp_path) == before


def test_links_to_nowhere_and_odd_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "gone.jsonl").symlink_to("nowhere")
    os.mkfifo(tmp_path / "usb" / "pipe.jsonl")
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["refused", "refused"]
    assert merge([tmp_path / "usb" / "pipe.jsonl"], tmp_path / "results").exit_code == ExitCode.USAGE


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "usb" / "r1.jsonl", content())
    (tmp_path / "usb" / "locked").mkdir()
    real = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["refused", "brought"]
    assert "locked: cannot look into it: Permission denied" in notes(merged)


def test_a_source_that_is_not_there_stops_all_before_anything_is_written(tmp_path: Path) -> None:
    put(tmp_path / "usb" / "r1.jsonl", content())
    with pytest.raises(LedgerError, match=r"nosuch.*: no such file or directory; nothing was merged"):
        merge([tmp_path / "usb", tmp_path / "nosuch"], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    put(tmp_path / "usb" / "r1.jsonl", content())
    put(tmp_path / "results", b"")
    with pytest.raises(FileError, match=r"cannot write: .*; choose another place with --results DIR"):
        merge([tmp_path / "usb"], tmp_path / "results")


def test_a_dry_run_says_the_same_and_writes_nothing(farm: list[Path], tmp_path: Path) -> None:
    put(farm[0] / "b.jsonl", SHIPPED)
    planned = merge(farm, tmp_path / "results", dry_run=True)
    assert not (tmp_path / "results").exists()
    assert planned == merge(farm, tmp_path / "results")


KILL = """
import os, signal, sys
from pathlib import Path
from cnnbench.merge import merge
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(os, sys.argv[1], die)
merge([Path(sys.argv[2])], Path(sys.argv[3]))
"""


@pytest.mark.parametrize("moment", ["fsync", "link", "unlink", "replace"])
def test_killed_at_any_moment_it_leaves_no_half_ledger(tmp_path: Path, moment: str) -> None:
    """Under a ledger's name there is the whole old content or the whole new one; the next merge makes it good."""
    old, new = content("r1", seconds=(0.01,)), content("r1")
    target = put(tmp_path / "results" / "box" / "r1.jsonl", old)
    put(tmp_path / "usb" / "r1.jsonl", new)
    put(tmp_path / "usb" / "r0.jsonl", content("r0"))
    done = subprocess.run([sys.executable, "-c", KILL, moment, tmp_path / "usb", tmp_path / "results"], check=False)
    assert done.returncode < 0
    assert target.read_bytes() in (old, new)
    for path in (tmp_path / "results").rglob("*.jsonl"):
        assert path.read_bytes() in (old, new, content("r0"))
    merge([tmp_path / "usb"], tmp_path / "results")
    assert target.read_bytes() == new
    assert load_tree([tmp_path / "results"]).problems == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_interrupted_or_out_of_space_it_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    put(tmp_path / "usb" / "r1.jsonl", content())
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((KeyboardInterrupt, FileError)):
        merge([tmp_path / "usb"], tmp_path / "results")
    assert tree(tmp_path / "results") == {}


def test_what_appears_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another merge, or a run, may write at the target between the look and the copy."""
    put(tmp_path / "usb" / "r1.jsonl", content())
    target, real = tmp_path / "results" / "box" / "r1.jsonl", merging._bring

    def late(path: Path, new: bytes, before: bytes | None, *, dry_run: bool) -> None:
        put(target, b"somebody else's")
        real(path, new, before, dry_run=dry_run)

    monkeypatch.setattr(merging, "_bring", late)
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert (statuses(merged), target.read_bytes()) == (["refused"], b"somebody else's")
    assert "merge again" in notes(merged)
    put(target, content(seconds=(0.01,)))
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert (statuses(merged), target.read_bytes()) == (["refused"], b"somebody else's")


@pytest.mark.parametrize("there", [False, True])
def test_a_file_system_without_hard_links_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    target = tmp_path / "results" / "box" / "r1.jsonl"

    def link(*_: object) -> None:
        if there:
            put(target, b"somebody else's")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    put(tmp_path / "usb" / "r1.jsonl", content())
    merged = merge([tmp_path / "usb"], tmp_path / "results")
    assert statuses(merged) == ["refused" if there else "brought"]
    assert tree(tmp_path / "results") == {"box/r1.jsonl": b"somebody else's" if there else content()}


def test_the_command_prints_a_line_for_what_it_brought_and_a_summary(
    farm: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_cli(["merge", "usb", "nas", "cloud", "--dry-run"]) == ExitCode.DONE
    assert "to bring  results/box/r1.jsonl: 3 records from cloud/r1.jsonl\n" in capsys.readouterr().out
    assert not Path("results").exists()
    assert run_cli(["merge", "usb", "nas", "cloud"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "brought  results/reference/lecture-2017.jsonl: 5 rows from nas/reference/lecture-2017.jsonl",
        "brought  results/box/r1.jsonl: 3 records from cloud/r1.jsonl",
        "brought  results/box/r2.jsonl: 2 records from nas/deep/er/r2.jsonl; usb/box/r2.jsonl has the first 2 of the 3 lines",
        "brought  results/other/r3.jsonl: 3 records from nas/any-name.jsonl",
        "brought  results/third/r4.jsonl: 0 records from cloud/r4.jsonl",
        "4 ledgers brought, 0 already there, 0 longer, 0 conflicts, 1 file of published rows brought; 8 records in all",
    ]
    assert err == "now: cnnbench report results -o report.html\n"
    assert run_cli(["merge", "cloud"]) == ExitCode.DONE
    out, err = capsys.readouterr()
    assert out == "0 ledgers brought, 2 already there, 0 longer, 0 conflicts; 3 records in all\n"
    assert err == "now: cnnbench report results -o report.html\n"
    assert run_cli(["merge", "cloud", "-v"]) == ExitCode.DONE
    assert capsys.readouterr().out.count("already there  results/") == 2


def test_the_command_says_what_went_wrong_and_no_more_when_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 1 for a conflict, though a file was refused too; names of files cannot paint the terminal."""
    monkeypatch.setenv("CNNBENCH_RESULTS", str(tmp_path / "results"))
    put(tmp_path / "results" / "box" / "r1.jsonl", content(seconds=(0.02,)))
    put(tmp_path / "usb" / "r1.jsonl", content())
    put(tmp_path / "usb" / "r2.jsonl", content("r2"))
    put(tmp_path / "usb" / "\x1b[2Jevil\udcff.jsonl", b"junk")
    (tmp_path / "empty").mkdir()
    folders = [str(tmp_path / "usb"), str(tmp_path / "empty")]
    assert run_cli(["-q", "merge", *folders]) == ExitCode.FINDING
    out, err = capsys.readouterr()
    refused, conflict = out.splitlines()
    assert refused.startswith(f"REFUSED  {tmp_path}/usb/\\x1b[2Jevil\\udcff.jsonl: not a cnnbench ledger")
    assert conflict.startswith(f"CONFLICT  {tmp_path}/results/box/r1.jsonl: {tmp_path}/usb/r1.jsonl and ")
    assert conflict.endswith("neither was overwritten; set the wrong one aside and merge again")
    assert err == f"warning: {tmp_path}/empty: no *.jsonl under it\n"
    assert run_cli(["merge", "--json", *folders]) == ExitCode.FINDING
    document = json.loads(capsys.readouterr().out)
    assert [document[key] for key in ("conflict", "refused", "brought", "there", "records")] == [1, 1, 0, 1, 3]
    assert document["without_ledgers"] == [str(tmp_path / "empty")]
    assert [entry["status"] for entry in document["entries"]] == ["refused", "conflict", "there"]


def test_the_command_with_a_folder_that_is_not_there_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run_cli(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "--results", str(tmp_path / "r")]) == ExitCode.USAGE
    )
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {tmp_path}/a, {tmp_path}/b: no such file or directory")


def test_a_merged_ledger_keeps_its_digest(farm: list[Path], tmp_path: Path) -> None:
    merge(farm, tmp_path / "results")
    ledger = store.load(tmp_path / "results" / "box" / "r1.jsonl")
    assert ledger.final_digest == digest(run_lines("r1")[-1])
