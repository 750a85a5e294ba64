"""Rows to tables: what is marked, what is said, in which order, and what a narrow terminal leaves out."""

from __future__ import annotations

import builders as b
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_builders import a_bit_of_everything, lines_of, report

from cnnbench import naming
from cnnbench.report.model import Report
from cnnbench.report.render import terminal, text
from cnnbench.schema import Device, Evaluation, Job


def test_the_table_says_what_the_lectures_table_said():
    """4.78, 11.51 and 19.36 recomputed, the blank row blank, the year on it."""
    rendered = text.render(report(a_bit_of_everything(), with_references=True), "table")
    assert [cell in rendered for cell in ("4.78x", "11.51x", "19.36x", "1:45:31", "2017, the lecture's table")] == [
        True
    ] * 5
    rows = {line["processor"].text: line for line in lines_of(report(with_references=True))}
    assert rows["GTX-745"]["job"].text == rows["GTX-745"]["versus"].text == "n/a"
    assert rows["GTX-1080"]["achieved"].text == "872.8"
    assert rows["Intel i7-4790K"]["speedup"].text == ""


def test_the_lectures_rows_come_first_and_only_when_asked_for():
    groups = report(a_bit_of_everything(), with_references=True).tables[0].groups
    assert groups[0].title.startswith("2017")
    assert not any("2017" in group.title for group in report(a_bit_of_everything()).tables[0].groups)


def test_a_projected_time_is_marked_and_a_measured_one_is_not():
    measured, cpu, gpu, failed = lines_of(report(a_bit_of_everything()))
    assert measured["job"].text == "0:42:54"
    assert measured["job"].details == ("measured, n=1",)
    assert cpu["job"].text.startswith("~")
    assert cpu["job"].details[-1] == "projected, n=3"
    assert cpu["versus"].text.startswith("~")
    assert len(cpu["job"].details) == 2, "a projection carries its interval"
    assert failed["job"].text == "n/a"
    assert gpu["speedup"].details[-1] == "n=3"


def test_projected_and_measured_jobs_stand_in_groups_of_their_own():
    titles = [group.title for group in report(a_bit_of_everything()).tables[0].groups]
    assert [("measured" in title, "projected" in title) for title in titles] == [(True, False), (False, True)]


def test_groups_stand_in_the_order_of_their_numbers():
    """128 before 1024, though as text 1024 comes first."""
    jobs = [b.cnn_job(batch_size=batch, epochs=None, steps_per_epoch=None) for batch in (1024, 64, 256, 128)]
    found = report(b.ledger([b.record(job, index=index) for index, job in enumerate(jobs)]))
    titles = [group.title for group in found.tables[0].groups]
    assert [int(title.split("batch ")[1].split(" ")[0]) for title in titles] == [64, 128, 256, 1024]


def test_an_outcome_says_how_many_of_how_many():
    measured, cpu, _, failed = lines_of(report(a_bit_of_everything()))
    assert measured["outcome"].text == "ok 1/1"
    assert cpu["outcome"].text == "ok 3/3"
    assert (failed["outcome"].text, failed["outcome"].details) == ("oom 1 of 2", ("not run 1 of 2",))
    assert any("tried to allocate 2 GiB" in note.text for note in report(a_bit_of_everything()).notes)


def test_every_not_available_has_its_reason_below():
    found = report(a_bit_of_everything())
    reasons = " ".join(note.text for note in found.notes if note.kind == "missing")
    assert "no clock can be read" in reasons
    assert "a CPU's memory is the host's" in reasons


def test_many_problems_are_counted_rather_than_listed():
    notes = [note.text for note in report(problems=[f"run.jsonl:{n}: odd" for n in range(1000)]).notes]
    assert (len(notes), notes[-1]) == (21, "... and 980 more problems in these files.")


def test_other_runs_of_a_row_are_said():
    run, again = a_bit_of_everything(), a_bit_of_everything()
    again = b.ledger(again.records, run_id="r2", machine=b.machine(gpus=[b.GPU]), created_at="2027-01-01")
    assert any("--all-runs" in note.text for note in report(run, again).notes)
    assert not any("--all-runs" in note.text for note in report(run, again, all_runs=True).notes)
    assert {line["processor"].details[-1] for line in lines_of(report(run, again, all_runs=True))} == {
        f"run {b.RUN_ID}",
        "run r2",
    }


def test_the_ceiling_is_the_fastest_size():
    """2 x 2048^3 / 0.11 s = 156.2 GFLOP/s against 2 x 1024^3 / 0.012 s = 179: the smaller size is the ceiling here."""
    small, large = lines_of(report(a_bit_of_everything()), "gemm")
    assert (small["size"].text, small["ceiling"].text, small["achieved"].details[-1]) == ("1,024", "ceiling", "n=3")
    assert (large["size"].text, large["ceiling"].text) == ("2,048", "")


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal_and_what_is_left_out_is_named(width):
    found = report(a_bit_of_everything(), with_references=True)
    rendered = text.render(found, "table", width=width)
    assert max(len(line) for line in rendered.splitlines()) <= width
    if width < 130:
        assert f"Left out at {width} columns" in rendered
        assert "--format markdown" in " ".join(rendered.split())
    if width >= 200:
        assert "Left out" not in rendered


