"""The tables as LaTeX: what pdflatex makes of them fits the page and has every figure; what must not run does not."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import builders as b
import pytest
from table_builders import a_bit_of_everything, report

from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
from cnnbench.report.render import latex

DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx,pdflscape}
\begin{document}
\input{tables}
\end{document}
"""
needs_pdflatex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def compiled(directory: Path, source: str) -> str:
    """The log of pdflatex on a document with nothing but the packages that the file's first lines ask for."""
    (directory / "tables.tex").write_text(source, encoding="utf-8")
    (directory / "document.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "-no-shell-escape", "document.tex"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    return (directory / "document.log").read_text(encoding="utf-8", errors="replace")


def table_of(texts: list[str], *, clock: str = "c", columns: int = 3) -> Report:
    made = tuple(Column(f"c{n}", f"head\n{n}", "s", 1, "left" if n == 0 else "right") for n in range(columns))
    lines = tuple(Line(tuple(Cell(text, details=(text,)) for _ in made)) for text in texts)
    return Report((Table("t", "Title", clock, made, (RowGroup("group", lines),)),), (Note("rule", "a note"),))


def test_every_group_is_a_table_of_booktabs_rules_whose_rows_have_a_cell_a_column() -> None:
    found = report(a_bit_of_everything(), with_references=True)
    source = latex.render(found)
    groups = sum(len(table.groups) for table in found.tables)
    for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}", r"\end{tabular}"):
        assert source.count(rule) == groups
    for spec, body in re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}\n(.*?)\\end\{tabular\}", source, re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(spec)}
    training = found.tables[0]
    assert "{@{}" + "".join(column.align[0] for column in training.columns) + "@{}}" in source
    assert all(column.align == "right" for column in training.columns if column.key in ("job", "speedup", "accuracy"))


def test_every_note_is_an_item_and_the_packages_are_named_first() -> None:
    found = report(a_bit_of_everything())
    source = latex.render(found)
    assert source.count(r"\item ") == len(found.notes)
    assert source.startswith("%")
    assert r"\usepackage{booktabs,graphicx,pdflscape}" in source.split("\n\n")[0]


def test_a_wide_table_lies_and_a_narrow_one_stands() -> None:
    assert r"\begin{landscape}" not in latex.render(table_of(["1.00x"]))
    wide = latex.render(table_of(["1.00x"] * 2, columns=24))
    assert wide.count(r"\begin{landscape}") == wide.count(r"\end{landscape}") == 1


def test_a_long_group_goes_on_in_further_tables_and_loses_no_row() -> None:
    texts = [f"{n}.5x" for n in range(100, 160)]
    source = latex.render(table_of(texts))
    assert source.count("(continued)") == source.count(r"\toprule") - 1 == 6
    assert re.findall(r"(?m)^(\d+\.5x) &", source) == texts


def test_no_clock_is_no_line() -> None:
    assert "Clock: c." in latex.render(table_of(["1"]))
    assert "Clock" not in latex.render(table_of(["1"], clock=""))


def test_a_very_long_name_is_folded_and_a_very_long_word_may_be_divided() -> None:
    found = table_of(["x" * 400], clock="y" * 400)
    lines = latex.render(found).splitlines()
    assert max(len(line) for line in lines if line.endswith(r" \\")) < 3 * (latex.WIDEST + 20)
    clock = next(line for line in lines if "Clock" in line)
    assert clock.count(r"\allowbreak{}") == 9
    assert clock.replace(r"\allowbreak{}", "").count("y" * 400) == 1


@needs_pdflatex
def test_it_compiles_fits_the_page_and_has_the_figures(tmp_path: Path) -> None:
    """No box is too wide or too high by a point, and the text of the PDF has what the table has."""
    found = report(a_bit_of_everything(), with_references=True)
    log = compiled(tmp_path, latex.render(found))
    assert re.findall(r"Overfull \\[hv]box \(([1-9][\d.]*)pt", log) == []
    if shutil.which("pdftotext") is None:
        return
    subprocess.run(["pdftotext", "-layout", "document.pdf"], cwd=tmp_path, check=True)
    seen = (tmp_path / "document.txt").read_text()
    for figure in ("1:45:31", "11.51x", "52 %", "Test CPU 9000", "measured, n=1", "300 MiB", "oom 1 of 2"):
        assert figure in seen


@needs_pdflatex
@pytest.mark.parametrize("columns", [1, 10, 40])
@pytest.mark.parametrize("rows", [0, 1, 60])
def test_a_table_of_any_size_compiles_and_fits(tmp_path: Path, rows: int, columns: int) -> None:
    found = table_of(["0.98–1.04x"] * rows, columns=columns)
    log = compiled(tmp_path, latex.render(found))
    assert re.findall(r"Overfull \\[hv]box \(([1-9][\d.]*)pt", log) == []


@needs_pdflatex
def test_what_a_name_commands_is_set_and_not_done(tmp_path: Path) -> None:
    names = [
        r"\input{/etc/passwd}",
        r"\write18{touch evil}",
        "[x]",
        "*",
        "-- ,, '' ``",
        "".join(map(chr, range(32, 127))),
    ]
    names += ["– — … × ± ≥ ≤ ≈ µ · ° ² ³ √ → − ‘x’ “y” ® ™ © \ufffd", "Çédille ÄÖÜß ñ", "w" * 5000]
    found = table_of(names, clock=" ".join(names))
    log = compiled(tmp_path, latex.render(found))
    assert "/etc/passwd" not in log
    assert not (tmp_path / "evil").exists()


def test_the_same_report_is_the_same_bytes() -> None:
    run = b.ledger(b.repeats(b.cnn_job(), [0.01] * 3))
    assert latex.render(report(run)) == latex.render(report(run))
