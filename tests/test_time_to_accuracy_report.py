"""Time to accuracy on pages: what is printed of seeds, missed ones too, and that no two rows read alike."""

from __future__ import annotations

import csv
import io
import json
import re

import builders as b
import pytest
import report_builders
import variant_records as modes
from click.testing import CliRunner

from cnnbench import naming
from cnnbench.analysis import process_table, speedup
from cnnbench.cli.main import cli
from cnnbench.report import tables
from cnnbench.report.charts.chart_data import row_names
from cnnbench.report.comparison import _short as short_in_comparisons
from cnnbench.report.render import html, text

FIGURES = {"median", "mean", "fastest", "slowest"}


def rows_of(*ledgers):
    processes, _ = process_table.read_processes(ledgers)
    return speedup.compute_speedups(processes).rows


def report(*ledgers, only=None):
    processes, _ = process_table.read_processes(ledgers)
    return tables.build(speedup.compute_speedups(processes), only=only)


def lines_of(found, key):
    (table,) = [table for table in found.tables if table.key == key]
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, line.cells, strict=True)) for group in table.groups for line in group.lines]


def seconds(after, step, every=429):
    return after * (every * step + modes.EVALUATION)


class TestTable:
    def test_all_seeds_together(self):
        """3, 3, 4, 4, 5, 6 evaluations of 429 x 70 ms + 1.5 s: the median is at 4, its interval from 3 to 6."""
        slow = lines_of(report(modes.targets()), "tta")[3]
        each = seconds(1, modes.STEP)
        assert slow["mode"].text == "fp32, nchw, eager, rmsprop truncated-0.1"
        assert slow["target"].text == "99 %"
        assert slow["seeds"].one_line == "6 of 6"
        assert slow["median"].values == pytest.approx(
            {
                "median_seconds_to_target": 4 * each,
                "median_seconds_to_target_low": 3 * each,
                "median_seconds_to_target_high": 6 * each,
                "median_seconds_to_target_n": 6,
            }
        )
        assert slow["median"].one_line == "126 (94.6–189; n=6)"
        assert slow["mean"].values == pytest.approx({"mean_seconds_to_target": 25 * each / 6})
        assert (slow["fastest"].text, slow["slowest"].text) == ("94.6", "189")
        assert (slow["median_steps"].one_line, slow["median_epochs"].one_line) == (
            "1,716 (1,287–2,574; n=6)",
            "4 (3–6; n=6)",
        )

    def test_a_missed_seed_leaves_no_mean_and_an_open_end(self):
        fast = lines_of(report(modes.targets()), "tta")[4]
        assert fast["mode"].text == "bf16, nhwc, compiled, rmsprop truncated-0.1"
        assert fast["seeds"].one_line == "5 of 6 (1 missed)"
        assert fast["median"].one_line == "57.5 (from 43.1 on; n=6)"
        assert (fast["mean"].text, fast["slowest"].text) == ("n/a", "n/a")
        assert fast["fastest"].text == "43.1"

    def test_a_network_that_never_got_there_is_not_dropped(self):
        never = lines_of(report(modes.targets()), "tta")[1]
        assert never["seeds"].one_line == "0 of 3 (3 missed)"
        assert {never[name].text for name in FIGURES} == {"n/a"}

    def test_a_crash_is_named_beside_the_seeds(self):
        assert lines_of(report(modes.targets()), "tta")[0]["seeds"].one_line == "2 of 3 (1 crashed)"

    def test_every_seed_stands_by_itself(self):
        found = lines_of(report(modes.targets()), "seeds")
        assert len(found) == sum(map(len, (modes.CNN_AFTER, modes.FAST_AFTER, (2, 2), (None,) * 3, (1, 2, 1))))
        fast = [line for line in found if line["mode"].text.startswith("bf16")]
        assert [line["reached"].text for line in fast] == ["reached"] * 2 + ["missed"] + ["reached"] * 3
        assert [line["seconds"].values["seconds_to_target"] for line in fast] == pytest.approx(
            [None if after is None else seconds(after, modes.FAST_STEP) for after in modes.FAST_AFTER]
        )
        assert (fast[2]["seconds"].text, fast[2]["steps"].text, fast[2]["last"].text) == ("n/a", "8,580", "90.19 %")

    def test_the_clock_rule_stands_in_one_line(self):
        (table,) = report(modes.targets(), only="tta").tables
        assert table.clock.startswith("first crossing: first batch drawn to the end of the first evaluation")
        assert "evaluations every 429 or 550 steps counted" in table.clock

    def test_it_is_in_no_column_with_the_time_of_a_fixed_job(self):
        found = [
            line
            for line in lines_of(report(modes.targets()), "training")
            if line["job"].values["job_kind"] == "to target"
        ]
        assert len(found) == 5
        assert {line["job"].text for line in found} == {"n/a"}

    def test_pretraining_has_a_column_where_there_is_some(self):
        assert "pretraining" not in lines_of(report(modes.ladder()), "training")[0]
        found = [line["pretraining"] for line in lines_of(report(modes.targets()), "training")]
        (cell, _) = [each for each in found if each.text]
        assert cell.one_line == "30 s (20.4 GFLOP/s; n=3)"
        assert cell.values["pretraining_flops_per_second"] == pytest.approx(612_761_600_000 / 30)

    def test_the_notes_say_what_the_figures_leave_out(self):
        notes = " ".join(note.text for note in report(modes.targets()).notes)
        assert "compare their mean steps: how many steps a seed needs is chance" in notes
        assert "from 6 seeds on" in notes
        assert "1 of 6 seeds missed the target: their time is not known" in notes
        assert "mnist-cnn nhwc compiled to 99 % bf16: missed in round 3" in notes
        assert "FLOP/s, MFU, images and the step are of the fine-tuning" in notes


