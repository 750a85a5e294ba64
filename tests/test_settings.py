"""Settings files: whom they give what, who beats whom, and that a mistake is said once, in whole, and never by --help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import builders as b
import click
import pytest
from click.shell_completion import ShellComplete

import cnnbench
from cnnbench.cli.main import COMMANDS, cli, run_cli
from cnnbench.cli.options import make_option
from cnnbench.cli.settings import load_settings, make_defaults
from cnnbench.errors import ExitCode, UsageError


@click.command()
@click.option("--how-many", type=click.IntRange(min=1), default=1)
@click.option("--share", type=float, default=0.5)
@click.option("--colour/--no-colour", default=False)
@click.option("--kind", type=click.Choice(["plain", "fancy"]), default="plain")
@click.option("--word", "words", multiple=True)
@click.option("-k", "letter")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("results"), envvar="CNNBENCH_RESULTS")
@click.option("--page", type=click.Path(allow_dash=True))
def tell(**values: object) -> None:
    """Print what was understood."""
    click.echo(json.dumps(values, default=str))


@click.group()
def nest() -> None:
    """Hold a command."""


nest.add_command(tell, "tell")


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(COMMANDS, "tell", (f"{__name__}:tell", "Tell."))
    monkeypatch.setitem(COMMANDS, "nest", (f"{__name__}:nest", "Nest."))
    monkeypatch.delenv("CNNBENCH_NO_SETTINGS", raising=False)
    monkeypatch.delenv("CNNBENCH_DATA", raising=False)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]):
    def tell_(*arguments: str):
        code = run_cli(list(arguments) or ["tell"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    return tell_


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    def refuse(*arguments: str) -> str:
        assert run_cli(list(arguments) or ["tell"]) == ExitCode.USAGE
        out, err = capsys.readouterr()
        assert out == ""
        assert "Traceback" not in err
        return err

    return refuse


def test_each_kind_of_option_takes_its_kind_of_value(tmp_path, told):
    """Numbers, words, true and false, lists; - or _ in a name; a letter where there is no name."""
    (tmp_path / "pyproject.toml").write_text(
        "[tool.cnnbench.tell]\nhow_many = 3\nshare = 1\ncolour = true\nkind = 'fancy'\nword = ['a', 'b']\nk = 'x'\n"
    )
    found = told()
    expected = {"how_many": 3, "share": 1.0, "colour": True, "kind": "fancy", "words": ["a", "b"], "letter": "x"}
    assert {name: found[name] for name in expected} == expected
    (tmp_path / "pyproject.toml").write_text("[tool.cnnbench.nest.tell]\nhow-many = 4\n")
    assert told("nest", "tell")["how_many"] == 4
    assert told()["how_many"] == 1


def test_a_flag_beats_its_variable_which_beats_the_settings_which_beat_the_default(tmp_path, told, monkeypatch):
    assert told()["how_many"] == 1
    (tmp_path / "cnnbench.toml").write_text("results = 'of-the-file'\n[tell]\nhow-many = 2\n")
    assert told()["how_many"] == 2
    assert told()["output"] == str(tmp_path / "of-the-file")
    monkeypatch.setenv("CNNBENCH_TELL_HOW_MANY", "3")
    monkeypatch.setenv("CNNBENCH_RESULTS", "of-the-variable")
    assert told()["how_many"] == 3
    assert told()["output"] == "of-the-variable"
    assert told("tell", "--how-many", "4", "-o", "of-the-flag")["how_many"] == 4
    assert told("tell", "-o", "of-the-flag")["output"] == "of-the-flag"


def test_the_nearest_file_counts_and_of_two_in_one_folder_cnnbench_toml(tmp_path, told):
    """A pyproject.toml without a word on cnnbench is somebody else's and passed over."""
    (tmp_path / "pyproject.toml").write_text("[tool.cnnbench.tell]\nhow-many = 2\nshare = 0.25\n")
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert told()["how_many"] == 2
    (tmp_path / "cnnbench.toml").write_text("[tell]\nhow-many = 3\n")
    assert (told()["how_many"], told()["share"]) == (3, 0.5)
    (tmp_path / "inner" / "pyproject.toml").write_text("[tool.cnnbench]\n")
    assert told()["how_many"] == 1


