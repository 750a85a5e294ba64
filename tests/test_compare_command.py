"""The command `compare` and its report: how a side is named, what is printed of both, and what is said where nothing can be."""

from __future__ import annotations

import csv
import io
import json
import random
import subprocess
import sys

import builders as b
import pytest
from click.testing import CliRunner

from cnnbench import store
from cnnbench.analysis import frame
from cnnbench.analysis.compare import compare as rows_of
from cnnbench.analysis.contrast import Side
from cnnbench.analysis.pairs import PLACE_FIELDS
from cnnbench.cli.compare import compare
from cnnbench.cli.main import run_cli
from cnnbench.cli.sources import sides
from cnnbench.errors import ComparisonError, ExitCode, UsageError
from cnnbench.report import contrast, contrast_notes, text
from cnnbench.schema import Evaluation

FORMATS = ("table", "markdown", "csv", "json")
HERE = b.machine("box-0a1b", gpus=[b.GPU])
LECTURE = store.load_references(store.reference_dir() / "lecture-2017.jsonl")


def old_run():
    """Two thread counts, a GPU, products, and a batch of its own, on HERE."""
    records = []
    for job, seconds in (
        (b.cnn_job(), [0.070, 0.072, 0.071]),
        (b.cnn_job(threads=2), [0.090, 0.091, 0.092]),
        (b.cnn_job(device="cuda:0"), [0.0010, 0.0011, 0.0012]),
        (b.gemm_job(1024), [0.012, 0.011, 0.013]),
        (b.cnn_job(batch_size=64), [0.04]),
    ):
        records += b.repeats(job, seconds, start=len(records))
    return b.ledger(records, run_id="20260301T120000Z-old1", machine=HERE)


def new_run():
    """The same job in half the time with worse accuracy, the GPU out of memory, products as before."""
    bad = Evaluation(after_steps=150, images=10_000, correct=9_000, seconds=1.0)
    gpu = b.cnn_job(device="cuda:0")
    records = [
        *b.repeats(b.cnn_job(), [0.035, 0.036, 0.0355], test=bad),
        *b.repeats(gpu, [0.0] * 3, start=3, status="oom", message="tried to allocate 2 GiB"),
        *b.repeats(b.gemm_job(1024), [0.0121, 0.0119, 0.012], start=6),
    ]
    newer = b.software("2.14.0")
    return b.ledger(records, run_id="20260401T120000Z-new1", machine=HERE, software=newer, created_at="2026-04-01")


@pytest.fixture
def results(tmp_path):
    """Two runs of one machine and one of another."""
    b.write(tmp_path, old_run())
    b.write(tmp_path, new_run())
    elsewhere = b.machine("boxer-2c3d", cpu_name="Another CPU")
    b.write(tmp_path, b.ledger(b.repeats(b.cnn_job(), [0.03] * 3), run_id="20260201T120000Z-else", machine=elsewhere))
    return tmp_path


def call(results, *arguments, **environment):
    command = [*map(str, arguments), "--results", str(results)]
    return CliRunner().invoke(compare, command, env={"COLUMNS": "120", **environment})


def as_json(results, *arguments):
    result = call(results, *arguments, "--format", "json")
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


def compared(document, key="compare"):
    return next((table["rows"] for table in document["tables"] if table["key"] == key), [])


def side(name, *ledgers, references=()):
    found = rows_of(frame.processes(ledgers)[0], references)
    return Side(name, found.rows, found.references)


def whole_report(**options):
    return contrast.build(side("old", old_run()), side("new", new_run()), **options)


def words(report):
    return " ".join(note.text for note in report.notes)


# How a side is named


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("20260301T120000Z-old1", {"20260301T120000Z-old1"}),
        ("20260401", {"20260401T120000Z-new1"}),
        ("boxer", {"20260201T120000Z-else"}),
        ("box-0a1b", {"20260301T120000Z-old1", "20260401T120000Z-new1"}),
    ],
)
def test_a_machine_or_a_run_is_named_by_its_id_or_its_beginning(results, name, runs):
    rows = compared(as_json(results, name, name))
    assert {row["base_run_id"] for row in rows} == {row["new_run_id"] for row in rows} == runs


@pytest.mark.parametrize(
    ("key", "places"),
    [
        ("box-0a1b/cpu/2", {("cpu", 2)}),
        ("box-/cpu", {("cpu", 2), ("cpu", 8)}),
        ("box-0a1b/cuda:0", {("cuda:0", None)}),
    ],
)
def test_a_key_is_a_machine_a_device_and_perhaps_its_threads(results, key, places):
    (source,) = sides([key], results)
    assert {(row.machine.id, row.job.device, row.job.threads) for row in source.side.rows} == {
        ("box-0a1b", *place) for place in places
    }


