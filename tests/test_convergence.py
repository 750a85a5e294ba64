"""A mode may not buy speed with worse learning: which rows are held against which, the verdicts, the doubt, the command."""

from __future__ import annotations

import json

import builders as b
import learning_builders as lb
import pytest
import report_builders
from audit_builders import Made, put
from click.testing import CliRunner

from cnnbench.analysis import process_table, seed_accuracy, speedup
from cnnbench.analysis.seed_accuracy import compare_with_plain
from cnnbench.cli.learning import convergence as command
from cnnbench.cli.read import show
from cnnbench.errors import ExitCode, UsageError
from cnnbench.naming import step_label
from cnnbench.report import tables
from cnnbench.report.render import html, markdown, text


def call(*arguments, **environment):
    return CliRunner().invoke(command, [str(each) for each in arguments], env={"COLUMNS": "180", **environment})


def only(*records, margin=None):
    """The one mode that was tested."""
    (found,), untested = compare_with_plain(lb.rows_of([each for group in records for each in group]), margin)
    assert untested == []
    return found


def plain_and(right, plain=lb.PLAIN, *, diverged=0, plain_diverged=0, **mode):
    mode = mode or {"precision": "bf16"}
    reference = lb.trained(plain, diverged=plain_diverged)
    return [*reference, *lb.trained(right, start=len(reference), diverged=diverged, **mode)]


class TestVerdict:
    def test_a_worked_example(self):
        """Differences +3 -4 +1 -2 +3 images of 10,000: mean 0.2, variance 9.7, standard error 1.392839; t(0.95, 4) = 2.131847."""
        found = only(plain_and(lb.EQUAL))
        half = 2.131847 * (9.7 / 5) ** 0.5
        assert found.difference.value == pytest.approx(0.2 / 10_000)
        assert found.difference.low == pytest.approx((0.2 - half) / 10_000, rel=1e-6)
        assert found.difference.high == pytest.approx((0.2 + half) / 10_000, rel=1e-6)
        assert found.median_difference == pytest.approx((9913 - 9912) / 10_000)
        assert (found.variant.accuracy, found.plain.accuracy) == (pytest.approx(0.99134), pytest.approx(0.99132))
        assert found.variant.deviation == pytest.approx(14.8**0.5 / 10_000)
        assert (found.verdict, found.margin, found.decided_by_failures, found.seeds_needed) == (
            "learns as well",
            0.001,
            False,
            None,
        )

    def test_the_three_verdicts(self):
        tested, untested = compare_with_plain(lb.rows_of(lb.modes()))
        assert {step_label(each.variant.row.job, ()): each.verdict for each in tested} == {
            "nhwc": "learns as well",
            "bf16": "learns worse",
            "dataloader, 2 workers": "undecided",
        }
        assert untested == []

    def test_undecided_says_how_many_seeds_would_tell(self):
        found = only(plain_and([right + 5 for right in lb.UNSURE]))
        assert found.verdict == "undecided"
        assert found.seeds_needed is not None
        assert found.seeds_needed > 5
        assert only(plain_and(lb.UNSURE)).seeds_needed is None

    def test_a_wider_margin_forgives_more(self):
        assert only(plain_and(lb.WORSE), margin=0.003).verdict == "learns worse"
        assert only(plain_and(lb.WORSE), margin=0.005).verdict == "learns as well"

    def test_seeds_that_differ_are_not_paired(self):
        others = only(plain_and(dict(zip(range(50, 55), lb.EQUAL, strict=True))))
        one_more = only(plain_and([*lb.EQUAL, 9910]))
        assert (others.difference.paired, one_more.difference.paired) == (False, False)
        assert only(plain_and(lb.EQUAL)).difference.paired

    def test_networks_without_convolutions_are_allowed_more(self):
        job = b.cnn_job()
        assert seed_accuracy.default_margin(job) == 0.001
        assert seed_accuracy.default_margin(job.model_copy(update={"workload": "mlp-5"})) == 0.002
        assert seed_accuracy.default_margin(job.model_copy(update={"workload": "of another package"})) == 0.001


