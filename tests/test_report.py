"""The command `report`: files and folders, what is current, the first screen of a page, and everything it refuses."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import builders as b
import pytest
import report_builders
from click.testing import CliRunner

from cnnbench.cli.main import cli
from cnnbench.errors import ExitCode

MARKED = "# Title\n\n<!-- table: made by a command -->\nold\n<!-- table end -->\n\nrest\n"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return report_builders.write(tmp_path_factory.mktemp("results"))


def call(*arguments):
    return CliRunner().invoke(cli, ["report", *(str(each) for each in arguments)], catch_exceptions=True)


def done(*arguments):
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def folder(results, tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    done(results, "-o", made, "--static")
    return made


@pytest.fixture
def copied(folder, tmp_path):
    """A copy of that folder, to be changed."""
    return shutil.copytree(folder, tmp_path / "copied")


def test_every_figure_of_the_tables_is_in_every_format(results, folder):
    """The golden law: what one format prints, all print."""
    page = report_builders.page()
    texts = {name: (folder / name).read_text() for name in ("report.csv", "report.json", "report.tex", "report.md")}
    texts["index.html"] = re.sub(
        r"<svg.*?</svg>|<script.*?</script>", "", (folder / "index.html").read_text(), flags=re.DOTALL
    )
    figures = {
        cell.text.replace("~", "")
        for table in page.tables
        if table.key not in ("method", "machines")
        for group in table.groups
        for line in group.lines
        for cell in line.cells
        if re.search(r"\d", cell.text) and not cell.text.startswith("Test CPU")
    }
    assert len(figures) > 60
    for name, text in texts.items():
        plain = text.replace("\\", "").replace("{}", "").replace("textendash", "–")
        assert [figure for figure in sorted(figures) if figure not in plain] == [], name


def test_a_folder_has_the_page_the_document_the_tables_and_the_charts(folder):
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    charts = {f"charts/{chart.key}.svg" for chart in report_builders.page().charts}
    assert names == {"index.html", "report.md", "report.csv", "report.json", "report.tex", "page.json", *charts}


def test_the_whole_folder_has_pictures_and_specifications_too(results, tmp_path):
    done(results, "-o", tmp_path / "new")
    assert (tmp_path / "new/charts/speedup.png").read_bytes().startswith(b"\x89PNG")
    spec = json.loads((tmp_path / "new/charts/speedup.vl.json").read_text())
    assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")


class TestCurrent:
    """--check writes nothing and finds each file that is not what the ledgers give."""

    def check(self, results, made):
        return call(results, "-o", made, "--static", "--check")

    def test_what_was_just_made_is_current(self, results, folder):
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert self.check(results, folder).exit_code == 0
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    @pytest.mark.parametrize("name", ["report.md", "report.csv", "report.json", "report.tex", "index.html"])
    def test_one_changed_digit_in_a_text_is_found(self, results, copied, name):
        path = copied / name
        text = path.read_text()
        place = text.index("19.36") + 1
        path.write_text(f"{text[:place]}8{text[place + 1 :]}")
        result = self.check(results, copied)
        assert result.exit_code == ExitCode.FINDING
        assert f"{path}: differs from line" in result.output

    def test_a_picture_of_other_data_a_missing_one_and_one_too_many_are_found(self, results, copied):
        charts = copied / "charts"
        (charts / "speedup.svg").write_text((charts / "flops.svg").read_text())
        (charts / "noise.svg").unlink()
        (charts / "old.svg").write_text("<svg/>")
        result = self.check(results, copied)
        assert result.exit_code == ExitCode.FINDING
        assert "speedup.svg: shows other data" in result.output
        assert "noise.svg: is not there" in result.output
        assert "old.svg: not a chart of this report" in result.output

    def test_a_picture_drawn_by_another_renderer_from_the_same_data_is_current(self, results, copied):
        """Fonts and versions move lines; only the data counts."""
        for path in (copied / "charts/speedup.svg", copied / "index.html"):
            path.write_text(path.read_text().replace('stroke-width="1"', 'stroke-width="2"'))
        assert self.check(results, copied).exit_code == 0

    def test_a_further_run_makes_everything_stale(self, folder, tmp_path):
        more = report_builders.write(tmp_path / "results")
        again = b.ledger(b.repeats(b.cnn_job(), [0.06] * 3), run_id="20260401T120000Z-0001", created_at="2026-04-01")
        b.write(more, again)
        result = self.check(more, folder)
        assert result.exit_code == ExitCode.FINDING
        for name in ("index.html", "report.md", "charts/speedup.svg"):
            assert name in result.output

    def test_making_it_again_takes_away_charts_that_are_gone(self, copied, tmp_path):
        (copied / "charts/mine.svg").write_text("<svg/>")
        only = report_builders.write(tmp_path / "less", [b.ledger(b.repeats(b.gemm_job(), [0.01] * 3))])
        done(only, "-o", copied, "--static")
        left = {path.name for path in (copied / "charts").iterdir()}
        assert "learning.svg" not in left
        assert "mine.svg" in left


class TestInto:
    """The first screen of a page, between its marks."""

    def test_a_short_table_and_its_conditions_in_one_line_are_between_the_marks(self, results, tmp_path):
        """At most six columns, memory among them, and at most six rows: those measured have the figures of the whole report."""
        page = tmp_path / "README.md"
        page.write_text(MARKED)
        done(results, "-o", tmp_path / "docs/reports", "--static", "--into", page)
        text = page.read_text()
        assert text.startswith("# Title\n\n<!-- table: made by a command -->\n> **Warning:** ")
        assert text.endswith("<!-- table end -->\n\nrest\n")
        assert "old" not in text.split("<!-- table end")[0].split("-->\n")[1]
        short = text.partition("\n**The same training job of 5,491,200 images")[2].partition("\n<!-- cnnbench")[0]
        _, _, head, rule, *lines, _, conditions, _ = short.split("\n")
        cells = [line.strip("| ").split(" | ") for line in lines]
        assert 2 < len(head.strip("| ").split(" | ")) == rule.count("---") <= 6
        assert head.endswith("| memory |")
        assert [line[0] for line in cells[:2]] == ["Intel i7-4790K (published 2017)", "GTX-1080 (published 2017)"]
        assert 1 <= len(cells[2:]) <= 4
        whole = (tmp_path / "docs/reports/report.md").read_text()
        # The memory of process and device are two columns of the report, one here.
        both = re.compile(r"(.+) \(device (.+)\)")
        figures = [both.sub(r"\1\n\2", cell).splitlines() for line in cells[2:] for cell in line]
        assert all(f" {figure} |" in whole for parts in figures for figure in parts)
        assert any(both.fullmatch(line[-1]) for line in cells[2:])
        assert conditions.startswith(
            "\\~ is projected from timed steps; in brackets intervals (95 %, processes of this run)"
        )
        assert "[The whole report](docs/reports/report.md) has" in conditions

    def test_the_short_table_without_the_published_job_is_of_what_was_measured(self, tmp_path):
        found = report_builders.write(tmp_path / "results", [b.ledger(b.repeats(b.cnn_job(epochs=None), [0.01] * 3))])
        page = tmp_path / "README.md"
        page.write_text(MARKED)
        done(found, "-o", tmp_path / "reports", "--static", "--into", page)
        assert "**Measured here**" in page.read_text()
        assert "published 2017" not in page.read_text()

    def test_check_covers_it(self, results, tmp_path):
        page = tmp_path / "README.md"
        page.write_text(MARKED)
        arguments = (results, "-o", tmp_path / "reports", "--static", "--into", page)
        done(*arguments)
        assert call(*arguments, "--check").exit_code == 0
        page.write_text(page.read_text().replace("19.36x", "19.37x"))
        result = call(*arguments, "--check")
        assert result.exit_code == ExitCode.FINDING
        assert f"{page}: differs from line" in result.output

    @pytest.mark.parametrize("text", ["no marks", MARKED + MARKED, MARKED.replace("<!-- table end -->", "")])
    def test_a_page_without_its_two_marks_is_refused_and_left_alone(self, results, tmp_path, text):
        page = tmp_path / "README.md"
        page.write_text(text)
        result = call(results, "-o", tmp_path / "reports", "--into", page)
        assert result.exit_code != 0
        assert "needs one line `<!-- table: " in str(result.exception)
        assert page.read_text() == text
        assert not (tmp_path / "reports").exists()


class TestBaseline:
    """Speed-ups over what the reader names, across machines."""

    def speedups(self, results, tmp_path, key):
        done(results, "-o", tmp_path / "x.json", "--relative-to", key)
        rows = next(t for t in json.loads((tmp_path / "x.json").read_text())["tables"] if t["key"] == "training")[
            "rows"
        ]
        return {
            (row["machine_id"], row["device"], row["threads"]): row["speedup"]
            for row in rows
            if row["batch_size"] == 128 and row["precision"] == "fp32" and row["clock"] == "steady"
        }

    def test_a_over_b_inverts_b_over_a(self, results, tmp_path):
        here, there = (b.MACHINE_ID, "cuda:0", None), ("gpubox-9f9f", "cuda:0", None)
        one = self.speedups(results, tmp_path, f"{b.MACHINE_ID}/cuda:0")[there]
        other = self.speedups(results, tmp_path, "gpubox-9f9f/cuda:0")[here]
        assert one > 1
        assert one * other == pytest.approx(1)

    def test_it_is_one_for_the_baseline_itself(self, results, tmp_path):
        found = self.speedups(results, tmp_path, f"{b.MACHINE_ID}/cpu/1")
        assert found[b.MACHINE_ID, "cpu", 1] == 1
        assert found["gpubox-9f9f", "cpu", 8] > 1

    def test_a_thread_count_is_not_the_beginning_of_another(self, results, tmp_path):
        """box/cpu/1 is not box/cpu/16."""
        result = call(results, "-o", tmp_path / "x.md", "--relative-to", "gpubox-9f9f/cpu/1")
        assert getattr(result.exception, "exit_code", None) == ExitCode.UNFIT
        assert "gpubox-9f9f/cpu/8" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "x.pdf"], "choose FILE.html"),
        (["-o", "x.html", "--into", "README.md"], "--into README.md links to the charts of a folder"),
        (["-o", "x.html", "--price-per-hour", "free"], "'free' is not a price"),
        (["-o", "x.html", "--price-per-hour", "box=-1"], "'-1' is not a price"),
        (["-o", "x.html", "--price-per-hour", "nan"], "'nan' is not a price"),
        (["-o", "x.html", "--template", "compare"], "takes two sides, BASE and NEW; 1 given"),
        (["-o", "x.html", "--machine", "nosuch"], "no such machine"),
        (["-o", "x.html", "--relative-to", "nosuch"], "no row of that machine and device"),
    ],
)
def test_a_mistake_is_one_clear_error_and_nothing_is_written(results, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text(MARKED)
    result = call(results, *arguments)
    assert said in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_without_an_output_it_writes_a_page_of_that_name(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done(results, "--template", "lecture", "--static")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_page_is_opened_in_the_browser_once_it_is_written(results, tmp_path, monkeypatch):
    """A folder's index too; where there is no browser it says where the page is."""
    opened = []

    def browse(address):
        path = Path(address.removeprefix("file://"))
        opened.append((path.name, path.read_text(encoding="utf-8")[:15]))
        return len(opened) == 1

    monkeypatch.setattr("webbrowser.open", browse)
    monkeypatch.chdir(tmp_path)
    lecture = (results, "--template", "lecture", "--static", "--open", "-o")
    assert "no browser" not in done(*lecture, "page.html").output
    assert "open folder/index.html yourself" in done(*lecture, "folder").output
    assert opened == [("page.html", "<!DOCTYPE html>"), ("index.html", "<!DOCTYPE html>")]


