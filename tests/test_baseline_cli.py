"""The command `check baseline`: what is stored where, every exit code, names that do nothing, files that were edited."""

from __future__ import annotations

import json
import shutil

import builders as b
import pytest
import run_builders as r
from click.testing import CliRunner

from cnnbench import store
from cnnbench.cli.baseline import baseline
from cnnbench.cli.main import run_cli
from cnnbench.errors import CnnbenchError, ExitCode


@pytest.fixture
def results(tmp_path):
    """Ten runs of one machine."""
    for ledger in r.runs():
        b.write(tmp_path, ledger)
    return tmp_path


def call(results, *arguments, code=0):
    """The command's standard output; where `code` is not 0, what it said instead."""
    command = [*map(str, arguments), "--results", str(results)]
    result = CliRunner().invoke(baseline, command, env={"COLUMNS": "200"})
    error = result.exception
    assert (error.exit_code if isinstance(error, CnnbenchError) else result.exit_code) == code, result.output
    return str(error) if isinstance(error, CnnbenchError) else result.output


def verdicts(results, *arguments, code=0):
    text = call(results, "judge", "main", *arguments, "--format", "json", code=code)
    return {row["metric"]: row["verdict"] for row in json.loads(text)["tables"][0]["rows"]}


def test_a_baseline_lies_beside_the_ledgers_and_is_no_ledger(results):
    before = store.load_tree([results])
    said = call(results, "save", "main")
    path = results / b.MACHINE_ID / "baselines.toml"
    assert f"{path}: 10 runs, 1 row; 1 with the 8 runs" in said
    assert path.is_file()
    assert store.load_tree([results]) == before


def test_the_newest_run_is_judged_against_the_name_given(results):
    call(results, "save", "main")
    assert set(verdicts(results).values()) == {"within"}
    assert "belongs to the baseline" in call(results, "judge", "main")
    b.write(results, r.run(20, 0.02, commit="f" * 40))
    said = call(results, "judge", "main")
    assert "suspicious: slower" in said
    assert "cnnbench check quick --base 0123456789ab" in said
    assert set(verdicts(results, "--run", "20260303").values()) == {"within"}


def test_a_run_from_elsewhere_is_judged_too(results, tmp_path_factory):
    call(results, "save", "main")
    path = b.write(tmp_path_factory.mktemp("ci"), r.run(20, 0.0101))
    assert set(verdicts(results, path).values()) == {"within"}


@pytest.mark.parametrize(
    ("ledger", "code"),
    [
        (r.run(20, 0.02), ExitCode.DONE),
        (r.run(20, 0.0101, operators_per_step=86), ExitCode.FINDING),
        (r.run(20, 0.0101, software={"torch": "2.14.0"}), ExitCode.UNFIT),
        (r.run(20, 0.0101, protocol=2), ExitCode.UNFIT),
        (r.run(20, 0.0101, parameters=None), ExitCode.JOB_FAILED),
    ],
)
def test_the_exit_code_says_what_was_found(results, ledger, code):
    call(results, "save", "main")
    b.write(results, ledger)
    call(results, "judge", "main", code=code)


def test_seven_runs_end_inconclusive_unless_that_is_to_warn_only(results):
    sevens = [word for ledger in r.runs()[:7] for word in ("--run", ledger.header.run_id)]
    call(results, "save", "main", *sevens)
    said = call(results, "judge", "main", code=ExitCode.INCONCLUSIVE)
    assert "7 stored; a range needs 8" in said
    call(results, "judge", "main", "--inconclusive", "warn")


def test_another_machine_is_refused(results):
    call(results, "save", "main")
    b.write(results, r.run(20, 0.01, machine=b.machine("other-1f2e")))
    said = call(results, "judge", "main", code=ExitCode.UNFIT)
    assert f"baseline main is of machine {b.MACHINE_ID}, the run of other-1f2e: not comparable" in said


def test_one_name_may_stand_for_each_machine(results):
    for number in range(1, 4):
        b.write(results, r.run(number, 0.01, machine=b.machine("other-1f2e"), run_id=f"20260{number}01T000000Z-eeee"))
    assert "2 machines" in call(results, "save", "main", code=ExitCode.USAGE)
    call(results, "save", "main", "--machine", "other")
    call(results, "save", "main", "--machine", b.MACHINE_ID)
    assert "2 machines have one" in call(results, "show", "main", code=ExitCode.USAGE)
    assert "3 runs of 1 row" in call(results, "show", "main", "--machine", "other")
    call(results, "remove", "main", "--machine", "other")
    assert "10 runs of 1 row" in call(results, "show", "main")