def test_a_relative_path_is_relative_to_the_file(tmp_path, told):
    (tmp_path / "cnnbench.toml").write_text("[tell]\noutput = 'here'\npage = '-'\n")
    assert told()["output"] == str(tmp_path / "here")
    assert told()["page"] == "-"
    (tmp_path / "cnnbench.toml").write_text("[tell]\noutput = '/there'\npage = '~/x'\n")
    assert told()["output"] == "/there"
    assert told()["page"] == str(Path.home() / "x")


def test_a_table_of_a_command_s_former_name_is_answered_with_today_s(tmp_path):
    (tmp_path / "cnnbench.toml").write_text("[fleet]\n")
    with pytest.raises(UsageError, match=r"fleet: no such command; here it is `cnnbench cluster`"):
        load_settings(cli, tmp_path)


def test_a_command_with_others_below_it_has_a_table_and_variables_as_they_have(tmp_path, monkeypatch, capsys):
    """`[check]` is for `check`, `[check.replay]` for `check replay`; so are CNNBENCH_CHECK_... and CNNBENCH_CHECK_REPLAY_..."""
    (tmp_path / "cnnbench.toml").write_text("[check]\nbase = 'nosuch'\n[check.baseline.list]\nformat = 'json'\n")
    found = make_defaults(cli)
    assert found["check"]["base"] == "nosuch"
    assert found["check"]["baseline"]["list"]["format_"] == "json"
    monkeypatch.setenv("CNNBENCH_CHECK_TOLERANCE", "wide")
    assert run_cli(["check", "run"]) == ExitCode.USAGE
    assert "--tolerance 'wide': write a percentage" in capsys.readouterr().err
    monkeypatch.setenv("CNNBENCH_CHECK_REPLAY_PLOT", "x.pdf")
    assert run_cli(["check", "replay", "x.json"]) == ExitCode.USAGE
    assert "a plot is FILE.svg or FILE.png" in capsys.readouterr().err
    (tmp_path / "cnnbench.toml").write_text("[check]\nbasis = 'x'\n[check.nosuch]\n[check.replay]\nplott = 'x.svg'\n")
    with pytest.raises(UsageError) as raised:
        load_settings(cli, tmp_path)
    assert [
        part in str(raised.value)
        for part in ("[check] basis", "[check] nosuch: no such command", "[check.replay] plott")
    ] == [True] * 3


def test_a_commands_own_directory_beats_the_results_of_all(tmp_path, told):
    (tmp_path / "cnnbench.toml").write_text("results = 'all'\n[tell]\noutput = 'own'\n")
    assert told()["output"] == str(tmp_path / "own")


def test_every_command_with_a_results_directory_has_the_settings(tmp_path):
    """Whatever stands in COMMANDS: an option that CNNBENCH_RESULTS gives is found by that alone."""
    (tmp_path / "cnnbench.toml").write_text("results = 'r'\n")
    found = make_defaults(cli)
    assert found["tell"]["output"] == found["run"]["results"] == str(tmp_path / "r")
    assert "device" not in found["run"]
    assert dict(found["tell"]) == {"output": str(tmp_path / "r")}


def test_show_looks_where_the_settings_say(tmp_path, capsys, monkeypatch):
    b.write(tmp_path / "measured", b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)))
    (tmp_path / "cnnbench.toml").write_text("results = 'measured'\n[show]\nformat = 'json'\n")
    assert run_cli(["show"]) == 0
    assert json.loads(capsys.readouterr().out)["tables"][0]["rows"][0]["run_id"] == b.RUN_ID
    monkeypatch.setenv("CNNBENCH_RESULTS", "nowhere")
    assert run_cli(["show"]) == ExitCode.USAGE
    assert "no results directory nowhere (CNNBENCH_RESULTS names it)" in capsys.readouterr().err
    monkeypatch.delenv("CNNBENCH_RESULTS")
    (tmp_path / "cnnbench.toml").write_text("results = 'nosuch'\n")
    assert run_cli(["show"]) == ExitCode.USAGE
    assert f"{tmp_path / 'nosuch'} ({tmp_path / 'cnnbench.toml'} names it)" in capsys.readouterr().err
    assert run_cli(["--no-settings", "show"]) == ExitCode.USAGE
    assert "no results directory results (" in capsys.readouterr().err


