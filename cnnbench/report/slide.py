"""A slide's figures beside the right ones: what is printed and what follows from the layers, each mistake with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import units
from cnnbench.report import explain
from cnnbench.report.model import Note, Report
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording
from cnnbench.workloads.explanation import Explanation
from cnnbench.workloads.lecture_slides import PrintedFigure, Slide

SOURCE = '"Machine Learning to Deep Learning_3", 2017'


@dataclass(frozen=True)
class SlideFigure:
    """One figure of the slide beside the right one; `printed` is None where the slide has none there."""

    where: str
    what: str
    printed: PrintedFigure | None
    right: int

    @property
    def erratum(self) -> PrintedFigure | None:
        """The printed figure, if it is an erratum."""
        return self.printed if self.printed is not None and self.printed.reason else None

    @property
    def printed_text(self) -> str:
        """As the slide prints it."""
        return units.NOT_AVAILABLE if self.printed is None else self.printed.text


@dataclass(frozen=True)
class SlideRow:
    """A row of the slide: its activations and its weights (or parameters)."""

    label: str
    activations: SlideFigure
    parameters: SlideFigure

    @property
    def figures(self) -> tuple[SlideFigure, SlideFigure]:
        """Both."""
        return self.activations, self.parameters


def rows(found: Explanation, slide: Slide) -> tuple[SlideRow, ...]:
    """The slide's rows in its order, then its totals: values, and bytes in float32."""
    total = found.total
    printed = [
        _row(f"{row.label} {explain.shape_text(layer.output)}", slide, row.activations, layer.activations,
             row.parameters, layer.parameters)
        for row, layer in zip(slide.rows, found.stored, strict=True)
    ]  # fmt: skip
    values = _row("total", slide, None, total.activations, slide.parameters, total.parameters)
    size = _row("total, bytes", slide, slide.activation_bytes, total.activation_bytes, None, total.parameter_bytes)
    return (*printed, values, size)


def _row(
    label: str, slide: Slide, stored: PrintedFigure | None, activations: int, trained: PrintedFigure | None, right: int
) -> SlideRow:
    activation = SlideFigure(label, "activations", stored, activations)
    return SlideRow(label, activation, SlideFigure(label, slide.counted, trained, right))


def build(found: Explanation, slide: Slide, also: Explanation | None = None) -> Report:
    """The slide as a table, the reasons below. `also`: the variant of the network that another slide draws."""
    every = rows(found, slide)
    figures = [each for row in every for each in row.figures]
    wrong = [each for each in figures if each.erratum]

    def list_marks(row: SlideRow) -> str:
        return " ".join(f"[{number}]" for number, each in enumerate(wrong, 1) if each in row.figures)

    columns: tuple[ColumnSpec[SlideRow], ...] = (
        explain.LABEL,
        figure("activations_printed", "activations", 1, "activations.printed_text", unit="printed"),
        figure("activations", "activations", 1, "activations.right", units.count, unit="right"),
        figure("parameters_printed", slide.counted, 1, "parameters.printed_text", unit="printed"),
        figure("parameters", slide.counted, 1, "parameters.right", units.count, unit="right"),
        wording("erratum", "erratum", 1, list_marks),
    )
    spec = TableSpec[SlideRow]("slide", f"{found.workload.name}, as the slide prints it and as it is", columns)
    table = build_table(spec, groups=[(f"{slide.title} ({SOURCE})", every)])
    document = {**explain.document(found), "slide": _document(every, slide)}
    return Report((table,), tuple(_notes(figures, wrong, slide, also)), document, explain.FORMATS)


def _notes(
    figures: Sequence[SlideFigure], wrong: Sequence[SlideFigure], slide: Slide, also: Explanation | None
) -> Iterator[Note]:
    for number, each in enumerate(wrong, 1):
        yield Note("warning", f"[{number}] {_describe_erratum(each)}")
    if any(each.printed is None for each in figures):
        yield Note("reference", f"{units.NOT_AVAILABLE}: the slide prints no figure there.")
    if any(each.printed_text.endswith("k") for each in figures):
        yield Note("reference", "25k and the like are shortened, not wrong.")
    if also is not None:
        dense = [layer for layer in also.stored if layer.label.startswith("dense")]
        last = " and ".join(f"{units.count(layer.parameters)} ({layer.label})" for layer in dense)
        text = (
            f"The architecture slide draws {also.workload.name} instead: its dense layers have {last} {slide.counted}."
        )
        yield Note("reference", text)
    yield Note("rule", explain.STORED)


def _describe_erratum(figure: SlideFigure) -> str:
    printed = figure.erratum
    if printed is None:
        return ""
    value, off = units.count(printed.value), figure.right - printed.value
    printed_text = printed.text if printed.text == value else f"{printed.text} = {value}"
    direction = "too few" if off > 0 else "too many"
    return (
        f"{figure.where}, {figure.what}: printed {printed_text}, right {units.count(figure.right)} ({units.count(abs(off))} "
        f"{direction}): {printed.reason}."
    )


def _document(every: Sequence[SlideRow], slide: Slide) -> dict[str, Any]:
    """The slide's figures, printed and right, as one object."""
    found = [
        {
            "row": row.label,
            "activations": _figure_document(row.activations),
            "parameters": _figure_document(row.parameters),
        }
        for row in every
    ]
    return {"source": SOURCE, "title": slide.title, "counted": slide.counted, "rows": found}


def _figure_document(held: SlideFigure) -> dict[str, Any]:
    return {
        "printed": held.printed and held.printed.text,
        "printed_value": held.printed and held.printed.value,
        "right": held.right,
        "erratum": held.erratum and held.erratum.reason,
    }
