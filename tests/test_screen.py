"""One screen: what `show`, and `run` at its end, print where nothing else is asked for; and which columns and order a reader asks
for.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import builders as b
import pytest
import report_builders
from click.testing import CliRunner, Result

from cnnbench import store
from cnnbench.cli.audit import Rendered
from cnnbench.cli.load_results import Selection
from cnnbench.cli.read import make_report, make_screen, show
from cnnbench.errors import UsageError
from cnnbench.report.arrangement import arrange_tables
from cnnbench.report.model import Cell, Column, Line, RowGroup, Table
from cnnbench.report.render import text
from cnnbench.schema import Record
from cnnbench.verify.audit import audit

COMMITTED = Path(__file__).parents[1] / "results"
BOX = b.machine(gpus=[b.GPU])


def call(*arguments: object, width: int = 100) -> Result:
    return CliRunner().invoke(show, list(map(str, arguments)), env={"COLUMNS": str(width)})


def screen(*arguments: object, width: int = 100) -> str:
    result = call(*arguments, width=width)
    assert result.exit_code == 0, result.output
    return result.stdout


def words(text: str) -> str:
    """The text without line ends."""
    return " ".join(text.split())


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """An older run on a CPU and a GPU with whole jobs, and the newest: projected on the CPU at two numbers of threads."""
    whole = [*b.repeats(b.lecture_job(), [0.066] * 3), *b.repeats(b.lecture_job(device="cuda:0"), [0.001] * 3, start=3)]
    b.write(tmp_path, b.ledger(whole, run_id="r1", created_at="2026-03-01T10:00:00+00:00", machine=BOX))
    steady = [*b.repeats(b.cnn_job(), [0.07, 0.071, 0.072]), *b.repeats(b.cnn_job(threads=1), [0.13] * 3, start=3)]
    b.write(tmp_path, b.ledger(steady, run_id="r2", created_at="2026-04-01T11:30:00+00:00", machine=BOX))
    return tmp_path


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_committed_results_are_one_screen(width: int) -> None:
    """At most 40 lines, the table within 100 columns, and none of its columns left out."""
    lines = screen(COMMITTED, width=width).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= width
    assert max(len(line) for line in lines if line.startswith("─")) <= 100
    assert "Left out" not in "\n".join(lines)


RUNS = [path for path in sorted(COMMITTED.rglob("*.jsonl")) if path.parent.name != "reference"]


def texts(table: Table, key: str) -> list[str]:
    """What the table prints in that column."""
    place = [column.key for column in table.columns].index(key)
    return [line.cells[place].text for _, line in table.lines]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_each_committed_run_is_a_screen_with_the_doubts_of_its_rows_by_number(path: Path) -> None:
    """Every number in a row has its text below, and every text its number in a row."""
    report = make_screen(Selection(paths=(path,)))
    assert len(text.render(report, "table", width=100).splitlines()) <= 50
    listed = [note.text.partition(":")[0] for note in report.notes if note.kind == "doubt"]
    used = {n for numbers in texts(report.tables[0], "doubts") for n in numbers.split(",") if n}
    assert listed == [f"Doubt {n}" for n in sorted(used, key=int)] == [f"Doubt {n}" for n in range(1, len(used) + 1)]


def test_a_row_has_the_numbers_of_its_own_doubts(tmp_path: Path) -> None:
    """One process of 10 steps on 9 of 8 cores: few processes, too many threads; the other row has three processes on 8."""
    records = [b.record(b.cnn_job(threads=9), 0.07), *b.repeats(b.cnn_job(), [0.07] * 3, start=1)]
    b.write(tmp_path, b.ledger(records))
    report = make_screen(Selection(paths=(tmp_path,)))
    doubts = {note.text[6]: note.text for note in report.notes if note.kind == "doubt"}
    rows = dict(
        zip(
            (line.cells[0].details[0] for _, line in report.tables[0].lines),
            texts(report.tables[0], "doubts"),
            strict=True,
        )
    )
    assert (
        "".join(
            sorted(
                word for n in rows["cpu, 9 threads"].split(",") for word in re.findall(r"n=1|9 threads on 8", doubts[n])
            )
        )
        == "9 threads on 8n=1"
    )
    assert not any("9 threads" in doubts[n] for n in rows["cpu, 8 threads"].split(","))


def test_the_newest_runs_rows_are_shown_and_the_others_counted(results: Path) -> None:
    shown = screen(results)
    assert "Newest run: quick, 2026-04-01 11:30 UTC, testbox-0a1b (r2)" in shown
    assert "cuda:0" not in shown[shown.index("Newest run") :]
    assert "Not shown: 2 rows of 1 older run; tables resources" in words(shown)
    assert "`cnnbench show --all` prints everything" in words(shown)
    (table,) = make_screen(Selection(paths=(results,))).tables
    assert [line.cells[0].details[0] for _, line in table.lines] == ["cpu, 1 thread", "cpu, 8 threads"]


def test_the_first_sentence_says_what_how_fast_against_what_and_how_sure(results: Path) -> None:
    """Of the newest run, though an older one has a faster processor; the lecture's job took 6,331 s in 2017, and takes 42.9 s
    here at 0.001 s x 42,900 steps: 147.6 times as fast.
    """
    assert words(screen(results)).partition(" Newest run")[0] == (
        "Test CPU 9000 (cpu, 8 threads) trains mnist-cnn b128 fp32 for 100 epochs in ~0:50:46 (0:49:01–0:52:34; projected, "
        "n=3): ~2.08x (2.01–2.15x; n=3) as fast as 2017's Intel i7-4790K by the published time, 1:45:31 (software "
        "differs too: TensorFlow 1 of 2017 there, today's torch here)."
    )
    older = words(screen(results, "--run", "r1")).partition(" Run: ")[0]
    assert older.startswith("NVIDIA Testla T1 (cuda:0) trains mnist-cnn b128 fp32 for 100 epochs in 0:00:42.9 (")
    assert older.endswith(
        "148x (148–148x; n=3) as fast as 2017's Intel i7-4790K by the published time, 1:45:31 (software "
        "differs too: TensorFlow 1 of 2017 there, today's torch here)."
    )


def test_doubts_about_a_sentence_of_another_run_are_among_those_by_number(tmp_path: Path) -> None:
    """One process of a whole job in the older run, products alone in the newest, which no sentence is about."""
    whole = b.record(b.lecture_job(device="cuda:0"), 0.001)
    products = b.repeats(b.gemm_job(), [0.07] * 3)
    b.write(tmp_path, b.ledger([whole], run_id="r1", created_at="2026-03-01", machine=BOX))
    b.write(tmp_path, b.ledger(products, run_id="r2", created_at="2026-04-01", machine=BOX))
    report = make_screen(Selection(paths=(tmp_path,)))
    doubts = [note.text for note in report.notes if note.kind == "doubt"]
    assert report.headline[0].endswith("(run r1, boot unknown, perhaps another host of the same model, doubt 1).")
    assert texts(report.tables[0], "doubts") == [""]
    assert len(doubts) == 1
    assert "n=1" in doubts[0]


@pytest.mark.parametrize(
    ("record", "claim"),
    [
        (
            b.record(b.cnn_job(epochs=None, steps_per_epoch=None), 0.07),
            "takes 70 ms (n=1) per step of mnist-cnn b128 fp32.",
        ),
        (
            b.record(b.cnn_job(task="inference", optimizer=None, epochs=None, steps_per_epoch=None), 0.07),
            "takes 70 ms (n=1) per step of mnist-cnn b128 inference fp32.",
        ),
        (b.crossing(b.target_job(), 2), " s (to target, n=1)."),
        (b.record(b.cnn_job(), status="oom"), "No process ended well: 1 oom."),
    ],
    ids=["a step", "inference", "a target", "nothing"],
)
def test_the_sentence_says_as_much_as_was_measured(tmp_path: Path, record: Record, claim: str) -> None:
    b.write(tmp_path, b.ledger([record]))
    (sentence,) = make_screen(Selection(paths=(tmp_path,))).headline
    assert sentence.endswith(claim)


def test_a_projection_is_explained_where_one_is_made_and_its_lack_where_none_could_be(tmp_path: Path) -> None:
    """One process of those that a projection needs: the step is shown, and why the job's time is not."""
    b.write(tmp_path, b.ledger([b.record(b.cnn_job(), 0.07)]))
    shown = words(screen(tmp_path))
    assert "~" not in shown
    assert "n/a, time of the job: a projection needs 300 steady steps in 3 or more processes" in shown
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.07] * 3), run_id="r2", created_at="2027-01-01"))
    assert "~ is projected from timed steps" in words(screen(tmp_path))
    assert "time of the job:" not in words(screen(tmp_path))