def test_a_data_directory_of_the_settings_is_said_to_be_theirs(tmp_path, capsys):
    (tmp_path / "cnnbench.toml").write_text("[data.where]\ndata-dir = 'digits'\n")
    assert run_cli(["data", "where"]) == ExitCode.USAGE
    assert f"{tmp_path / 'digits'} (data-dir in the settings): does not hold MNIST" in capsys.readouterr().err


MISTAKES = """
results = 3
reslts = "x"
show = "markdown"
[tell]
how-many = 0
how_many = 2
share = "half"
colour = "yes"
kind = "fany"
word = "a"
k = ["x"]
clour = true
nothing-like-it = 1
[rnu]
x = 1
[nest]
tel = {}
"""


def test_every_mistake_is_said_at_once_with_file_key_value_and_the_nearest_good_name(tmp_path, refused):
    path = tmp_path / "pyproject.toml"
    path.write_text(MISTAKES.replace("\nresults", "\n[tool.cnnbench]\nresults").replace("[tell]", "[tool.cnnbench.tell]")
                    .replace("[rnu]", "[tool.cnnbench.rnu]").replace("[nest]", "[tool.cnnbench.nest]"))  # fmt: skip
    first, *rest = refused().removeprefix("error: ").splitlines()
    choices = "how-many, share, colour, kind, word, k, output, page"
    assert [line.removeprefix(f"{path}: ") for line in (first, *rest)] == [
        "[tool.cnnbench] results 3 must be text, a directory",
        "[tool.cnnbench] reslts 'x': no such command; did you mean 'results'?",
        "[tool.cnnbench] show 'markdown' must be a table, [tool.cnnbench.show]",
        "[tool.cnnbench.tell] how-many 0 will not do: 0 is not in the range x>=1",
        "[tool.cnnbench.tell] share 'half' must be a number",
        "[tool.cnnbench.tell] colour 'yes' must be true or false",
        "[tool.cnnbench.tell] kind 'fany' is not one of plain, fancy; did you mean 'fancy'?",
        "[tool.cnnbench.tell] word 'a' must be a list",
        "[tool.cnnbench.tell] k ['x'] must be text",
        "[tool.cnnbench.tell] clour true: no such option; did you mean 'colour'?",
        f"[tool.cnnbench.tell] nothing-like-it 1: no such option; choose from {choices}",
        "[tool.cnnbench] rnu: no such command; did you mean 'run'?",
        "[tool.cnnbench.nest] tel: no such command; did you mean 'tell'?",
        "`cnnbench --no-settings ...` leaves it aside",
    ]


def test_one_option_given_in_two_spellings_is_a_mistake(tmp_path, refused):
    (tmp_path / "cnnbench.toml").write_text("[tell]\nhow-many = 1\nhow_many = 2\n")
    assert "[tell] how_many 2: the same option is there twice" in refused()


@pytest.mark.parametrize("content", [b"[tell\n", b"\xff\xfe", b"x = " + b"[" * 5000])
def test_what_is_no_toml_is_one_error(tmp_path, refused, content):
    (tmp_path / "cnnbench.toml").write_bytes(content)
    error = refused()
    assert error.startswith(f"error: {tmp_path / 'cnnbench.toml'}: not TOML: ")
    assert "--no-settings" in error


@pytest.mark.parametrize("content", ["[tell", "[tell]\nclour = true\n"])
def test_help_and_version_never_fail_for_a_mistake_and_settings_can_be_left_aside(
    tmp_path, told, capsys, monkeypatch, content
):
    (tmp_path / "cnnbench.toml").write_text(content)
    for arguments in (["--help"], ["--version"], ["tell", "--help"], ["run", "--help"], ["nest", "tell", "--help"]):
        assert run_cli(arguments) == 0, arguments
    capsys.readouterr()
    assert told("--no-settings", "tell")["how_many"] == 1
    monkeypatch.setenv("CNNBENCH_NO_SETTINGS", "1")
    assert told()["how_many"] == 1