def test_it_moves_only_when_told_to(results):
    call(results, "save", "main", "--run", "20260301")
    path = results / b.MACHINE_ID / "baselines.toml"
    before = path.read_bytes()
    said = call(results, "save", "main", code=ExitCode.USAGE)
    assert "give --replace" in said
    call(results, "judge", "main", "--inconclusive", "warn")
    assert path.read_bytes() == before
    call(results, "save", "main", "--replace")
    assert path.read_bytes() != before


def test_show_says_what_became_of_the_ledgers(results):
    call(results, "save", "main")

    def states():
        tables = json.loads(call(results, "show", "main", "--format", "json"))["tables"]
        return [row["ledger"] for row in tables[1]["rows"]]

    assert states() == ["unchanged"] * 10
    first, second, third, *_ = sorted((results / b.MACHINE_ID).glob("*.jsonl"))
    first.unlink()
    second.write_text(second.read_text().replace('"steps":150', '"steps":151', 1))
    third.write_text("junk\n")
    assert states() == ["is not there", "changed", "cannot be read", *["unchanged"] * 7]


def test_list_names_all_with_how_much_they_can_judge_and_what_is_broken(results):
    assert "No baseline is stored" in call(results, "list")
    call(results, "save", "main")
    call(results, "save", "first", "--run", "20260301")
    call(results, "save", "last", "--run", "20260310")
    (results / b.MACHINE_ID / "20260310T120000Z-000a.jsonl").unlink()
    said = call(results, "list", "--format", "json")
    rows = json.loads(said)["tables"][0]["rows"]
    assert [(row["name"], row["state"]) for row in rows] == [
        ("first", "ok"),
        ("last", "unusable"),
        ("main", "unusable"),
    ]
    assert [row.get("rows_with_a_range") for row in rows] == [0, None, None]
    assert "run 20260310T120000Z-000a is not there" in said


def edit_ledger(path):
    path.write_text(path.read_text().replace('"operators_per_step":85', '"operators_per_step":86', 1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (edit_ledger, "run 20260301T120000Z-0001 changed"),
        (lambda path: path.unlink(), "run 20260301T120000Z-0001 is not there"),
        (lambda path: path.write_text("junk"), "run 20260301T120000Z-0001 cannot be read"),
    ],
    ids=["edited", "gone", "junk"],
)
def test_a_ledger_that_is_not_what_was_saved_judges_nothing(results, spoil, words):
    call(results, "save", "main")
    spoil(results / b.MACHINE_ID / "20260301T120000Z-0001.jsonl")
    said = call(results, "judge", "main", code=ExitCode.USAGE)
    assert words in said
    assert "bring the ledgers back as they were, or save it again" in said
    assert "9 runs of 1 row" in call(results, "show", "main")


def test_of_two_copies_of_a_ledger_the_one_that_was_saved_counts(results):
    call(results, "save", "main")
    path = results / b.MACHINE_ID / "20260301T120000Z-0001.jsonl"
    (path.parent / "kept").mkdir()
    shutil.copy(path, path.parent / "kept")
    edit_ledger(path)
    assert set(verdicts(results).values()) == {"within"}


def test_a_broken_file_is_noticed_by_every_command_that_uses_it(results):
    call(results, "save", "main")
    path = results / b.MACHINE_ID / "baselines.toml"
    path.write_text(path.read_text().replace("saved_at", "saved at"))
    for command in (("list",), ("show", "main"), ("judge", "main"), ("remove", "main"), ("save", "other")):
        assert f"{path}: cannot be read: " in call(results, *command, code=ExitCode.USAGE)


def test_names_of_another_machine_s_runs_are_refused(results):
    call(results, "save", "main")
    (results / "other-1f2e").mkdir()
    shutil.copy(results / b.MACHINE_ID / "baselines.toml", results / "other-1f2e")
    said = call(results, "show", "main", "--machine", "other", code=ExitCode.USAGE)
    assert "is not there" in said


