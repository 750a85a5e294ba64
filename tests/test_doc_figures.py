"""Figures in the pages of docs/ are those of stored files: blocks written from them, and derived again by the audit."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from cnnbench import store
from cnnbench.bridges.pytest_benchmark import read_files
from cnnbench.verify.audit import audit

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "suites")]

import benchmarks  # noqa: E402
import doc_figures  # noqa: E402
import write_docs  # noqa: E402
from comparisons import KEY, Comparison  # noqa: E402

PAGE = "# A page\n\n<!-- figures: tuned -->\n<!-- figures end -->\n\nAnd 3 more words.\n"
TUNED: dict[str, Any] = {
    "title": "net, fp32, batch 128",
    "baseline": "reference fp32",
    "shows": "speed-up",
    "seconds": {
        "reference fp32": [[0.068, 0.069, 0.071], [0.071, 0.074, 0.072], [0.066, 0.067, 0.064]],
        "native": [[0.024, 0.025, 0.023], [0.026, 0.024, 0.025], [0.022, 0.021, 0.025]],
        "gemm 512": [[0.002, 0.0021, 0.0022], [0.0021, 0.002, 0.0023], [0.0019, 0.002, 0.0018]],
    },
    "flops": {"reference fp32": 6_652_509_696, "native": 6_652_509_696, "gemm 512": 268_435_456},
    "ceiling": ["gemm 512"],
}


def make_document() -> dict[str, Any]:
    """What pytest-benchmark writes of one test, with the names that must not be published."""
    statistics = dict.fromkeys(("min", "max", "mean", "stddev", "median", "q1", "q3", "iqr"), 1.0)
    return {
        "machine_info": {
            "node": "secret-host", "release": "6", "python_version": "3.11.7",
            "cnnbench": {"machine_id": "box-1a2b", "torch": "2.13.0+cpu"},
        },
        "commit_info": {"id": "abcdef0123456789", "dirty": False, "branch": "secret-branch", "project": "secret-folder"},
        "benchmarks": [
            {
                "group": None, "name": "test", "fullname": "suites/bench_tuned.py::test", "params": None,
                "extra_info": {KEY: [TUNED]}, "options": {"timer": "perf_counter"},
                "stats": {**statistics, "rounds": 1, "iterations": 1, "outliers": "0;0", "data": [1.0]},
            }
        ],
        "datetime": "2026-12-01T01:30:00+00:00",
        "version": "5.3.1",
    }  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A results tree with one stored benchmark, and a page with its block."""
    folder = tmp_path / "results" / "box-1a2b" / "benchmarks"
    folder.mkdir(parents=True)
    (folder / "tuned.json").write_text(json.dumps(benchmarks.strip(make_document())))
    (tmp_path / "page.md").write_text(doc_figures.fill_blocks(PAGE, tmp_path / "results"))
    return tmp_path


def find_disagreements(tree: Path) -> list[str]:
    def render(*_: object) -> Any:
        raise AssertionError("a block of a benchmark needs no report")

    return [f"{each.where}: {each.what}" for each in audit([tree], (), render).disagreements]


def test_the_process_is_the_replicate_and_not_the_turn() -> None:
    """Ratios of 0.99, 1 and 1.01 in three processes have Student's interval of three logs, however many turns each has."""
    for turns in (1, 50):
        seconds = {"by hand": [[1.0] * turns] * 3, "worker": [[ratio] * turns for ratio in (0.99, 1.0, 1.01)]}
        found = Comparison("t", "by hand", "time", seconds).ratio("worker")
        logs = [math.log(ratio) for ratio in (0.99, 1.0, 1.01)]
        low, high = stats.t.interval(0.95, 2, loc=sum(logs) / 3, scale=stats.sem(logs))
        assert (found.n, found.low, found.high) == (3, pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))


def test_a_ratio_is_of_turns_of_the_same_process_so_that_a_slow_process_is_none() -> None:
    """Twice as fast in every process is 2x exactly, though processes differ by four times."""
    seconds = {"slow": [[2.0, 2.2], [4.0, 4.4], [8.0, 8.8]], "fast": [[1.0, 1.1], [2.0, 2.2], [4.0, 4.4]]}
    found = Comparison("t", "slow", "speed-up", seconds).ratio("fast")
    assert [found.value, found.low, found.high] == pytest.approx([2.0, 2.0, 2.0])


def test_the_share_of_the_best_product_is_of_the_same_process() -> None:
    """Half of the best product's rate in each process, whichever product that is, is a half."""
    seconds = {"net": [[4.0], [8.0], [2.0]], "a": [[2.0], [9.0], [1.5]], "b": [[3.0], [4.0], [1.0]]}
    comparison = Comparison("t", "net", "speed-up", seconds, dict.fromkeys(seconds, 10), ("a", "b"))
    assert comparison.share_of_best_product("net").value == pytest.approx(0.5)


def test_a_stored_file_names_no_host_and_is_read_like_any_of_pytest_benchmark(tree: Path) -> None:
    path = tree / "results" / "box-1a2b" / "benchmarks" / "tuned.json"
    assert "secret" not in path.read_text()
    [row], problems = read_files([path])
    assert (row.machine_id, row.torch, row.commit_id, problems) == ("box-1a2b", "2.13.0+cpu", "abcdef0123456789", ())


def test_it_does_not_disturb_the_loading_of_ledgers(tree: Path) -> None:
    loaded = store.load_tree([tree / "results"])
    assert (loaded.ledgers, loaded.problems) == ((), ())


def test_the_audit_agrees_with_a_block_and_names_every_digit_that_is_changed(tree: Path) -> None:
    assert find_disagreements(tree) == []
    page = tree / "page.md"
    text = page.read_text()
    block = re.search(r"(?s)<!-- figures: tuned -->(.*)<!-- figures end -->", text)
    assert block is not None
    places = [block.start(1) + match.start() for match in re.finditer(r"\d", block.group(1))]
    headings = text.index("| step |"), text.index("\n| --- |")  # headings are words of the table, `fp32` among them
    for place in (place for place in places if not headings[0] <= place < headings[1]):
        page.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
        assert find_disagreements(tree), text[place - 20 : place + 5]


def test_the_audit_names_a_block_whose_file_is_gone_or_whose_name_it_does_not_know(tree: Path) -> None:
    (tree / "results" / "box-1a2b" / "benchmarks" / "tuned.json").unlink()
    assert "from the files there are []" in "".join(find_disagreements(tree))
    (tree / "page.md").write_text("<!-- figures: unheard -->\n<!-- figures end -->\n")
    assert "there is no rule for a block of figures named unheard" in "".join(find_disagreements(tree))


def test_a_block_is_written_again_and_the_rest_of_the_page_stays(tree: Path) -> None:
    """Written twice it is the same, and a block without a file says that nothing was measured."""
    text = (tree / "page.md").read_text()
    assert doc_figures.fill_blocks(text, tree / "results") == text
    assert text.startswith("# A page\n\n<!-- figures: tuned -->\n")
    assert text.endswith("<!-- figures end -->\n\nAnd 3 more words.\n")
    assert "There is no stored measurement yet." in doc_figures.fill_blocks(text, tree / "elsewhere")


@pytest.mark.slow("reads every committed ledger")
def test_the_figures_of_every_page_are_those_of_the_files() -> None:
    for path, page in write_docs.render_pages():
        assert path.read_text(encoding="utf-8") == page, f"{path.name} is out of date; run: python tools/write_docs.py"
