"""A machine that others use is noticed before a run and before each process; its rows are marked, doubted and never quoted."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import builders as b
import pytest
import report_builders
import run_builders
from audit_builders import Made
from fakes_machine import quiet_proc
from test_run import Quiet, launcher
from test_store import header

from cnnbench import store
from cnnbench.analysis import process_table, speedup
from cnnbench.analysis.ceiling import UNFIT_PRODUCT
from cnnbench.analysis.rows import Row
from cnnbench.devices.nvml import NvmlResult
from cnnbench.errors import UsageError
from cnnbench.machine.doctor import BUSY_SHARE, HostState, list_unfit_now, probe_host, watch_cpu
from cnnbench.report import screen, tables
from cnnbench.report.render import text as render
from cnnbench.report.sections import write_headline
from cnnbench.runner.launch import LaunchOptions
from cnnbench.runner.run import execute, list_pending_jobs
from cnnbench.schema import Record, Telemetry

BUSY = ("other programs use 100 % of the CPU now",)
SLOW, QUIET = (0.30, 0.71, 1.63), (0.070, 0.072, 0.071)


def stat(idle: int, used: int, stolen: int = 0, waiting: int = 0) -> str:
    """Ticks of two cores, the second of which is always busy."""
    return f"cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 {used} 0 0 {idle} {waiting} 0 0 {stolen} 0 0\ncpu1 {used + idle} 0 0 0 0 0 0 0 0 0\n"


def put_on(records: Sequence[Record], unfit: tuple[str, ...] | None) -> list[Record]:
    return [record.model_copy(update={"unfit": unfit}) for record in records]


def timed(unfit: tuple[str, ...] | None, steps: Sequence[float] = QUIET, **fields: object) -> list[Record]:
    return put_on(b.repeats(b.cnn_job(), steps, **report_builders.MEASURED, **fields), unfit)


def compare(*records: Record) -> speedup.Comparison:
    placed = [record.model_copy(update={"index": index}) for index, record in enumerate(records)]
    processes, _ = process_table.read_processes([b.ledger(placed)])
    return speedup.compute_speedups(processes, report_builders.REFERENCES)


def find_training(comparison: speedup.Comparison) -> Row:
    return next(row for row in comparison.rows if row.job.workload == "mnist-cnn")


def readings(seconds: float, **growth: float) -> dict[str, Telemetry]:
    """Readings before and after timed steps of `seconds`, between which each counter grew by that share."""
    later = {name: 7.0 + share * seconds for name, share in growth.items()}
    return {"telemetry_before": Telemetry(**dict.fromkeys(growth, 7.0)), "telemetry_after": Telemetry(**later)}


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (stat(150, 100), 0.0),
        (stat(100, 150), 1.0),
        (stat(140, 110), 0.2),
        (stat(125, 100, 25), 0.5),
        (stat(100, 100, 0, 50), 0.0),
    ],
)
def test_the_share_of_the_cpu_that_is_busy_is_what_was_not_idle_while_this_process_slept(
    tmp_path: Path, after: str, share: float
) -> None:
    """Ticks used or stolen over all; waiting for a disk is idle; only the allowed core counts."""
    (tmp_path / "stat").write_text(stat(100, 100))
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (tmp_path / "stat").write_text(after)

    assert watch_cpu(0.5, proc=tmp_path, cores=frozenset({0}), sleep=sleep) == pytest.approx(share)
    assert slept == [0.5]


def test_a_kernel_that_counts_nothing_gives_no_share(tmp_path: Path) -> None:
    """Neither a missing file nor counters that stand still are an idle machine."""
    assert watch_cpu(0.5, proc=tmp_path, sleep=lambda _: None) is None
    (tmp_path / "stat").write_text(stat(0, 0))
    assert watch_cpu(0.5, proc=tmp_path, cores=frozenset({0}), sleep=lambda _: None) is None


def test_only_what_runs_now_makes_the_machine_unfit_in_a_run() -> None:
    """A quarter of the CPU does; a load average of 64, which may be the run's own, does not."""
    machine = b.machine()
    assert list_unfit_now(machine, HostState(load_1min=64.0, busy_share=BUSY_SHARE - 0.001)) == ()
    assert list_unfit_now(machine, HostState(busy_share=1.0)) == BUSY
    assert list_unfit_now(machine, HostState()) == ()
    (little,) = list_unfit_now(machine, HostState(busy_share=0.0, memory_available_bytes=1 << 28))
    assert "256 MiB" in little


def test_an_idle_machine_is_seen_as_idle(tmp_path: Path) -> None:
    state = probe_host(NvmlResult(), proc=quiet_proc(tmp_path), sys=tmp_path, sleep=lambda _: None)
    assert list_unfit_now(b.machine(), state) == ()


def test_a_machine_that_becomes_busy_in_the_middle_marks_only_the_records_made_then(tmp_path: Path) -> None:
    """The look is taken once before each process, and its record has what it saw."""
    looks = [(), BUSY, ()]

    head = header()
    with store.create(tmp_path, head) as writer:
        pending = list_pending_jobs(head, ())
        done = execute(
            writer,
            head,
            pending,
            LaunchOptions(),
            Quiet(),
            launcher=launcher("crashed", "crashed", "crashed"),
            look=lambda: looks.pop(0),
        )
    assert [record.unfit for record in done] == [(), BUSY, ()]
    assert [record.unfit for record in store.load(writer.path).records] == [(), BUSY, ()]


def test_a_quiet_machine_marks_nothing_and_is_quoted() -> None:
    for looked in ((), None):
        found = compare(*timed(looked))
        assert find_training(found).unfit == 0
        shown = screen.build(found, suites={})
        assert "0:50:3" in shown.headline[0] or "0:50:4" in shown.headline[0]  # 42,900 steps of 0.071 s
        assert not any("!" in cell.text for _, line in shown.tables[0].lines for cell in line.cells)