def test_a_path_is_a_ledger_or_a_folder_and_comes_before_a_name(results, monkeypatch):
    old = results / "box-0a1b" / "20260301T120000Z-old1.jsonl"
    assert {row["base_run_id"] for row in compared(as_json(results, old, results / "boxer-2c3d"))} == {old.stem}
    monkeypatch.chdir(results)
    assert call("nosuch", "box-0a1b", "boxer-2c3d").exit_code == 0


def test_the_default_place_is_the_environments_then_here(results, tmp_path_factory, monkeypatch):
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(empty)
    names = ["20260301", "20260401"]
    assert CliRunner().invoke(compare, names, env={"CNNBENCH_RESULTS": str(results)}).exit_code == 0
    (empty / "results").symlink_to(results)
    assert CliRunner().invoke(compare, names).exit_code == 0


def test_all_wrong_names_come_in_one_error_with_those_there_are(results):
    """`box` is the beginning of two machines, `2026` of every run."""
    error = call(results, "nosuch", "box/cuda:0").exception
    assert isinstance(error, UsageError)
    assert error.exit_code == ExitCode.USAGE
    message = str(error)
    for part in (
        "nosuch: no such",
        "box/cuda:0: ambiguous",
        "box-0a1b, boxer-2c3d",
        "box-0a1b/cpu/2",
        "-else",
        "reference",
    ):
        assert part in message
    assert "ambiguous" in str(call(results, "2026", "boxer").exception)
    assert "no such device" in str(call(results, "boxer/cuda:0", "boxer").exception)
    assert "no such device" in str(call(results, "boxer/cpu/3", "boxer").exception)
    assert isinstance(call(results, "", "boxer").exception, UsageError)


def test_a_place_without_results_is_said(results, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    assert "no results" in str(call(results, empty, "boxer").exception)
    assert isinstance(call(empty, "box", "boxer").exception, UsageError)


@pytest.mark.parametrize(("said", "share"), [("5%", 0.05), ("0.05", 0.05), ("2.5 %", 0.025), ("0", 0.0)])
def test_a_tolerance_is_a_share(results, said, share):
    rows = compared(as_json(results, "20260301", "20260401", "--tolerance", said))
    assert [row["tolerance"] for row in rows] == pytest.approx([share] * len(rows))


@pytest.mark.parametrize("said", ["5", "-1%", "100%", "much", "nan"])
def test_another_tolerance_is_refused(results, said):
    result = call(results, "20260301", "20260401", "--tolerance", said)
    assert result.exit_code == 2
    assert "write 5% or 0.05" in result.output


# What is printed


def test_half_the_time_is_twice_as_fast_and_the_raw_values_say_so():
    document = json.loads(text.render(whole_report(), "json"))
    row = next(row for row in compared(document) if row["workload"] == "mnist-cnn" and row["new_threads"] == 8)
    assert row["ratio"] == pytest.approx(row["base_seconds"] / row["new_seconds"]) == pytest.approx(2, rel=0.01)
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert (row["verdict"], row["ratio_n"], row["ratio_by_round"], row["base_seconds_of"]) == (
        "FASTER",
        3,
        False,
        "step",
    )
    assert (row["base_torch"], row["new_torch"]) == ("2.13.0 (cpu)", "2.14.0 (cpu)")
    assert row["base_text"] == "", "the base's place is said where it is another"
    assert row["base_time_text"] == "71 ms (n=3)"


def test_faster_at_worse_learning_is_said():
    report = whole_report()
    assert "speed at worse learning, new's, is no speed" in words(report)
    assert "97.00 %" in words(report)
    assert any("worse learning" in note for row in lines(report) for note in row.notes)


def lines(report, key="compare"):
    return [line for table in report.tables if table.key == key for group in table.groups for line in group.lines]


def test_a_failed_row_stays_and_says_which_side_failed():
    report = whole_report()
    failed = next(line for line in lines(report) if line.kind == "failed")
    shown = [cell.one_line for cell in failed.cells]
    assert "n/a (new: oom)" in shown
    assert "tried to allocate 2 GiB" in words(report)
    assert "Not in it: 1 failed, 2 only in base." in words(report)


def test_what_only_one_side_has_stands_in_a_table_of_its_own():
    rows = compared(json.loads(text.render(whole_report(), "json")), "unpaired")
    assert {(row["side"], row["batch_size"], row["threads"], row["why"]) for row in rows} == {
        ("base", 64, 8, "work"),
        ("base", 128, 2, "place"),
    }
    assert "batch size (64 in base, 128 in new)" in " ".join(row["reason_text"] for row in rows)


def test_training_and_products_are_summed_up_apart():
    summaries = [note.text for note in whole_report().notes if note.kind == "summary"]
    assert [text.partition(":")[0] for text in summaries] == ["Training", "GEMM"]


def test_the_notes_name_what_differs_and_only_that():
    said = words(whole_report())
    assert "different runs, not interleaved" in said
    assert "Different torch: 2.13.0 in base, 2.14.0 in new;" in said
    assert said.count("Different ") == 1
    assert "Chance: of 2 intervals at 95 %, about 0.05 read FASTER" in said
    assert "0.9091–1.1 (tolerance 10 %)" in words(whole_report(tolerance=0.1))
    itself = words(contrast.build(side("old", old_run()), side("old", old_run())))
    assert "interleaved" not in itself
    assert "Different" not in itself


def test_every_field_that_may_differ_has_its_words():
    assert set(contrast_notes.DIFFERENT) == set(PLACE_FIELDS)


def test_doubts_of_both_sides_are_said_with_their_side():
    lone = b.ledger(b.repeats(b.cnn_job(), [0.07]), run_id="r2", machine=HERE)
    said = words(contrast.build(side("old", old_run()), side("lone", lone)))
    assert "Doubt (new mnist-cnn b128 fp32): n=1" in said
    assert "projected" not in said, "a ratio of steps projects nothing"


def test_the_fastest_against_the_fastest_is_said():
    gpu = b.ledger(b.repeats(b.cnn_job(device="cuda:0"), [0.001] * 3), run_id="r2", machine=HERE)
    cpu = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), run_id="r1", machine=HERE)
    report = contrast.build(side("cpu", cpu), side("gpu", gpu))
    assert "Test CPU 9000 (cpu, 8 threads) in base, NVIDIA Testla T1 (cuda:0) in new" in words(report)
    new, base = lines(report)[0].cells[:2]
    assert (new.text, base.text) == ("NVIDIA Testla T1", "Test CPU 9000")