class TestFormats:
    def test_csv_and_json_have_every_seed_and_the_fields_of_the_job(self):
        found = report(modes.targets())
        rows = [row for row in csv.DictReader(io.StringIO(text.render(found, "csv"))) if row["table"] == "seeds"]
        document = json.loads(text.render(found, "json"))
        (seeds,) = [table["rows"] for table in document["tables"] if table["key"] == "seeds"]
        assert len(rows) == len(seeds) == 20
        missed = [row for row in seeds if row["reached_target"] is False]
        assert [row["seconds_to_target"] for row in missed] == [None] * 4
        assert {row["seconds_to_target"] for row in rows if row["reached_target"] == "False"} == {""}
        fast = next(row for row in seeds if row["mode_precision"] == "bf16")
        assert (fast["execution"], fast["layout"], fast["target"], fast["evaluate_every"]) == (
            "compiled",
            "nhwc",
            0.99,
            429,
        )

    def test_rows_computed_the_plain_way_have_the_columns_they_always_had(self):
        """What was published before there was another way stays as it is, byte by byte."""
        plain = text.render(report(b.ledger(b.repeats(b.cnn_job(), [0.08] * 3))), "csv")
        assert not {"task", "execution", "layout", "target"} & set(plain.splitlines()[0].split(","))

    def test_a_terminal_leaves_the_seeds_to_those_who_ask(self):
        found = report(modes.targets())
        shown = text.render(found, "table", width=150)
        assert "seed by seed: `cnnbench show --only seeds`" in shown
        assert "reached  " not in shown
        alone = text.render(report(modes.targets(), only="seeds"), "table", width=150)
        assert len(re.findall(r"\d  reached  ", alone)) == 16
        assert text.render(found, "markdown").count("| missed |") == 4

    def test_a_page_folds_them_up_under_the_table(self):
        page = html.render(report_builders.page([modes.targets()]), static=True)
        start = page.index("<summary>Time to accuracy, seed by seed</summary>")
        assert page.index('id="table-tta"') < start < page.index('id="table-seeds"') < page.index("</details>", start)

    def test_show_takes_the_new_tables(self, tmp_path):
        results = report_builders.write(tmp_path, [modes.targets(), modes.ladder()])
        for only, title in (("tta", "Time to accuracy"), ("seeds", "seed by seed"), ("ladder", "The ladder")):
            done = CliRunner().invoke(cli, ["show", str(results), "--only", only])
            assert done.exit_code == 0
            assert title in done.output.splitlines()[0]


class TestNames:
    def test_no_two_rows_of_one_device_read_alike(self):
        """By the words of sentences, of comparisons, and of charts."""
        rows = [row for row in rows_of(modes.targets(), modes.ladder()) if row.job.workload != "gemm"]
        works = {(row.work_key, row.job.precision) for row in rows}
        assert len(works) == len(rows)
        for one in (lambda row: naming.short_name(row.job), short_in_comparisons):
            words = [(one(row), row.job.clock) for row in rows]
            assert len(set(words)) == len(rows), sorted(words)
        names = [", ".join(name) for name in row_names(rows, batch=True)]
        assert len(set(names)) == len(rows), sorted(names)

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            ({"task": "inference", "optimizer": None}, "inference"),
            ({"layout": "nhwc"}, "nhwc"),
            ({"execution": "compiled"}, "compiled"),
            ({"pool": "average"}, "average pooling"),
            ({"activation": "sigmoid"}, "sigmoid"),
            ({"optimizer": "adam"}, "adam"),
            ({"division": "tuned"}, "tuned"),
            ({"loader": "dataloader", "loader_workers": 2}, "dataloader, 2 workers"),
        ],
        ids=str,
    )
    def test_each_variation_is_said_wherever_a_row_is_named(self, fields, words):
        varied = b.cnn_job(**fields)
        records = [*b.repeats(b.cnn_job(), [0.08] * 3), *b.repeats(varied, [0.04] * 3, start=3)]
        plain, other = sorted(rows_of(b.ledger(records)), key=lambda row: row.step_seconds.value, reverse=True)
        assert words in naming.work_label(varied)
        assert words in naming.short_name(varied)
        assert words in ", ".join(naming.deviations(varied))
        assert words in short_in_comparisons(other)
        names = row_names([plain, other])
        assert words in names[1][1]
        assert words not in names[0][1]

    def test_several_networks_are_named_in_charts(self):
        names = row_names(rows_of(modes.targets()))
        assert {name[2].partition(",")[0] for name in names} == {"mnist-cnn", "mlp-1", "mlp-5", "mlp-5-pretrained"}

    def test_the_plain_job_has_no_further_word(self):
        assert naming.deviations(b.cnn_job()) == ()
        assert naming.short_name(b.cnn_job()) == "mnist-cnn fp32"