class TestSeedsThatFail:
    """A mode of which any seed diverged, where none of the plain row's did, learns worse."""

    def test_one_diverged_seed_of_a_mode_is_worse_however_good_the_others(self):
        found = only(plain_and([9950] * 5, diverged=1))
        assert (found.verdict, found.decided_by_failures) == ("learns worse", True)
        assert (found.variant.seeds, found.variant.failed) == (6, 1)

    def test_where_none_learned_there_is_no_difference_and_it_is_worse(self):
        found = only(plain_and([], diverged=5))
        assert (found.verdict, found.difference, found.variant.accuracy) == ("learns worse", None, None)

    def test_where_seeds_of_both_diverged_it_is_undecided(self):
        found = only(plain_and(lb.EQUAL, diverged=1, plain_diverged=2))
        assert (found.verdict, found.decided_by_failures, found.seeds_needed) == ("undecided", True, None)

    def test_a_mode_that_learns_where_the_plain_one_diverges_is_tested_by_the_others(self):
        found = only(plain_and(lb.EQUAL, plain_diverged=1))
        assert (found.verdict, found.decided_by_failures) == ("learns as well", False)

    def test_other_failures_say_nothing_about_learning(self):
        lost = b.record(b.cnn_job(blocks=39, block_steps=11, precision="bf16", round=5, seed=9), index=10, status="oom")
        assert only([*plain_and(lb.EQUAL), lost]).verdict == "learns as well"


class TestWhatIsHeldAgainstWhat:
    def held(self, *groups, **options):
        return compare_with_plain(lb.rows_of(*groups), **options)

    @pytest.mark.parametrize(
        "mode",
        [
            {"precision": "bf16"},
            {"layout": "nhwc"},
            {"execution": "compiled"},
            {"loader": "dataloader"},
            {"division": "tuned"},
            {"precision": "bf16", "layout": "nhwc", "execution": "compiled", "division": "tuned"},
        ],
    )
    def test_every_mode_alone_and_together(self, mode):
        assert only(plain_and(lb.EQUAL, **mode)).verdict == "learns as well"

    @pytest.mark.parametrize(
        "other",
        [
            {"batch_size": 64},
            {"optimizer": "adam"},
            {"init": "xavier"},
            {"data": "synthetic"},
            {"order": "shuffled"},
            {"blocks": 38},
            {"threads": 4},
            {"extra_forwards": 2},
            {"pool": "average"},
        ],
    )
    def test_what_learns_otherwise_or_elsewhere_is_not_compared(self, other):
        tested, (left,) = self.held(plain_and(lb.EQUAL, precision="bf16", **other))
        assert tested == []
        assert "no plain row" in left.reason

    def test_how_the_steps_are_timed_does_not_matter(self):
        """39 x 11 or 11 x 39 steps, warmed up or not, projected to whatever job."""
        timed = {"blocks": 11, "block_steps": 39, "warmup_steps": 3, "epochs": None, "steps_per_epoch": None}
        assert only(plain_and(lb.EQUAL, layout="nhwc", **timed)).verdict == "learns as well"

    def test_whole_jobs_are_compared_with_whole_jobs_alone(self):
        whole = {"clock": "job", "epochs": 1, "steps_per_epoch": 429}
        tested, untested = self.held(plain_and(lb.EQUAL, precision="bf16", **whole))
        assert (tested, len(untested)) == ([], 1)
        reference = lb.trained(lb.PLAIN, **whole)
        mode = lb.trained(lb.EQUAL, start=5, precision="bf16", **whole, epoch_eval_images=0)
        assert only(reference, mode).verdict == "learns as well"

    @pytest.mark.parametrize(("status", "named"), [("crashed", True), ("unsupported", False)])
    def test_a_mode_of_which_no_seed_ended_is_named(self, status, named):
        """But for what the device cannot do, which says nothing of learning."""
        reference = lb.trained(lb.PLAIN)
        job = reference[0].job.model_copy(update={"precision": "bf16"})
        failed = [
            b.record(job.model_copy(update={"round": n}), index=5 + n, status=status, message="it did")
            for n in range(5)
        ]
        tested, untested = compare_with_plain(lb.rows_of([*reference, *failed]))
        assert tested == []
        assert [each.reason for each in untested] == (["no seed has ended"] if named else [])

    def test_fewer_than_five_seeds_of_either_side_are_too_few(self):
        tested, (left,) = self.held(plain_and(lb.EQUAL[:4]))
        assert tested == []
        assert left.reason == "4 seeds, 5 of the plain row; 5 of each are needed"
        assert self.held(plain_and(lb.EQUAL, plain=lb.PLAIN[:3]))[0] == []

    def test_a_stopping_rule_a_target_and_a_job_without_a_test_have_no_accuracy_after_equal_work(self):
        for fields in ({"stop_when_all_right": True}, {"final_evaluation": False}, {"clock": "accuracy"}):
            assert self.held(plain_and(lb.EQUAL, precision="bf16", **fields)) == ([], [])

    def test_the_plain_row_of_the_same_run_comes_before_a_newer_one(self):
        here = b.ledger(plain_and(lb.EQUAL), run_id="run-a", created_at="2026-03-01T12:00:00Z")
        later = b.ledger(lb.trained([9000] * 5), run_id="run-b", created_at="2026-03-02T12:00:00Z")
        rows = speedup.compute_speedups(process_table.read_processes([here, later])[0], all_runs=True).rows
        (found,), _ = compare_with_plain(rows)
        assert found.plain.row.run_id == "run-a"

    def test_rows_of_two_runs_are_compared_where_there_is_no_other(self):
        (found,), _ = self.held(lb.trained(lb.PLAIN), lb.trained(lb.EQUAL, precision="bf16"))
        assert (found.plain.row.run_id, found.variant.row.run_id) == ("run-0", "run-1")