@pytest.mark.parametrize("form", FORMATS)
def test_shuffling_the_records_leaves_every_format_byte_identical(form):
    expected = text.render(whole_report(), form, width=100)
    rng = random.Random(0)
    for _ in range(3):
        mixed = [
            b.Ledger(r.path, r.header, tuple(rng.sample(r.records, len(r.records)))) for r in (old_run(), new_run())
        ]
        shuffled = contrast.build(side("old", mixed[0]), side("new", mixed[1]))
        assert text.render(shuffled, form, width=100) == expected


@pytest.mark.parametrize("form", FORMATS)
def test_every_figure_shown_stands_in_every_format(form):
    report = whole_report()
    rendered = text.render(report, form).replace("\\", "")
    for line in (*lines(report), *lines(report, "unpaired")):
        for cell in line.cells:
            assert all(word in rendered for word in cell.text.split())


def test_csv_has_a_line_a_pair_and_a_line_for_each_row_left_over():
    rows = list(csv.DictReader(io.StringIO(text.render(whole_report(), "csv"))))
    assert [row["table"] for row in rows] == ["compare"] * 3 + ["unpaired"] * 2
    assert all(row["clock_rule"] for row in rows)


@pytest.mark.parametrize("width", [80, 100, 150])
def test_no_line_is_wider_than_the_terminal_and_the_ratio_is_always_there(width):
    for report in (whole_report(), then_and_now()):
        rendered = text.render(report, "table", width=width)
        assert max(map(len, rendered.splitlines())) <= width
        assert "new time" in rendered
        assert "FASTER" in rendered


def test_the_column_keys_are_what_others_build_on():
    table = whole_report().tables[0]
    assert (table.key, [column.key for column in table.columns]) == (
        "compare",
        [
            "new",
            "base",
            "precision",
            "size",
            "base_time",
            "new_time",
            "ratio",
            "verdict",
            "base_accuracy",
            "new_accuracy",
        ],
    )


# Then and now


def then_and_now(**options):
    return contrast.build(side("2017", references=LECTURE), side("now", lecture_run()), **options)


def lecture_run():
    return b.ledger([*b.repeats(b.cnn_job(), [0.01] * 3), *b.repeats(b.lecture_job(), [0.01], start=3)], machine=HERE)


def test_then_and_now_says_what_is_assumed_and_what_is_projected():
    report = then_and_now()
    said = words(report)
    for part in ("is assumed", "2017's software", "one run without a spread", "~ is projected", "n < 3", "No mean"):
        assert part in said
    assert "interleaved" not in said
    assert "Chance" not in said
    measured, projected = ([cell.one_line for cell in line.cells[3:7]] for line in (lines(report)[0], lines(report)[4]))
    assert measured == ["1:45:31 (published)", "0:07:09.0 (measured; n=1)", "14.76x (n=1)", "UNCLEAR (only n=1)"]
    assert projected[1] == "~0:07:09.0 (projected; n=3)"
    assert projected[2] == "~14.76x (14.76–14.76x; n=3)"
    assert projected[3] == "FASTER"