def test_room_left_by_a_column_that_went_stands_between_those_that_stayed():
    """Two blanks where they fit, and the hint speaks of one column as one."""
    (table,) = (each for each in report(a_bit_of_everything()).tables if each.key == "gemm")
    needed = terminal.natural_width(table) - (len(table.columns) - 1)
    assert terminal._fit_columns(table, needed)[1] == 1
    assert terminal._fit_columns(table, needed - 1)[1] == 2
    rendered = text.render(Report((table,), ()), "table", width=needed - 1)
    assert f"A terminal of {needed} columns shows it, and so" in " ".join(rendered.split())


def test_the_most_important_columns_stay_the_longest():
    rendered = text.render(report(a_bit_of_everything(), with_references=True), "table", width=80)
    heading = rendered.splitlines()[1]
    assert "processor" in heading
    assert "time of the job" in heading
    assert "speed-up" in heading


def test_without_a_width_nothing_is_left_out():
    found = report(a_bit_of_everything(), with_references=True)
    assert "Left out" not in text.render(found, "table")
    assert max(len(line) for line in text.render(found, "table").splitlines()) <= max(
        terminal.natural_width(table) for table in found.tables
    )


def test_rows_of_several_machines_carry_the_machine():
    one = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))
    two = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), machine=b.machine("elsewhere"), run_id="r2")
    assert [line["processor"].details[-1] for line in lines_of(report(one, two))] == ["elsewhere", b.MACHINE_ID]
    assert lines_of(report(one))[0]["processor"].details == ("cpu, 8 threads",)


CHANGES = {
    "workload": "other",
    "workload_version": 2,
    "division": "tuned",
    "layout": "nhwc",
    "batch_size": 64,
    "optimizer": "rmsprop-tf1",
    "init": "normal-0.01",
    "size": 7,
    "data": "synthetic",
    "split": "train-60000",
    "order": "shuffled",
    "loader": "dataloader",
    "loader_workers": 2,
    "clock": "job",
    "warmup_steps": 21,
    "block_steps": 11,
    "blocks": 16,
    "epochs": 101,
    "steps_per_epoch": 430,
    "extra_forwards": 1,
    "epoch_eval_images": 256,
    "stop_when_all_right": True,
    "final_evaluation": False,
    "task": "inference",
    "execution": "compiled",
    "pool": "average",
    "activation": "sigmoid",
    "target": 0.98,
    "evaluate_every": 100,
    "recipe": "cnn-99-adam",
    "world": 2,
    "scaling": "weak",
    "nodes": 2,
    "copies": 2,
}


BASES = {"steady": b.cnn_job(), "job": b.lecture_job(), "gemm": b.gemm_job(), "accuracy": b.target_job()}


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@given(field=st.sampled_from(sorted(CHANGES)))
def test_other_work_never_reads_the_same(base, field):
    """Each field of the work key, changed alone, changes the group's heading (a GEMM's size and blocks have columns)."""
    changed = base.model_copy(update={field: CHANGES[field]})
    in_columns = {"size", "blocks", "block_steps", "warmup_steps"} if base.workload == "gemm" else set()
    if changed.work_key != base.work_key and field not in in_columns:
        assert naming.work_label(changed) != naming.work_label(base)


@pytest.mark.parametrize("field", [*sorted(CHANGES), "precision"])
def test_a_race_with_its_mode_and_a_setting_with_its_rung_never_read_the_same(field):
    """What the tables of time to accuracy and of the ladder say in two places is all of the work, but seed and place."""
    base = b.target_job()
    changed = base.model_copy(update={field: CHANGES.get(field, "bf16")})
    for title, words in ((naming.target_label, naming.variant_label), (naming.ladder_label, naming.step_label)):
        assert changed == base or (title(changed), words(changed)) != (title(base), words(base))


def test_the_fields_above_are_all_of_the_work_key():
    places = {"device", "threads", "allocator", "seed", "round", "precision"}
    assert set(CHANGES) == set(Job.model_fields) - places


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("AMD EPYC 9575F 64-Core Processor", "AMD EPYC 9575F"),
        ("Intel(R) Xeon(R) CPU @ 2.80GHz", "Intel Xeon"),
        ("NVIDIA H200", "NVIDIA H200"),
        ("Processor", "Processor"),
    ],
)
def test_processors_have_the_names_people_use(name, short):
    assert naming.processor_name(Device(id="cpu", kind="cpu", name=name)) == short


def test_an_accuracy_says_after_how_many_steps():
    tested = Evaluation(after_steps=170, images=10_000, correct=9_700, seconds=1.0)
    (line,) = lines_of(report(b.ledger([b.record(b.cnn_job(), test=tested)])))
    assert line["accuracy"].text == "97.00 %"
    assert line["accuracy"].details == ("96.65–97.32 %", "after 170 steps")
