"""The generated tables of the pages in docs/: blocks between `<!-- figures: NAME -->` and `<!-- figures end -->`.

Their figures are those of files in results/: ledgers, counts of seeds, and benchmarks that `tools/benchmarks.py` stored.
`cnnbench audit results docs` derives each of them again (`cnnbench/verify/blocks.py`).
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "suites")]

from comparisons import KEY, Comparison  # noqa: E402

from cnnbench import units  # noqa: E402
from cnnbench.analysis.stats import Estimate  # noqa: E402
from cnnbench.report import escaping  # noqa: E402

if TYPE_CHECKING:
    from cnnbench.cli.load_results import LoadedResults
    from cnnbench.report.model import Report

BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- figures end -->)", re.DOTALL)
RESULTS = ROOT / "results"
Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]
"""A title, headings and rows."""


def fill_blocks(text: str, results: Path = RESULTS) -> str:
    """Write every block of a page again. Raises KeyError for a name that there is no block of."""

    def fill(block: re.Match[str]) -> str:
        tables = list(BLOCKS[block.group(2)](results))
        shown = [line for table in tables for line in write_table(*table)] or [
            "There is no stored measurement yet.",
            "",
        ]
        return "\n".join((block.group(1), *shown, block.group(3)))

    return BLOCK.sub(fill, text)


def write_table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write a table in Markdown: its title in bold, figures to the right."""
    yield from (
        "",
        f"**{escaping.markdown(title)}**",
        "",
        _write_line(headings),
        "| --- |" + " ---: |" * (len(headings) - 1),
    )
    yield from (*map(_write_line, rows), "")


def _write_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(escaping.markdown, cells))} |"


def list_benchmarks(name: str, results: Path) -> Iterator[Table]:
    """List the comparisons of a benchmark on every machine that has it stored."""
    for path in sorted(results.glob(f"*/benchmarks/{name}.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        for stored in (each for benchmark in document["benchmarks"] for each in benchmark["extra_info"].get(KEY, ())):
            yield make_comparison_table(Comparison(**stored), document)


def make_comparison_table(comparison: Comparison, document: Mapping[str, Any]) -> Table:
    """Make the table of one comparison: a row per step, the best matrix product last."""
    facts, commit = document["machine_info"]["cnnbench"], document["commit_info"]
    changes = " with changes" if commit["dirty"] else ""
    title = (
        f"{comparison.title} · {facts['machine_id']}, torch {facts['torch']} · n={comparison.processes} processes · "
        f"commit {str(commit['id'])[:10]}{changes}, {document['datetime'][:10]}"
    )
    headings = ["step", "one step", f"{comparison.shows} over {comparison.baseline}"]
    write_ratio = units.ratio if comparison.shows == "speed-up" else "{:.3f}".format
    rows = []
    for name in (name for name in comparison.seconds if name not in comparison.ceiling):
        cells = [name, write_estimate(comparison.step_seconds(name), units.short_seconds)]
        base = name == comparison.baseline
        cells.append("baseline" if base else write_estimate(comparison.ratio(name), write_ratio))
        if comparison.ceiling:
            cells.append(write_estimate(comparison.flops_per_second(name), units.giga))
            cells.append(write_estimate(comparison.share_of_best_product(name), "{:.2f}".format))
        rows.append(cells)
    if comparison.ceiling:
        headings += ["model GFLOP/s", "over the best product's"]
        rows.append(["the best matrix product", "", "", write_estimate(comparison.best_product(), units.giga), ""])
    return title, headings, rows


def write_estimate(estimate: Estimate, text: Callable[[float], str]) -> str:
    """Write an estimate with its interval."""
    value = text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({units.span(estimate.low, estimate.high, text)})"


def list_bands(results: Path) -> Iterator[Table]:
    """List the accuracy bands of recipes from the counts of their seeds."""
    for path in sorted(results.glob("*/seeds/models.json")):
        rows = []
        for recipe in json.loads(path.read_text(encoding="utf-8"))["recipes"]:
            shares = [right / recipe["images"] for right in recipe["right_by_seed"].values()]
            low, high = recipe["band"]["low"], recipe["band"]["high"]
            spread = f"{100 * statistics.stdev(shares):.3f} pp"
            mean = units.percent(statistics.fmean(shares), 3)
            band = f"{units.percent(low)} to {units.percent(high)}"
            rows.append((recipe["workload"], str(len(shares)), mean, spread, band))
        yield f"{path.parent.parent.name}", ("network", "seeds", "mean", "standard deviation", "band"), rows


@lru_cache(maxsize=1)
def _load_ledgers(results: Path) -> LoadedResults:
    from cnnbench.cli.load_results import Selection, load_results

    return load_results(Selection(paths=(results,)))


def list_claims(results: Path) -> Iterator[Table]:
    """List the claims of the open class, as `cnnbench learning open` does."""
    from cnnbench.analysis.seed_accuracy import collect_claims
    from cnnbench.report.learning import build_claims

    found = _load_ledgers(results)
    for claim in collect_claims(found.comparison.rows):
        report = build_claims([claim], found.processor_cell, problems=(), digests={})
        [(_, headings, rows)] = _select(report, "claims", ("recipe", "seeds", "mean", "bound", "time", "verdict"))
        yield f"{claim.row.machine.id} · run {claim.row.run_id}", headings, rows


def list_convergence(results: Path) -> Iterator[Table]:
    """List the modes compared with the plain one, as `cnnbench learning convergence` does."""
    from cnnbench.report.learning import build_convergence

    found = _load_ledgers(results)
    report = build_convergence(found.comparison.rows, found.processor_cell, margin=None, problems=(), digests={})
    columns = ("mode", "seeds", "mode_accuracy", "plain_accuracy", "difference", "margin", "verdict")
    return _select(report, "convergence", columns)


def list_ladder(results: Path) -> Iterator[Table]:
    """List the rungs of the CNN's reference and tuned divisions, as `cnnbench show --only ladder` does."""
    from cnnbench.report import tables

    report = tables.build(_load_ledgers(results).comparison, problems=(), digests={}, only="ladder")

    def is_shown(title: str, rung: str) -> bool:
        return title.startswith("mnist-cnn v1 · batch 128 · rmsprop") and (
            "tuned division" in rung or "nchw, eager" in rung
        )

    return _select(report, "ladder", ("rung", "step", "over_first", "processor"), is_shown)


def _select(
    report: Report, key: str, columns: Sequence[str], is_shown: Callable[[str, str], bool] = lambda title, cell: True
) -> Iterator[Table]:
    """Select columns of the measured rows of a table, a table for each of its groups."""
    [table] = [table for table in report.tables if table.key == key]
    places = {column.key: place for place, column in enumerate(table.columns)}
    chosen = [places[name] for name in columns]
    headings = [table.columns[place].one_line for place in chosen]
    for group in table.groups:
        rows = [[line.cells[place].one_line for place in chosen] for line in group.lines if line.kind == "measured"]
        if rows := [cells for cells in rows if is_shown(group.title, cells[0])]:
            yield group.title, headings, rows


BLOCKS: Mapping[str, Callable[[Path], Iterable[Table]]] = {
    **{name: partial(list_benchmarks, name) for name in ("tuned", "surroundings", "harness")},
    "bands": list_bands,
    "claims": list_claims,
    "convergence": list_convergence,
    "ladder": list_ladder,
}