def test_what_misleads_is_on_the_screen(tmp_path: Path) -> None:
    """A process that failed, digits that are not MNIST, a line that cannot be read."""
    failed = b.record(b.cnn_job(data="synthetic", round=3, seed=3), index=3, status="oom")
    path = b.write(tmp_path, b.ledger([*b.repeats(b.cnn_job(data="synthetic"), [0.07] * 3), failed]))
    path.open("a").write('{"kind": "rec')
    shown = words(screen(tmp_path))
    assert "ok 3/4" in shown
    assert "oom 1 of 4" in shown
    assert "SYNTHETIC DATA" in shown
    assert "torn last line" in shown


def test_of_many_warnings_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    records = [b.record(b.cnn_job(loader="dataloader", loader_workers=n), index=n, status="oom") for n in range(9)]
    b.write(tmp_path, b.ledger(records))
    notes = make_screen(Selection(paths=(tmp_path,))).notes
    warnings = [note.text for note in notes if note.kind == "warning"]
    assert len(warnings) == 7
    assert warnings[-1] == "3 more warnings: --all."


def test_a_run_of_many_rows_is_cut_and_keeps_the_work_of_its_sentence(tmp_path: Path) -> None:
    """Twenty rows, each of another batch; the sentence is about one of which the table would have no room."""
    records = [b.record(b.cnn_job(batch_size=n * 8), index=n) for n in range(1, 21)]
    b.write(tmp_path, b.ledger(records))
    report = make_screen(Selection(paths=(tmp_path,)))
    titles = [group.title for group in report.tables[0].groups]
    assert 2 <= len(titles) <= 8
    (batch,) = re.findall(r"mnist-cnn b(\d+) ", report.headline[0])
    assert int(batch) > 80
    assert any(f"batch {batch} " in title for title in titles)
    assert f"{20 - len(titles)} more rows of this run" in report.notes[-1].text
    (whole,) = make_screen(Selection(paths=(tmp_path,)), sort="achieved").tables
    assert len(whole.lines) == 20, "who sorts wants to see all of them"