def test_a_command_without_options_reads_nothing(tmp_path, capsys):
    """A completion script in a shell's start-up must not break over a settings file."""
    (tmp_path / "cnnbench.toml").write_text("[tell")
    assert run_cli(["schema", "run"]) == 0


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]], ids=" ".join)
def test_help_stays_light_with_settings(tmp_path, arguments):
    (tmp_path / "cnnbench.toml").write_text("results = 'r'\n[run]\ndevice = 'cpu'\n[list]\njson = true\n")
    code = (
        "import sys; from cnnbench.cli.main import run_cli; code = run_cli(sys.argv[1:]);"
        "assert code == 0 and not {'torch', 'pandas', 'numpy', 'scipy', 'rich'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(cnnbench.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, env=environment)


def test_the_shell_completes_from_the_results_of_the_settings(tmp_path, monkeypatch):
    """And from ./results where the settings are wrong or left aside: completing a word is no time for an error."""

    def offered() -> list[str]:
        found = ShellComplete(cli, {}, "cnnbench", "_CNNBENCH_COMPLETE").get_completions(["show", "--machine"], "")
        return [item.value for item in found]

    b.write(tmp_path / "measured", b.ledger(b.repeats(b.cnn_job(), [0.01] * 3)))
    b.write(Path("results"), b.ledger(b.repeats(b.cnn_job(), [0.01]), machine=b.machine("here")))
    (tmp_path / "cnnbench.toml").write_text("results = 'measured'\n")
    assert offered() == [b.MACHINE_ID]
    (tmp_path / "cnnbench.toml").write_text("results = ")
    assert offered() == ["here"]
    (tmp_path / "cnnbench.toml").write_text("results = 'measured'\n")
    monkeypatch.setenv("CNNBENCH_NO_SETTINGS", "1")
    assert offered() == ["here"]


def test_no_settings_are_no_settings():
    assert load_settings(cli, Path("/nonexistent")).values == {}


def test_every_option_of_every_command_can_be_set(tmp_path):
    """Whatever COMMANDS holds: a value of the right kind under each option's own name is taken."""

    def value_of(option: click.Option) -> object:
        kind = option.type
        if isinstance(kind, click.types.BoolParamType):
            return True
        if isinstance(kind, click.IntRange | click.FloatRange):
            low, high = kind.min, kind.max  # inside the range, whether or not its ends are
            return 1 + (low or 0) if high is None else low if low is not None and not kind.min_open else high / 2
        if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
            return 1
        if isinstance(kind, click.Choice):
            return str(next(iter(kind.choices)))
        return str(tmp_path / "pyproject.toml") if isinstance(kind, click.Path) and kind.file_okay else "."

    def lines(command: click.Command, heading: str) -> list[str]:
        below: list[str] = []
        if isinstance(command, click.Group):
            context = click.Context(command)
            inner = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
            below = [line for name, each in inner if each for line in lines(each, f"{heading}.{name}")]
        if command is cli:
            return below
        options = [each for each in command.params if isinstance(each, click.Option) and each.expose_value]
        found = [f"[{heading}]"]
        for option in options:
            name = next((each for each in option.opts if each.startswith("--")), option.opts[0]).lstrip("-")
            value = value_of(option)
            given = [value] * option.nargs if option.nargs > 1 else value
            found.append(f"{name} = {json.dumps([given] if option.multiple else given)}")
        return [*found, *below]

    (tmp_path / "pyproject.toml").write_text("\n".join(lines(cli, "tool.cnnbench")) + "\n")
    settings = load_settings(cli, tmp_path)
    assert settings.values["run"]["name_filter"] == "."
    assert len(settings.values["run"]) > 15
    assert settings.values["check"]["github"] is settings.values["check"]["calibrate"]["resume"] is True
    assert settings.values["check"]["baseline"]["save"]["replace"] is True


def test_a_mistake_in_a_file_that_cannot_be_checked_further_names_the_table(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool]\ncnnbench = 3\n")
    with pytest.raises(UsageError, match=r"must be a table, \[tool.cnnbench\]"):
        load_settings(cli, tmp_path)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Two trees of results, of which only the first holds run r1: `first` and `second`."""
    for name in ("first", "second"):
        b.write(tmp_path / name, b.ledger(b.repeats(b.cnn_job(), [0.01] * 3), run_id=f"r-{name}"))
    return tmp_path


def _show_runs(capsys: pytest.CaptureFixture[str], *arguments: object) -> set[str]:
    assert run_cli(["show", "--format", "json", *map(str, arguments)]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    return {row["run_id"] for table in tables for row in table["rows"] if row.get("run_id")}


def test_paths_that_are_typed_win_over_a_tree_of_the_settings_or_of_a_variable(measured, monkeypatch, capsys):
    (measured / "cnnbench.toml").write_text("[show]\nresults = 'first'\n")
    assert _show_runs(capsys) == {"r-first"}
    assert _show_runs(capsys, measured / "second") == {"r-second"}
    (measured / "cnnbench.toml").unlink()
    monkeypatch.setenv("CNNBENCH_SHOW_RESULTS", str(measured / "first"))
    assert _show_runs(capsys) == {"r-first"}
    assert _show_runs(capsys, measured / "second") == {"r-second"}
    assert run_cli(["show", str(measured / "second"), "--results", str(measured / "first")]) == ExitCode.USAGE
    assert "say the same; leave one of them out" in capsys.readouterr().err


def test_one_table_or_all_are_shown_as_typed_whatever_the_settings_say(measured, capsys):
    def show_titles(*flags: str) -> list[str]:
        assert run_cli(["show", str(measured / "first"), "--format", "json", *flags]) == 0
        return [table["title"] for table in json.loads(capsys.readouterr().out)["tables"]]

    every, one = show_titles("--all"), show_titles("--only", "resources")
    assert len(every) > len(one) == 1
    (measured / "cnnbench.toml").write_text("[show]\nall = true\n")
    assert show_titles("--only", "resources") == one
    (measured / "cnnbench.toml").write_text("[show]\nonly = 'resources'\n")
    assert show_titles("--all") == every
    assert show_titles() == one
    assert run_cli(["show", str(measured / "first"), "--all", "--only", "tta"]) == ExitCode.USAGE
    assert "give one of them" in capsys.readouterr().err


def test_a_report_that_is_no_page_is_written_though_the_settings_would_open_it(measured, monkeypatch, capsys):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(opened.append(address)) or True)
    (measured / "page.md").write_text("<!-- table: x -->\n<!-- table end -->\n")
    (measured / "cnnbench.toml").write_text("[report]\nopen = true\ninto = 'page.md'\ntemplate = 'lecture'\n")
    assert run_cli(["report", str(measured / "first"), "-o", "r.md"]) == 0
    assert Path("r.md").exists()
    assert run_cli(["report", str(measured / "first"), "-o", "r.md", "--check"]) == 0
    assert opened == []
    assert run_cli(["report", str(measured / "first"), "--static", "-o", "r.html"]) == 0
    assert len(opened) == 1
    capsys.readouterr()
    assert run_cli(["report", str(measured / "first"), "-o", "r.md", "--open"]) == ExitCode.USAGE
    assert "--open: r.md is no HTML page" in capsys.readouterr().err


def test_a_calibration_or_its_test_is_made_as_typed_whatever_the_settings_say(tmp_path, monkeypatch, capsys):
    """What belongs to the other is left aside, unless both were typed."""
    made: list[str] = []
    monkeypatch.setattr("cnnbench.cli.calibrate.run_calibration", lambda *given: made.append("calibration"))
    monkeypatch.setattr("cnnbench.cli.calibrate.run_selftest", lambda *given: bool(made.append("test")) or True)

    def calibrate(*flags: str) -> str:
        made.clear()
        assert run_cli(["check", "calibrate", *flags]) == 0, capsys.readouterr().err
        return made[0]

    (tmp_path / "cnnbench.toml").write_text("[check.calibrate]\nblocks = 40\nmax-blocks = 8\n")
    assert calibrate() == "calibration"
    assert calibrate("--inject", "5") == "test"
    (tmp_path / "cnnbench.toml").write_text("[check.calibrate]\ninject = '5'\n")
    assert calibrate() == "test"
    assert calibrate("--blocks", "6") == "calibration"
    assert calibrate("--max-blocks", "6") == "test"
    assert run_cli(["check", "calibrate", "--inject", "5", "--blocks", "6"]) == ExitCode.USAGE
    (tmp_path / "cnnbench.toml").unlink()
    monkeypatch.setenv("CNNBENCH_CHECK_CALIBRATE_BLOCKS", "40")
    assert calibrate("--inject", "5") == "test"


def _list_contexts(context: click.Context) -> list[click.Context]:
    """List the contexts of a command and of all below it, as a command line makes them."""
    command, found = context.command, [context]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            settings = {"info_name": name, "parent": context, **below.context_settings}
            found += _list_contexts(click.Context(below, **settings))
    return found


def _list_options(context: click.Context) -> list[click.Option]:
    """List the options that have a variable of their own: all but -v and -q, which add to the root's, and the help's."""
    options = [each for each in context.command.get_params(context) if isinstance(each, click.Option)]
    return [each for each in options if each.allow_from_autoenv and not each.is_eager]


def test_every_option_of_every_command_is_given_by_the_variable_of_its_spelling(monkeypatch):
    """CNNBENCH_<COMMAND>_<OPTION>, by the first long flag or the letter; no two options have one variable."""
    for name in ("tell", "nest"):
        monkeypatch.delitem(COMMANDS, name)
    contexts = _list_contexts(click.Context(cli, info_name="cnnbench", **cli.context_settings))
    variables: list[str] = []
    for context in contexts:
        for option in _list_options(context):
            flag = next((each for each in option.opts if each.startswith("--")), option.opts[0])
            words = ("cnnbench", *context.command_path.split()[1:], flag.lstrip("-"))
            variable = "_".join(words).upper().replace("-", "_")
            assert option.resolve_envvar_value(context) is None
            monkeypatch.setenv(variable, "given")
            assert option.resolve_envvar_value(context) == "given", variable
            monkeypatch.setenv(variable, "")
            assert option.resolve_envvar_value(context) is None, variable
            variables.append(variable)
    assert len(set(variables)) == len(variables)
    known = ("RUN_SET", "RUN_K", "SHOW_FORMAT", "SHOW_ALL", "CHECK_CALIBRATE_BLOCKS", "REPORT_PRICE_PER_HOUR")
    assert {f"CNNBENCH_{each}" for each in (*known, "DATA_FETCH_DATA_DIR", "RUN_SWEEP")} <= set(variables)


def test_a_declared_variable_beats_the_option_s_own_and_the_help_names_it(monkeypatch):
    option = click.command(make_option("--how-many count", "How many.", int, show_envvar=True)(lambda count: None))
    context = click.Context(option, auto_envvar_prefix="CNNBENCH_X")
    assert option.params[0].get_help_extra(context)["envvars"] == ("CNNBENCH_X_HOW_MANY",)
    named = make_option("--how-many count", "How many.", int, show_envvar=True, envvar="CNNBENCH_COUNT")
    option = click.command(named(lambda count: None))
    assert option.params[0].get_help_extra(context)["envvars"] == ("CNNBENCH_COUNT",)
    monkeypatch.setenv("CNNBENCH_X_HOW_MANY", "1")
    assert option.params[0].resolve_envvar_value(context) == "1"
    monkeypatch.setenv("CNNBENCH_COUNT", "2")
    assert option.params[0].resolve_envvar_value(context) == "2"


def test_a_variable_of_an_option_s_spelling_reaches_the_command(measured, monkeypatch, capsys):
    monkeypatch.setenv("CNNBENCH_SHOW_FORMAT", "json")
    monkeypatch.setenv("CNNBENCH_SHOW_ONLY", "resources")
    assert run_cli(["show", str(measured / "first")]) == 0
    assert len(json.loads(capsys.readouterr().out)["tables"]) == 1
    monkeypatch.setenv("CNNBENCH_SHOW_RUN", "nosuch")
    assert run_cli(["show", str(measured / "first")]) == ExitCode.USAGE
    assert "--run nosuch: no such run" in capsys.readouterr().err