def test_runs_whose_ledgers_are_elsewhere_get_no_name(results, tmp_path_factory):
    path = b.write(tmp_path_factory.mktemp("ci"), r.run(20, 0.0101))
    said = call(results, "save", "main", path, code=ExitCode.USAGE)
    assert f"{path}: not in {results / b.MACHINE_ID}" in said
    assert "`cnnbench merge`" in said


def test_figures_stored_by_an_earlier_cnnbench_say_what_to_do(results):
    old = results / b.MACHINE_ID / "baselines" / "main.json"
    old.parent.mkdir()
    old.write_text('{"kind": "baseline"}')
    assert f"{old} has figures stored by an earlier cnnbench" in call(results, "show", "main", code=ExitCode.USAGE)
    call(results, "save", "main")
    assert "10 runs of 1 row" in call(results, "show", "main")


@pytest.mark.parametrize("command", ["save", "show", "remove", "judge"])
@pytest.mark.parametrize("name", ["../main", "a/b", "..", "", "*", "a\nb", "$(id)"])
def test_a_name_that_is_no_name_touches_nothing(results, command, name):
    call(results, "save", "main")
    before = sorted(results.rglob("*"))
    assert "baseline name" in call(results, command, name, code=ExitCode.USAGE)
    assert sorted(results.rglob("*")) == before


def test_a_machine_id_cannot_lead_out_of_the_results(results):
    ledger = r.run(20, 0.01, machine=b.machine("../../away"))
    path = results / "odd.jsonl"
    path.write_text("\n".join(b.lines(ledger)) + "\n")
    said = call(results, "save", "main", path, code=ExitCode.USAGE)
    assert "cannot name a folder" in said
    assert not list(results.rglob("baselines.toml"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("remove", "nosuch"), "none of that name in"),
        (("show", "nosuch"), "there are: main (testbox-0a1b)"),
        (("judge", "nosuch"), "there are: main (testbox-0a1b)"),
        (("judge", "main", "--run", "1999"), "no such run; there are"),
        (("save", "other", "--run", "1999"), "no such run; there are"),
        (("save", "other", "--machine", "nosuch"), "no such machine; there are"),
        (("judge", "main", "nosuch"), "no such file or directory"),
    ],
)
def test_every_mistake_is_one_clear_error(results, arguments, words):
    call(results, "save", "main")
    assert words in call(results, *arguments, code=ExitCode.USAGE)


def test_rm_removes_the_name_and_leaves_the_ledgers(results):
    call(results, "save", "main")
    call(results, "remove", "main")
    assert "none is stored there" in call(results, "remove", "main", code=ExitCode.USAGE)
    assert len(list(results.rglob("*.jsonl"))) == 10


def test_the_whole_program_gives_the_codes(results, monkeypatch, capsys):
    monkeypatch.setenv("CNNBENCH_RESULTS", str(results))
    assert run_cli(["check", "baseline", "save", "main"]) == ExitCode.DONE
    assert run_cli(["check", "baseline", "judge", "main"]) == ExitCode.DONE
    assert run_cli(["check", "baseline", "save", "main"]) == ExitCode.USAGE
    assert run_cli(["check", "baseline", "remove", "nosuch"]) == ExitCode.USAGE
    assert "error: baseline nosuch" in capsys.readouterr().err


def test_what_a_ledger_says_is_shown_and_does_nothing(results):
    b.write(results, r.run(20, 0.02, commit="\x1b[2J<script>", software={"cnnbench": "=1+1"}))
    call(results, "save", "main")
    for format_ in ("table", "markdown", "csv"):
        for command in ("show", "judge", "list"):
            said = call(results, command, *(("main",) if command != "list" else ()), "--format", format_)
            assert "\x1b" not in said
            assert not (format_ == "markdown" and "<script>" in said)
            assert not any(cell == "=1+1" for line in said.splitlines() for cell in line.split(","))


def test_a_run_that_a_gate_rejects_today_gets_no_name(results):
    """Written as ok by a cnnbench whose gates knew less: other parameters than the network's layers have."""
    b.write(results, r.run(20, 0.0101, parameters=1_378_699))
    said = call(results, "save", "main")
    assert "run 20260320T120000Z-0014 was left out: " in said
    assert "10 runs, 1 row" in said