def test_a_run_of_matrix_products_alone_shows_those_with_their_doubts(tmp_path: Path) -> None:
    b.write(tmp_path, b.ledger([b.record(b.gemm_job(), 0.01)]))
    shown = words(screen(tmp_path, width=140))
    assert "Ceiling: what bare matrix products reach" in shown
    assert "Doubt 1: n=1" in shown


def test_the_lectures_rows_stand_above_those_of_the_newest_run(results: Path) -> None:
    """In a narrow terminal too, where less important columns go."""
    shown = screen(results, "--with-lecture", width=80)
    assert all(figure in shown for figure in ("4.78x", "11.51x", "19.36x", "0:05:27", "over 2017's"))
    assert "over 2017's" not in screen(results)
    assert "Published rows" in screen(store.find_published_dir(), "--with-lecture")


def test_the_heading_of_the_times_names_their_kind_where_they_are_of_one(tmp_path: Path) -> None:
    """Published times are of whole jobs."""
    b.write(tmp_path, b.ledger([b.record(b.cnn_job(), 0.07)]))
    for lecture, wanted in ((False, "one step"), (True, "time")):
        (table,) = make_screen(Selection(paths=(tmp_path,)), with_lecture=lecture).tables
        assert [column.title for column in table.columns if column.key == "job"] == [wanted]


def test_a_column_without_a_figure_is_left_out_and_the_reason_given(results: Path) -> None:
    (table,) = make_screen(Selection(paths=(results,))).tables
    assert {"of_ceiling", "device_peak", "outcome"}.isdisjoint(column.key for column in table.columns)
    assert "n/a, share of the measured peak: no GEMM" in words(screen(results))


# ---------------------------------------------------------------------------------------------- everything else is asked for


def test_everything_is_printed_where_it_is_asked_for(results: Path) -> None:
    """--all-runs asks for more rows, so it has every table too; other formats were never cut."""
    selection = Selection(paths=(results,))
    whole = text.render(make_report(selection), "table", width=100)
    assert screen(results, "--all") == whole
    assert "cold" in whole
    assert "cold" not in screen(results)
    every = text.render(make_report(replace(selection, all_runs=True)), "table", width=100)
    assert screen(results, "--all-runs") == screen(results, "--all-runs", "--all") == every
    for form in ("markdown", "csv", "json", "latex"):
        assert screen(results, "--format", form) == screen(results, "--format", form, "--all")


def test_all_tables_and_one_table_are_not_asked_for_at_once(results: Path) -> None:
    error = call(results, "--all", "--only", "training").exception
    assert isinstance(error, UsageError)
    assert "--only training" in str(error)