class TestDoubt:
    def test_a_mode_that_learns_worse_is_doubted_and_no_other_row(self):
        for row in lb.rows_of(lb.modes()):
            codes = {doubt.code for doubt in row.doubts}
            assert ("learns-worse" in codes) == (row.job.precision == "bf16")

    def test_the_doubt_has_the_figures_and_stands_under_every_table(self, tmp_path):
        (row,) = (row for row in lb.rows_of(lb.modes()) if row.job.precision == "bf16")
        doubt = next(each for each in row.doubts if each.code == "learns-worse")
        assert doubt.message == (
            "test accuracy over 5 seeds is -0.398 pp from the plain mode's, at best -0.368 pp; a loss of 0.100 pp is allowed"
        )
        notes = [note.text for note in report_builders.page([lb.modes()]).notes]
        assert any("(Test CPU 9000 mnist-cnn bf16): test accuracy over 5 seeds" in note for note in notes)
        results = report_builders.write(tmp_path, [lb.modes()])
        shown = CliRunner().invoke(show, [str(results), "--format", "csv"]).stdout
        assert "test accuracy over 5 seeds is -0.398 pp" in shown

    def test_diverged_seeds_are_counted_in_it(self):
        rows = lb.rows_of(plain_and([9950] * 5, diverged=1))
        (doubt,) = (each for row in rows for each in row.doubts if each.code == "learns-worse")
        assert doubt.message == "1 of 6 seeds did not learn, all 5 of the plain mode's did"


