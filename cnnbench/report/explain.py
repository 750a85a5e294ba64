"""An explained network in words: tables of its layers and output sides, or of a slide's figures beside the right ones.

`build` and `on_slide` make a report, which `render` writes as text; `document` has the same figures, all of them, for
JSON. Only `render` loads what a format needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from cnnbench import __version__, units
from cnnbench.report import escaping
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
from cnnbench.workloads.explanation import ExplainedLayer, Explanation, OutputSide, PretrainedLayer
from cnnbench.workloads.flops import Shape

ExplainFormat = Literal["table", "markdown", "json", "latex"]

COUNTED = (
    "FLOPs: 2 for each multiply-accumulate of the convolutions and matrix products, and of nothing else; training is the "
    "forward pass, the gradients of the weights and the gradients of the inputs, except that the first layer with weights "
    "needs no gradient of its input."
)
STORED = (
    "Activations: one example's values in float32, the input and what convolutions, pooling and dense layers write; "
    "activation functions and dropout are counted in place."
)


def render(
    report: Report, document: object, format: ExplainFormat, *, width: int | None = None, color: bool = False
) -> str:
    """The report as text, or the document as JSON; ending in a newline. `width` and `color` are for `table`."""
    if format == "json":
        return escaping.as_json(document, indent=2) + "\n"
    if format == "markdown":
        return "\n".join(_markdown(report)) + "\n"
    from cnnbench.report.render import latex, terminal

    if format == "latex":
        return latex.render(report)
    return terminal.render(report, width=width, color=color, others="markdown, latex or json")


def _markdown(report: Report) -> list[str]:
    """Without the digest that pages of results end in: there is nothing measured to derive it from."""
    from cnnbench.report.render import text

    parts: list[str] = []
    for table in report.tables:
        parts += [f"## {escaping.markdown(table.title)}", "", *text.markdown_groups(table)]
    return parts + [f"- {escaping.markdown(note.text)}" for note in report.notes]


def build(found: Explanation) -> Report:
    """The layers with their totals, how each output side follows, pre-training where there is one, and what is counted."""
    total, name = found.total, found.workload.name
    tables = [_layers(found)]
    with_sides = [layer for layer in found.layers if layer.sides]
    if with_sides:
        tables.append(_sides(name, with_sides))
    notes = [
        Note(
            "summary",
            f"{units.count(total.parameters)} parameters: {_kinds(found)}, {units.count(total.parameter_bytes)} bytes in "
            "float32.",
        ),
        Note("rule", COUNTED),
        Note("rule", STORED),
    ]
    if found.pretraining:
        tables.append(_pretraining(found))
        notes.append(Note("rule", _pretraining_rule(found)))
    return Report(tuple(tables), tuple(notes))


def shape_text(shape: Shape) -> str:
    """As the lecture writes it, height x width x channels: (32, 28, 28) is `28x28x32`."""
    return "x".join(str(side) for side in (*shape[1:], *shape[:1]))


def fill_formula(side: OutputSide) -> str:
    """The formula with the numbers in it: `floor((5 - 4 + 2*2) / 1) + 1 = 6`, `ceil(7 / 2) = 4`."""
    if side.same:
        return f"ceil({side.input} / {side.stride}) = {side.output}"
    return f"floor(({side.input} - {side.filter} + 2*{side.before}) / {side.stride}) + 1 = {side.output}"


def side_lines(side: OutputSide) -> tuple[str, ...]:
    """How the side follows, in sentences: the formula, SAME's padding, and what the filter never reaches."""
    padded = side.before + side.input + side.after
    lines = [f"o = floor((i - f + 2p) / s) + 1 = {fill_formula(side)}"]
    if side.same:
        lines = [
            f"o = ceil(i / s) = {fill_formula(side)}",
            f"padding max((o - 1)*s + f - i, 0) = max(({side.output} - 1)*{side.stride} + {side.filter} - {side.input}, 0) "
            f"= {side.before + side.after}: {side.before} on the left and top, {side.after} on the right and bottom",
        ]
    if side.unreached:
        lines.append(f"the filter never reaches the last {side.unreached} of the padded input's {padded}")
    return tuple(lines)


def padding_text(side: OutputSide) -> str:
    """`1` where it is the same on both sides, else `0 and 1`: left or top, right or bottom."""
    return str(side.before) if side.before == side.after else f"{side.before} and {side.after}"


_LAYER = Column("layer", "layer", "", 1, "left")
_FIGURES: Sequence[tuple[Column, Callable[[ExplainedLayer], int]]] = (
    (Column("activations", "activations", "values", 1), lambda layer: layer.activations),
    (Column("activation_bytes", "bytes of\nactivations", "", 5), lambda layer: layer.activation_bytes),
    (Column("weights", "weights", "", 1), lambda layer: layer.weights),
    (Column("biases", "biases", "", 4), lambda layer: layer.biases),
    (Column("parameter_bytes", "bytes of\nparameters", "", 6), lambda layer: layer.parameter_bytes),
    (Column("forward_flops", "forward", "FLOPs", 2), lambda layer: layer.forward_flops),
    (Column("training_flops", "training", "FLOPs", 3), lambda layer: layer.training_flops),
)


def _kinds(found: Explanation) -> str:
    if found.workload.declared is not None:
        return "weights and biases, not told apart in a network of torch modules"
    return f"{units.count(found.total.weights)} weights and {units.count(found.total.biases)} biases"