def test_columns_are_chosen_behind_the_first_and_in_the_order_given(results: Path) -> None:
    def headings(*options: str) -> list[str]:
        report = make_report(Selection(paths=(results,)), only="training", columns=options)
        return [column.key for column in report.tables[0].columns]

    assert headings("achieved", "job") == ["processor", "achieved", "job"]
    assert headings("processor") == ["processor"]
    (table,) = make_screen(Selection(paths=(results,)), columns=("images", "job", "doubts")).tables
    assert [column.key for column in table.columns] == ["processor", "images", "job", "doubts"]
    assert [table.key for table in make_report(Selection(paths=(results,)), columns=("cold_start",)).tables] == [
        "resources"
    ]


@pytest.mark.parametrize("option", ["--columns", "--sort"])
@pytest.mark.parametrize("how", [(), ("--all",), ("--only", "resources"), ("--format", "csv")], ids=" ".join)
def test_an_unknown_column_is_refused_with_those_there_are(results: Path, option: str, how: tuple[str, ...]) -> None:
    error = call(results, option, "nosuch", *how).exception
    assert isinstance(error, UsageError)
    assert f"{option} nosuch" in str(error)
    assert "host_peak" in str(error)


def test_rows_are_sorted_in_each_group_and_groups_by_their_first_row(results: Path) -> None:
    def rows(sort: str) -> list[float]:
        found = make_report(Selection(paths=(results,)), only="training", sort=sort).tables[0]
        place = [column.key for column in found.columns].index("job")
        return [float(str(line.cells[place].values["job_seconds"])) for _, line in found.lines]

    rising, falling = rows("job"), rows("-job")
    assert rising == sorted(rising[:2]) + sorted(rising[2:])
    assert rising[0] == min(rising)
    assert falling == sorted(falling[:2], reverse=True) + sorted(falling[2:], reverse=True)
    assert falling[0] == max(falling)


def test_sorting_leaves_the_screens_columns_as_they_are(tmp_path: Path) -> None:
    """Unless it is by a column that is not among them; one that is not printed sorts too."""
    records = [b.record(b.cnn_job(threads=n), seconds, index=n) for n, seconds in enumerate((0.07, 0.05, 0.09), 1)]
    b.write(tmp_path, b.ledger(records))

    def place(**asked: str) -> tuple[list[str], list[str]]:
        (table,) = make_screen(Selection(paths=(tmp_path,)), **asked).tables  # type: ignore[arg-type]
        return [column.key for column in table.columns], [line.cells[0].details[0][5] for _, line in table.lines]

    columns, _ = place()
    assert "images" not in columns
    assert place(sort="achieved") == (columns, ["3", "1", "2"])
    assert place(sort="-achieved") == (columns, ["2", "1", "3"])
    assert place(sort="mfu")[0] == columns
    wide, order = place(sort="images")
    assert {"images", *columns} <= set(wide)
    assert order == ["3", "1", "2"]


def test_unknown_values_are_last_in_either_order() -> None:
    cells = [Cell("n/a", {"x": None}), Cell("2", {"x": 2}), Cell("10", {"x": 10.0})]
    table = Table("t", "", "", (Column("x", "x", "", 1),), (RowGroup("", tuple(Line((cell,)) for cell in cells)),))
    assert texts(arrange_tables([table], sort="x")[0], "x") == ["2", "10", "n/a"]
    assert texts(arrange_tables([table], sort="-x")[0], "x") == ["10", "2", "n/a"]


@pytest.mark.parametrize("form", ["markdown", "csv", "json"])
def test_the_audit_agrees_with_the_columns_and_the_order_that_were_asked_for(tmp_path: Path, form: str) -> None:
    """And finds a digit that was changed."""
    results, page = tmp_path / "results", tmp_path / f"page.{'md' if form == 'markdown' else form}"
    report_builders.write(results)
    options = ("--columns", "speedup,achieved,accuracy", "--sort", "-achieved", "--with-lecture", "--format", form)
    assert call(results, *options, "-o", page).exit_code == 0

    def findings() -> list[str]:
        found = audit([results, page], report_builders.REFERENCES, Rendered)
        return [f"{each.where}: {each.what}" for each in found.disagreements]

    assert findings() == []
    whole = page.read_text()
    number = re.search(r"\b\d+\.\d(?= (?:GFLOP|\|))|(?<=\"achieved_text\": \")\d+|(?<=,)\d\.\d\dx", whole)
    assert number is not None
    changed = "8" if whole[number.start()] != "8" else "7"
    page.write_text(whole[: number.start()] + changed + whole[number.start() + 1 :])
    assert findings()