@pytest.fixture(scope="module")
def charts():
    return {chart.key: chart for chart in report_builders.page([modes.targets(), modes.ladder()]).charts}


class TestCharts:
    def test_a_line_a_seed_from_the_first_batch_to_the_crossing(self, charts):
        data = charts["learning"].data
        slow = [datum for datum in data if datum["work"].startswith("mnist-cnn") and datum["precision"] == "fp32"]
        slow = [datum for datum in slow if datum["series"].endswith("process 1")]
        way = [datum for datum in slow if datum["kind"] == "every test image, on the way to a target"]
        assert [datum["minutes"] for datum in way] == pytest.approx([seconds(n + 1, modes.STEP) / 60 for n in range(3)])
        assert [datum["after_steps"] for datum in way] == [429, 858, 1287]
        assert way[-1]["accuracy"] == 0.99

    def test_a_seed_that_missed_has_its_line_too(self, charts):
        never = [datum for datum in charts["learning"].data if datum["work"].startswith("mlp-5 ")]
        assert len([datum for datum in never if datum["kind"] == "every test image, on the way to a target"]) == 10
        assert "a line ends where the target was first reached, or at its epoch limit" in charts["learning"].caption

    def test_pretraining_is_before_the_first_evaluation(self, charts):
        found = [d for d in charts["learning"].data if d["work"].startswith("mlp-5-pretrained") and "kind" in d]
        first = min(datum["minutes"] for datum in found)
        assert first == pytest.approx((modes.PRETRAINING_SECONDS + seconds(1, 0.004, 550)) / 60)

    def test_inference_is_a_step_of_its_own_kind_under_the_roof(self, charts):
        kinds = {datum["kind"] for datum in charts["roofline"].data}
        assert kinds == {"roof", "training step", "inference step", "matrix product"}
        (point,) = [d for d in charts["roofline"].data if d["kind"] == "inference step" and d["precision"] == "fp32"]
        moved = 2 * 128 * 227_116 + 4 * 1_378_698
        assert point["intensity_flops_per_byte"] == pytest.approx(128 * 17_474_772 / moved)

    def test_memory_that_training_needs_is_not_said_of_inference(self, charts):
        found = [d["work"] for d in charts["memory"].data if d["kind"].startswith("analytic")]
        assert found
        assert not any("inference" in work for work in found)


def test_a_claim_speaks_of_training_and_of_what_missed():
    page = report_builders.page([modes.ladder()], references=False)
    assert "for a training step of mnist-cnn bf16 nhwc" in page.headline[0] or "nhwc bf16" in page.headline[0]
    forward = b.cnn_job(task="inference", optimizer=None, final_evaluation=False, epochs=None, steps_per_epoch=None)
    alone = report_builders.page([b.ledger(b.repeats(forward, [0.02] * 3))], references=False)
    assert "takes 20 ms for an inference step of mnist-cnn inference at batch 128" in alone.headline[0]
    never = report_builders.page([b.ledger(b.crossings(b.target_job(), [None, None]))], references=False)
    assert never.headline == ("No process reached its target: 2 missed.",)


def test_energy_of_a_job_that_was_pretrained_is_not_known():
    """The counter was read around steps of the fine-tuning: it says nothing of what came before."""
    job = modes.mlp_job("mlp-5-pretrained", clock="job", epochs=2, device="cuda:0", threads=None)
    known = {"job_seconds": 40.0, "energy": report_builders.energy(0.004), **modes.pretrained(job)}
    run = b.ledger(b.repeats(job, [0.004] * 3, **known), machine=b.machine(gpus=[b.GPU]))
    (table,) = [table for table in report_builders.page([run]).tables if table.key == "cost"]
    keys = [column.key for column in table.columns]
    (line,) = [dict(zip(keys, each.cells, strict=True)) for each in table.groups[0].lines]
    assert (line["job"].text, line["job_energy"].text) == ("0:00:40.0", "n/a")