@pytest.mark.parametrize(
    ("more", "said"), [(["-o", "x.md"], "x.md is no HTML page"), (["--check"], "--check writes nothing")]
)
def test_what_is_no_page_cannot_be_opened(results, more, said):
    assert said in str(call(results, "--open", *more).exception)


def test_a_place_that_cannot_be_written_is_named(results, tmp_path):
    (tmp_path / "file").write_text("")
    result = call(results, "-o", tmp_path / "file" / "x.html")
    assert "cannot write" in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_published_rows_alone_make_a_page(tmp_path):
    from cnnbench import store

    done(store.find_published_dir(), "-o", tmp_path / "x.html", "--static")
    assert "Nothing was measured here" in (tmp_path / "x.html").read_text()


def test_two_sides_make_a_page_of_ratios(results, tmp_path):
    base, new = results / b.MACHINE_ID, results / "gpubox-9f9f"
    done(base, new, "-o", tmp_path / "x.html", "--template", "compare", "--static")
    text = (tmp_path / "x.html").read_text()
    assert "FASTER" in text
    assert "differs" in text


def test_a_report_needs_no_torch_and_no_network(results, tmp_path):
    code = (
        "import socket, sys; socket.socket.connect = lambda *_: sys.exit('asked for a network');"
        "from cnnbench.cli.main import run_cli; code = run_cli(sys.argv[1:]);"
        "sys.exit('torch was imported' if 'torch' in sys.modules else code)"
    )
    command = [sys.executable, "-c", code, "report", str(results), "-o", str(tmp_path / "x.html")]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "x.html").stat().st_size < 3_000_000
