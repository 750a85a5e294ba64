"""A slide's figures beside the right ones: what is printed and what follows from the layers, each mistake with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import units
from cnnbench.report.explain import STORED, shape_text
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
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
        return self.printed if self.printed is not None and self.printed.is_erratum else None


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
    made = [
        _row(f"{printed.label} {shape_text(layer.output)}", slide, (printed.activations, layer.activations),
             (printed.parameters, layer.parameters))
        for printed, layer in zip(slide.rows, found.stored, strict=True)
    ]  # fmt: skip
    total = found.total
    values = _row("total", slide, (None, total.activations), (slide.parameters, total.parameters))
    size = _row("total, bytes", slide, (slide.activation_bytes, total.activation_bytes), (None, total.parameter_bytes))
    return (*made, values, size)


def _row(
    label: str, slide: Slide, stored: tuple[PrintedFigure | None, int], trained: tuple[PrintedFigure | None, int]
) -> SlideRow:
    return SlideRow(label, SlideFigure(label, "activations", *stored), SlideFigure(label, slide.counted, *trained))


def errata(found: Sequence[SlideRow]) -> tuple[SlideFigure, ...]:
    """The figures that are wrong, in the order of their marks: the first is [1]."""
    return tuple(each for row in found for each in row.figures if each.erratum)


def report(found: Explanation, slide: Slide, also: Explanation | None = None) -> Report:
    """The slide as a table, the reasons below. `also`: the variant of the network that another slide draws."""
    every = rows(found, slide)
    marks = {id(each): f"[{number}]" for number, each in enumerate(errata(every), 1)}
    columns = (
        Column("layer", "layer", "", 1, "left"),
        Column("activations_printed", "activations", "printed", 1),
        Column("activations", "activations", "right", 1),
        Column("parameters_printed", slide.counted, "printed", 1),
        Column("parameters", slide.counted, "right", 1),
        Column("erratum", "erratum", "", 1, "left"),
    )
    lines = []
    for row in every:
        figures = [text for each in row.figures for text in (_text(each.printed), units.count(each.right))]
        marked = " ".join(marks[id(each)] for each in row.figures if each.erratum)
        lines.append(Line(tuple(Cell(text) for text in (row.label, *figures, marked))))
    title = f"{found.workload.name}, as the slide prints it and as it is"
    table = Table("slide", title, "", columns, (RowGroup(f"{slide.title} ({SOURCE})", tuple(lines)),))
    return Report((table,), tuple(_notes(every, slide, also)))


def _text(printed: PrintedFigure | None) -> str:
    return units.NOT_AVAILABLE if printed is None else printed.text


def _notes(every: Sequence[SlideRow], slide: Slide, also: Explanation | None) -> Iterator[Note]:
    for number, each in enumerate(errata(every), 1):
        yield Note("warning", f"[{number}] {_erratum(each)}")
    if any(each.printed is None for row in every for each in row.figures):
        yield Note("reference", f"{units.NOT_AVAILABLE}: the slide prints no figure there.")
    if any(each.printed is not None and each.printed.text.endswith("k") for row in every for each in row.figures):
        yield Note("reference", "25k and the like are shortened, not wrong.")
    if also is not None:
        last = " and ".join(
            f"{units.count(layer.parameters)} ({layer.label})"
            for layer in also.stored
            if layer.label.startswith("dense")
        )
        text = (
            f"The architecture slide draws {also.workload.name} instead: its dense layers have {last} {slide.counted}."
        )
        yield Note("reference", text)
    yield Note("rule", STORED)


def _erratum(figure: SlideFigure) -> str:
    printed = figure.erratum
    if printed is None:
        return ""
    value = units.count(printed.value)
    printed_text = printed.text if printed.text == value else f"{printed.text} = {value}"
    off = figure.right - printed.value
    direction = "too few" if off > 0 else "too many"
    return (
        f"{figure.where}, {figure.what}: printed {printed_text}, right {units.count(figure.right)} ({units.count(abs(off))} "
        f"{direction}): {printed.reason}."
    )


def document(found: Explanation, slide: Slide) -> dict[str, Any]:
    """The slide's figures, printed and right, as one object."""
    return {
        "source": SOURCE,
        "title": slide.title,
        "counted": slide.counted,
        "rows": [
            {
                "row": row.label,
                "activations": _figure_document(row.activations),
                "parameters": _figure_document(row.parameters),
            }
            for row in rows(found, slide)
        ],
    }


def _figure_document(held: SlideFigure) -> dict[str, Any]:
    printed = held.printed
    return {
        "printed": None if printed is None else printed.text,
        "printed_value": None if printed is None else printed.value,
        "right": held.right,
        "erratum": None if held.erratum is None else held.erratum.reason,
    }