class TestCommand:
    @pytest.fixture
    def results(self, tmp_path):
        return report_builders.write(tmp_path / "results", [lb.modes()])

    def test_the_figures_of_each_mode_and_a_finding(self, results):
        done = call(results, "--format", "json")
        assert done.exit_code == ExitCode.FINDING
        document = json.loads(done.stdout)
        rows = {row["mode"]: row for row in document["tables"][0]["rows"]}
        assert (rows["bf16"]["seeds"], rows["bf16"]["plain_seeds"], rows["bf16"]["paired"]) == (5, 5, True)
        assert rows["bf16"]["difference_text"] == "-0.398 pp (-0.428 to -0.368 pp)"
        assert rows["bf16"]["mode_accuracy_text"] == "98.734 % (SD 0.057 pp)"
        assert rows["nhwc"]["verdict_text"] == "learns as well"
        assert document["notes"][0]["text"] == "3 modes tested: 1 undecided, 1 learns as well, 1 learns worse."

    def test_undecided_is_inconclusive_and_all_well_is_done(self, tmp_path):
        for name, right, code in (("a", lb.UNSURE, ExitCode.INCONCLUSIVE), ("b", lb.EQUAL, ExitCode.DONE)):
            results = report_builders.write(tmp_path / name, [b.ledger(plain_and(right))])
            assert call(results).exit_code == code

    def test_another_margin_is_asked_for_in_points_and_said(self, results):
        done = call(results, "--margin", "0.5")
        assert "a loss of 0.500 pp allowed" in done.stdout
        assert done.exit_code == ExitCode.DONE
        for wrong in ("0", "-1", "nan", "x"):
            assert call(results, "--margin", wrong).exit_code == ExitCode.USAGE

    @pytest.mark.parametrize("format_", ["table", "markdown", "latex", "csv"])
    def test_every_format_has_the_figures(self, results, format_):
        shown = call(results, "--format", format_).stdout.replace("{-}", "-")
        for each in ("98.734", "-0.398", "0.057", "learns worse", "more than 1,000 seeds"):
            assert each in shown

    def test_nothing_to_test_says_why_and_what_to_do(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        few = report_builders.write(tmp_path / "few", [b.ledger(plain_and(lb.EQUAL[:3]))])
        for arguments in ([], [few]):
            error = call(*arguments, CNNBENCH_RESULTS=None).exception
            assert isinstance(error, UsageError)
            assert "cnnbench run convergence" in str(error)
        assert "3 seeds, 5 of the plain row; 5 of each are needed" in str(error)

    def test_a_page_has_the_table_where_modes_could_be_tested(self):
        section = next(each for each in report_builders.page([lb.modes()]).sections if each.key == "convergence")
        assert [table.key for table in section.tables] == ["convergence", "learned_seeds"]
        (bare,) = [each for each in report_builders.page().sections if each.key == "convergence"]
        assert not bare.tables
        assert bare.notes
        assert all(note.text.startswith("Not tested") for note in bare.notes)

    def test_each_seed_of_both_sides_is_printed(self, results):
        """`PLAIN` against `WORSE`, seed by seed; one image of the 10,000 is 0.010 pp."""
        document = json.loads(call(results, "--format", "json").stdout)
        (seeds,) = [table["rows"] for table in document["tables"] if table["key"] == "learned_seeds"]
        assert len(seeds) == 15
        worse = [row for row in seeds if row["mode"] == "bf16"]
        assert [row["seed_mode_accuracy"] for row in worse] == [right / 10_000 for right in lb.WORSE]
        assert [row["seed_plain_accuracy"] for row in worse] == [right / 10_000 for right in lb.PLAIN]
        first = round(100 * (lb.WORSE[0] - lb.PLAIN[0]) / 10_000, 3)
        assert worse[0]["apart_text"] == f"{first:+.3f} pp"

    @pytest.mark.parametrize("format_", ["table", "markdown", "latex", "csv", "json"])
    def test_what_was_not_tested_is_in_every_format(self, format_):
        ledger = b.ledger([*lb.modes().records, *lb.trained(lb.EQUAL[:3], start=90, execution="compiled")])
        comparison = speedup.compute_speedups(process_table.read_processes([ledger])[0])
        printed = {"show": text.render(tables.build(comparison), format_, width=200)}
        page = report_builders.page([ledger])
        if format_ in ("csv", "json"):
            printed["report"] = text.render(page.report, format_)
        printed["html"], printed["md"] = html.render(page, static=True), markdown.render_page(page, charts_at=None)
        for name, shown in printed.items():
            assert "Not tested whether it learns as well" in " ".join(shown.split()), name
            assert "compiled" in shown, name

    def test_the_audit_finds_another_seeds_accuracy(self):
        made = Made(outputs=["page.md"], ledgers=[lb.modes()])
        assert made.findings() == []
        page = made.text("page.md")
        table = page[page.index("Each seed of the modes") :]
        right, wrong = (f"{100 * each / 10_000:.3f} %" for each in (lb.WORSE[0], lb.WORSE[0] + 1))
        assert made.findings({"page.md": page.replace(table, put(table, right, wrong))})


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ({}, ""),
        ({"precision": "tf32"}, "tf32"),
        ({"precision": "bf16", "layout": "nhwc", "execution": "compiled"}, "bf16, nhwc, compiled"),
        ({"loader": "dataloader", "loader_workers": 2}, "dataloader, 2 workers"),
        ({"division": "tuned"}, "tuned division"),
    ],
)
def test_a_mode_is_named_by_what_is_not_plain(mode, words):
    assert step_label(b.cnn_job(**mode), ()) == words
    assert seed_accuracy.is_plain(b.cnn_job(**mode)) == (words == "")