def _layers(found: Explanation) -> Table:
    columns = (_LAYER, Column("output", "output", "", 1, "left"), *(column for column, _ in _FIGURES))
    lines = [
        Line((Cell(layer.label), Cell(shape_text(layer.output)), *(_count(of(layer)) for _, of in _FIGURES)))
        for layer in (*found.layers, found.total)
    ]
    name = found.workload.name
    return Table("layers", f"{name}, layer by layer", "", columns, (RowGroup(found.workload.title, tuple(lines)),))


def _sides(name: str, layers: Sequence[ExplainedLayer]) -> Table:
    columns = (
        _LAYER,
        *(Column(key, key, "", 1) for key in ("i", "f", "p", "s", "o")),
        Column("worked_out", "worked out", "", 1, "left"),
    )
    lines = [
        Line(tuple(map(Cell, (label, *_numbers(side), fill_formula(side)))))
        for layer in layers
        for label, side in zip(_labels(layer), layer.sides, strict=True)
    ]
    rule = (
        "o = floor((i - f + 2p) / s) + 1, or with SAME pooling o = ceil(i / s): input i, filter f, padding p (where two, "
        "left or top and right or bottom), stride s"
    )
    return Table("sides", f"{name}, output sides", "", columns, (RowGroup(rule, tuple(lines)),))


def _labels(layer: ExplainedLayer) -> tuple[str, ...]:
    """The layer's label for each of its sides: which of them it is is said only where they differ."""
    if len(layer.sides) == 1:
        return (layer.label,)
    return (f"{layer.label}, height", f"{layer.label}, width")


def _numbers(side: OutputSide) -> tuple[str, ...]:
    """i, f, p, s and o."""
    return (str(side.input), str(side.filter), padding_text(side), str(side.stride), str(side.output))


def _pretraining(found: Explanation) -> Table:
    columns = (
        _LAYER,
        *(Column(key, key, "values", 2) for key in ("inputs", "outputs")),
        Column("below_flops", "layers below", "FLOPs", 1),
        Column("own_flops", "autoencoder", "FLOPs", 1),
        Column("total_flops", "a step", "FLOPs", 1),
    )
    lines = [
        Line(
            (
                Cell(f"{number}: {layer.label}"),
                *map(_count, (layer.inputs, layer.outputs, layer.below_flops, layer.own_flops, layer.total_flops)),
            )
        )
        for number, layer in enumerate(found.pretraining, 1)
    ]
    blank = Cell("")
    below, own = (sum(getattr(each, name) for each in found.pretraining) for name in ("below_flops", "own_flops"))
    lines.append(Line((Cell("total"), blank, blank, _count(below), _count(own), _count(found.pretraining_flops))))
    title = f"{found.workload.name}, pre-training, one example"
    rule = "each hidden layer learns to give back what it is given, before the network above is trained"
    return Table("pretraining", title, "", columns, (RowGroup(rule, tuple(lines)),))


def _pretraining_rule(found: Explanation) -> str:
    choice = found.workload.pretraining
    epochs = 0 if choice is None else choice.epochs
    return (
        "Pre-training of a layer with a inputs and h outputs: 10ah FLOPs, encoder and decoder 2ah each forward, the "
        "gradients of both weights and of the code 2ah each; the layers below run forward only. With its "
        f"{epochs} epochs a layer, each example costs {units.count(epochs * found.pretraining_flops)} FLOPs before "
        "training begins."
    )


def _count(value: int) -> Cell:
    return Cell(units.count(value))


def document(found: Explanation) -> dict[str, Any]:
    """Every figure of an explained network as one object; keys carry units, shapes are (channels, height, width)."""
    workload = found.workload
    pretraining = None
    if workload.pretraining is not None:
        pretraining = {
            "epochs": workload.pretraining.epochs,
            "layers": [_pretrained(layer) for layer in found.pretraining],
            "flops_per_example_and_epoch": found.pretraining_flops,
        }
    return {
        "cnnbench": __version__,
        "workload": workload.name,
        "version": workload.version,
        "description": workload.title,
        "counted": [COUNTED, STORED],
        "layers": [
            {
                "layer": layer.label,
                "output_shape": list(layer.output),
                "sides": [side_document(side) for side in layer.sides],
                **_figures(layer),
            }
            for layer in found.layers
        ],
        "total": _figures(found.total),
        "pretraining": pretraining,
    }


def side_document(side: OutputSide) -> dict[str, Any]:
    """One output side with what it follows from."""
    return {
        "input": side.input,
        "filter": side.filter,
        "stride": side.stride,
        "padding_before": side.before,
        "padding_after": side.after,
        "same": side.same,
        "output": side.output,
        "unseen": side.unreached,
        "worked_out": fill_formula(side),
    }


def _figures(layer: ExplainedLayer) -> dict[str, int]:
    found = {column.key: of(layer) for column, of in _FIGURES}
    return found | {"parameters": layer.parameters}


def _pretrained(layer: PretrainedLayer) -> dict[str, Any]:
    return {
        "layer": layer.label,
        "inputs": layer.inputs,
        "outputs": layer.outputs,
        "below_flops": layer.below_flops,
        "own_flops": layer.own_flops,
        "total_flops": layer.total_flops,
    }