def test_a_side_may_be_the_published_rows_by_path_or_name(results):
    b.write(results, b.ledger(b.repeats(b.lecture_job(), [0.01] * 3), run_id="r9", machine=b.machine("lecturer")))
    by_path, by_name = (as_json(results, name, "lecturer") for name in (store.reference_dir(), "reference"))
    assert [row["ratio"] for row in compared(by_path)] == [row["ratio"] for row in compared(by_name)]
    forward = {row["base_processor"]: row["ratio"] for row in compared(by_name)}
    backward = {row["new_processor"]: row["ratio"] for row in compared(as_json(results, "lecturer", "reference"))}
    assert forward["Intel i7-4790K"] == pytest.approx(6331 / 429)
    assert {name: 1 / ratio for name, ratio in backward.items()} == pytest.approx(forward)


# Where nothing can be


def test_nothing_in_common_says_which_works_each_side_has():
    one = side("one", b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)))
    other = side("other", b.ledger(b.repeats(b.gemm_job(), [0.01] * 3)))
    with pytest.raises(
        ComparisonError, match=r"(?s)one.*mnist-cnn v1 · batch 128.*other.*gemm v1.*size 1,024"
    ) as caught:
        contrast.build(one, other)
    assert caught.value.exit_code == ExitCode.UNFIT
    with pytest.raises(ComparisonError, match="both sides are published"):
        contrast.build(side("a", references=LECTURE), side("b", references=LECTURE))
    with pytest.raises(ComparisonError, match=r"5,491,200 images"):
        contrast.build(side("a", references=LECTURE), other)


def test_work_that_failed_wherever_it_could_be_divided_is_nothing_in_common():
    failed = side("failed", b.ledger(b.repeats(b.cnn_job(), [0.0], status="crashed")))
    with pytest.raises(ComparisonError, match=r"\(failed\)"):
        contrast.build(side("ok", b.ledger(b.repeats(b.cnn_job(), [0.01]))), failed)


def test_the_exit_code_is_0_for_any_verdict_and_3_where_nothing_can_be_divided(results, capsys):
    assert run_cli(["compare", "20260401", "20260301", "--results", str(results)]) == ExitCode.DONE
    assert "SLOWER" in capsys.readouterr().out
    assert run_cli(["compare", "reference", "reference"]) == ExitCode.UNFIT
    assert run_cli(["compare", "nosuch", "boxer", "--results", str(results)]) == ExitCode.USAGE


def test_published_rows_beside_measured_ones_are_said_to_take_no_part(results):
    (results / "reference").mkdir()
    shipped = store.reference_dir() / "lecture-2017.jsonl"
    (results / "reference" / shipped.name).write_text(shipped.read_text())
    notes = as_json(results, results, "boxer")["notes"]
    assert any("5 published rows of base take no part" in note["text"] for note in notes)


def test_a_torn_line_is_said_of_the_side_that_has_it(results):
    torn = results / "box-0a1b" / "20260301T120000Z-old1.jsonl"
    torn.open("a").write('{"kind": "rec')
    assert "torn last line" in call(results, "20260301", "20260401").output
    assert "torn last line" not in call(results, "20260401", "boxer").output


def test_output_goes_to_a_file_whole(results, tmp_path):
    target = tmp_path / "page.md"
    result = call(results, "20260301", "20260401", "--format", "markdown", "-o", target)
    assert (result.exit_code, result.stdout) == (0, "")
    assert target.read_text().startswith("## Comparison: 20260301 (base) and 20260401 (new)")


def test_a_page_of_it_passes_the_audit(results, tmp_path):
    """The ledgers' digests and the page's own hold; its figures are of two rows each and none of the audit's."""
    from cnnbench.audit import audit

    page = tmp_path / "page.md"
    call(results, "20260301", "20260401", "--format", "markdown", "-o", page)
    assert "sha256:" in page.read_text()
    found = audit([results, page], LECTURE).disagreements
    assert [each for each in found if str(page) in each.where] == []


def test_comparing_needs_no_torch_and_no_pandas(results):
    code = (
        "import sys\n"
        "from cnnbench.cli import compare\n"
        "assert not {'torch', 'pandas', 'scipy', 'rich'} & set(sys.modules)\n"
        "from pathlib import Path\n"
        "compare.report_sides(('20260301', '20260401'), tolerance=0.05, results=Path(sys.argv[1]))\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(results)], check=True)
