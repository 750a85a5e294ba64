"""A slide's figures beside the right ones: what is printed and what follows from the layers, each mistake with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnbench import units
from cnnbench.report.explain import STORED, shape_text
from cnnbench.report.model import Cell, Column, Group, Line, Note, Report, Table
from cnnbench.workloads.explained import Explained
from cnnbench.workloads.slides import Printed, Slide

SOURCE = '"Machine Learning to Deep Learning_3", 2017'


@dataclass(frozen=True)
class Held:
    """One figure of the slide beside the right one; `printed` is None where the slide has none there."""

    where: str
    what: str
    printed: Printed | None
    right: int

    @property
    def wrong(self) -> Printed | None:
        """What is printed, where it is an erratum."""
        return self.printed if self.printed is not None and self.printed.wrong else None


@dataclass(frozen=True)
class Row:
    """A row of the slide: its activations and its weights (or parameters)."""

    label: str
    activations: Held
    parameters: Held

    @property
    def held(self) -> tuple[Held, Held]:
        """Both."""
        return self.activations, self.parameters


def rows(found: Explained, slide: Slide) -> tuple[Row, ...]:
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


def _row(label: str, slide: Slide, stored: tuple[Printed | None, int], trained: tuple[Printed | None, int]) -> Row:
    return Row(label, Held(label, "activations", *stored), Held(label, slide.counted, *trained))


def errata(found: Sequence[Row]) -> tuple[Held, ...]:
    """The figures that are wrong, in the order of their marks: the first is [1]."""
    return tuple(each for row in found for each in row.held if each.wrong)


def report(found: Explained, slide: Slide, also: Explained | None = None) -> Report:
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
        figures = [text for each in row.held for text in (_text(each.printed), units.count(each.right))]
        marked = " ".join(marks[id(each)] for each in row.held if each.wrong)
        lines.append(Line(tuple(Cell(text) for text in (row.label, *figures, marked))))
    title = f"{found.workload.name}, as the slide prints it and as it is"
    table = Table("slide", title, "", columns, (Group(f"{slide.title} ({SOURCE})", tuple(lines)),))
    return Report((table,), tuple(_notes(every, slide, also)))


def _text(printed: Printed | None) -> str:
    return units.NOT_AVAILABLE if printed is None else printed.text


def _notes(every: Sequence[Row], slide: Slide, also: Explained | None) -> Iterator[Note]:
    for number, each in enumerate(errata(every), 1):
        yield Note("warning", f"[{number}] {_erratum(each)}")
    if any(each.printed is None for row in every for each in row.held):
        yield Note("reference", f"{units.NOT_AVAILABLE}: the slide prints no figure there.")
    if any(each.printed is not None and each.printed.text.endswith("k") for row in every for each in row.held):
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


def _erratum(held: Held) -> str:
    printed = held.wrong
    if printed is None:
        return ""
    value = units.count(printed.value)
    said = printed.text if printed.text == value else f"{printed.text} = {value}"
    off = held.right - printed.value
    direction = "too few" if off > 0 else "too many"
    return (
        f"{held.where}, {held.what}: printed {said}, right {units.count(held.right)} ({units.count(abs(off))} "
        f"{direction}): {printed.reason}."
    )


def document(found: Explained, slide: Slide) -> dict[str, Any]:
    """The slide's figures, printed and right, as one object."""
    return {
        "source": SOURCE,
        "title": slide.title,
        "counted": slide.counted,
        "rows": [
            {"row": row.label, "activations": _held(row.activations), "parameters": _held(row.parameters)}
            for row in rows(found, slide)
        ],
    }


def _held(held: Held) -> dict[str, Any]:
    printed = held.printed
    return {
        "printed": None if printed is None else printed.text,
        "printed_value": None if printed is None else printed.value,
        "right": held.right,
        "erratum": None if held.wrong is None else held.wrong.reason,
    }