def test_no_headline_quotes_a_time_of_a_machine_that_other_programs_used() -> None:
    """With all rows of the run unfit the headline says that instead: no interval of hours in bold."""
    found = compare(*timed(BUSY, SLOW))
    shown = screen.build(found, suites={})
    wanted = "No figure is quoted: 3 of 3 processes were measured while the machine was unfit"
    for sentence in (*shown.headline, *write_headline(found)):
        assert sentence.startswith(wanted)
        assert BUSY[0] in sentence
    (line,) = (line for _, line in shown.tables[0].lines)
    texts = {column.key: cell.text for column, cell in zip(shown.tables[0].columns, line.cells, strict=True)}
    assert texts["job"].startswith("!~")
    assert texts["achieved"].startswith("!")
    assert not texts["host_peak"].startswith("!"), "memory is no matter of time"
    notes = " ".join(note.text for note in shown.notes)
    assert "! means measured while the machine was unfit" in notes
    assert "run again" in notes


def test_one_unfit_process_of_a_row_is_enough() -> None:
    quiet, busy = timed(())[:2], timed(BUSY)[2:]
    row = find_training(compare(*quiet, *busy))
    assert row.unfit == 1
    (doubt,) = (doubt for doubt in row.doubts if doubt.code == "unfit")
    assert "100 % of the CPU" in doubt.message
    assert "(in 1 of 3 processes)" in doubt.message


@pytest.mark.parametrize(
    ("growth", "unfit"),
    [
        ({"cpu_pressure_seconds": 0.19}, 0), ({"cpu_pressure_seconds": 0.21}, 3),
        ({"steal_seconds": 8 * 0.09}, 0), ({"steal_seconds": 8 * 0.11}, 3),  # of eight cores
    ],
)  # fmt: skip
def test_records_without_a_look_are_judged_by_their_telemetry(growth: dict[str, float], unfit: int) -> None:
    """More than a fifth of the timed seconds waiting for a core, or a tenth of the cores' time stolen."""
    seconds = 150 * 0.07
    assert find_training(compare(*timed(None, (0.07,) * 3, **readings(seconds, **growth)))).unfit == unfit


def test_ranks_that_wait_for_each_other_are_no_sign_of_others() -> None:
    job = b.ranks_job()
    waiting = readings(b.trial(job, 0.07).steps * 0.07, cpu_pressure_seconds=0.4)
    (row,) = compare(b.record(job, 0.07, **waiting)).rows
    assert row.unfit == 0


def test_nothing_is_divided_by_a_row_of_an_unfit_machine() -> None:
    """Neither a speed-up by its time, nor a share of the peak by its product; both say why."""
    gpu = put_on(b.repeats(b.cnn_job(device="cuda:0"), (0.001,) * 3), ())
    product = [2 * 2048**3 / rate for rate in (180e9, 181e9, 182e9)]
    for spoiled in (None, "cpu", "product"):
        cpu = timed(BUSY if spoiled == "cpu" else ())
        gemm = put_on(b.repeats(b.gemm_job(2048), product), BUSY if spoiled == "product" else ())
        rows = {row.job.device + row.job.workload: row for row in compare(*cpu, *gpu, *gemm).rows}
        fast, slow = rows["cuda:0mnist-cnn"], rows["cpumnist-cnn"]
        assert (fast.speedup is None) == (spoiled == "cpu")
        assert ("unfit" in fast.missing.get("speedup", "")) == (spoiled == "cpu")
        assert (slow.ceiling_share is None) == (spoiled == "product")
        assert (slow.missing.get("ceiling") == UNFIT_PRODUCT) == (spoiled == "product")


def test_a_baseline_leaves_out_unfit_processes_and_says_so() -> None:
    good, bad = run_builders.runs((0.01, 0.0101))
    spoiled = store.Ledger(bad.path, bad.header, tuple(put_on(bad.records, BUSY)))
    kept = run_builders.saved([good, spoiled])
    assert [run.run_id for run in kept.runs] == [good.header.run_id]
    with pytest.raises(UsageError, match=r"nothing to save.*unfit.*cnnbench doctor"):
        run_builders.saved([spoiled])


@pytest.mark.parametrize("output", ["report.md", "report.csv", "report.json", "report.html"])
def test_every_format_has_the_mark_and_the_audit_derives_it_again(output: str) -> None:
    """It agrees with the page of a run whose CPU rows were unfit, and finds a mark that was taken away."""
    gpu = put_on(b.repeats(b.cnn_job(device="cuda:0"), (0.001,) * 3), ())
    gemm = put_on(b.repeats(b.gemm_job(2048), [2 * 2048**3 / 180e9] * 3), BUSY)
    records = [each.model_copy(update={"index": n}) for n, each in enumerate([*timed(BUSY, SLOW), *gpu, *gemm])]
    made = Made(outputs=[output], ledgers=[b.ledger(records, machine=b.machine(gpus=[b.GPU]))])
    assert made.findings() == []
    text = made.text(output)
    marked = re.search(r"!~?\d", text)
    assert marked is not None
    assert made.findings({output: text[: marked.start()] + text[marked.start() + 1 :]}) != []


def test_latex_has_the_mark_too() -> None:
    report = tables.build(compare(*timed(BUSY, SLOW)))
    assert re.search(r"!.{0,20}\d", render.render(report, "latex"))


def test_a_count_of_unfit_processes_is_a_raw_value() -> None:
    """Programs that read CSV or JSON see it without the text of a cell."""
    (line,) = csv.DictReader(io.StringIO(render.render(tables.build(compare(*timed(BUSY)), only="training"), "csv")))
    assert line["unfit"] == "3"
