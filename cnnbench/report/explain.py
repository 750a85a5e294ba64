"""An explained network in words: tables of its layers and output sides, and the same figures, all of them, for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cnnbench import units
from cnnbench.report.model import Cell, Column, Line, Note, Report, RowGroup, Table
from cnnbench.report.value_table import ValueColumn, count_column, make_line, make_table
from cnnbench.workloads.explanation import ExplainedLayer, Explanation, OutputSide, PretrainedLayer
from cnnbench.workloads.flops import Shape

FORMATS = "markdown, latex or json"
COUNTED = (
    "FLOPs: 2 for each multiply-accumulate of the convolutions and matrix products, and of nothing else; training is the "
    "forward pass, the gradients of the weights and the gradients of the inputs, except that the first layer with weights "
    "needs no gradient of its input."
)
STORED = (
    "Activations: one example's values in float32, the input and what convolutions, pooling and dense layers write; "
    "activation functions and dropout are counted in place."
)


def build(found: Explanation) -> Report:
    """The layers with their totals, how each output side follows, pre-training where there is one, and what is counted."""
    total, name = found.total, found.workload.name
    layers = make_table("layers", f"{name}, layer by layer", _LAYERS, [(found.workload.title, (*found.layers, total))])
    sides = [each for layer in found.layers for each in _label_sides(layer)]
    tables = [
        layers,
        *([make_table("sides", f"{name}, output sides", _SIDES, [(_SIDES_RULE, sides)])] if sides else []),
    ]
    summary = (
        f"{units.count(total.parameters)} parameters: {_kinds(found)}, {units.count(total.parameter_bytes)} bytes in "
    )
    notes = [Note("summary", f"{summary}float32."), Note("rule", COUNTED), Note("rule", STORED)]
    if found.pretraining:
        tables.append(_pretraining(found))
        notes.append(Note("rule", _pretraining_rule(found)))
    return Report(tuple(tables), tuple(notes), document(found), FORMATS)


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


_LABEL: ValueColumn[ExplainedLayer] = (Column("layer", "layer", "", 1, "left"), lambda layer: layer.label)
_FIGURES: Sequence[ValueColumn[ExplainedLayer]] = (
    count_column("activations", "activations", "values", 1),
    count_column("activation_bytes", "bytes of\nactivations", "", 5),
    count_column("weights", "weights", "", 1),
    count_column("biases", "biases", "", 4),
    count_column("parameter_bytes", "bytes of\nparameters", "", 6),
    count_column("forward_flops", "forward", "FLOPs", 2),
    count_column("training_flops", "training", "FLOPs", 3),
)
_LAYERS = (_LABEL, (Column("output", "output", "", 1, "left"), lambda layer: shape_text(layer.output)), *_FIGURES)
_SIDES: Sequence[ValueColumn[tuple[str, OutputSide]]] = (
    (Column("layer", "layer", "", 1, "left"), lambda each: each[0]),
    (Column("i", "i", "", 1), lambda each: str(each[1].input)),
    (Column("f", "f", "", 1), lambda each: str(each[1].filter)),
    (Column("p", "p", "", 1), lambda each: padding_text(each[1])),
    (Column("s", "s", "", 1), lambda each: str(each[1].stride)),
    (Column("o", "o", "", 1), lambda each: str(each[1].output)),
    (Column("worked_out", "worked out", "", 1, "left"), lambda each: fill_formula(each[1])),
)
_SIDES_RULE = (
    "o = floor((i - f + 2p) / s) + 1, or with SAME pooling o = ceil(i / s): input i, filter f, padding p (where two, "
    "left or top and right or bottom), stride s"
)
_PRETRAINED: Sequence[ValueColumn[PretrainedLayer]] = (
    count_column("inputs", "inputs", "values", 2),
    count_column("outputs", "outputs", "values", 2),
    count_column("below_flops", "layers below", "FLOPs", 1),
    count_column("own_flops", "autoencoder", "FLOPs", 1),
    count_column("total_flops", "a step", "FLOPs", 1),
)


def _kinds(found: Explanation) -> str:
    if found.workload.declared is not None:
        return "weights and biases, not told apart in a network of torch modules"
    return f"{units.count(found.total.weights)} weights and {units.count(found.total.biases)} biases"


def _label_sides(layer: ExplainedLayer) -> Iterator[tuple[str, OutputSide]]:
    """Label each of the layer's sides: which of them it is, is said only where they differ."""
    names = ("",) if len(layer.sides) == 1 else (", height", ", width")
    return ((f"{layer.label}{name}", side) for name, side in zip(names, layer.sides, strict=False))


def _pretraining(found: Explanation) -> Table:
    lines = [
        Line((Cell(f"{number}: {layer.label}"), *make_line(_PRETRAINED, layer).cells))
        for number, layer in enumerate(found.pretraining, 1)
    ]
    sums = [sum(getattr(each, name) for each in found.pretraining) for name in ("below_flops", "own_flops")]
    totals = map(Cell, map(units.count, (*sums, found.pretraining_flops)))
    lines.append(Line((Cell("total"), Cell(""), Cell(""), *totals)))
    title = f"{found.workload.name}, pre-training, one example"
    rule = "each hidden layer learns to give back what it is given, before the network above is trained"
    columns = tuple(column for column, _ in (_LABEL, *_PRETRAINED))
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


def document(found: Explanation) -> dict[str, Any]:
    """Every figure of an explained network as one object; keys carry units, shapes are (channels, height, width)."""
    workload = found.workload
    pretraining = workload.pretraining and {
        "epochs": workload.pretraining.epochs,
        "layers": [{"layer": each.label, **_read_counts(_PRETRAINED, each)} for each in found.pretraining],
        "flops_per_example_and_epoch": found.pretraining_flops,
    }
    layers = [
        {
            "layer": layer.label,
            "output_shape": list(layer.output),
            "sides": [side_document(side) for side in layer.sides],
            **_figures(layer),
        }
        for layer in found.layers
    ]
    return {
        **{"workload": workload.name, "version": workload.version, "description": workload.title},
        "counted": [COUNTED, STORED],
        "layers": layers,
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


def _figures(layer: ExplainedLayer) -> dict[str, Any]:
    return _read_counts(_FIGURES, layer) | {"parameters": layer.parameters}


def _read_counts(columns: Sequence[ValueColumn[Any]], value: object) -> dict[str, Any]:
    return {column.key: read(value) for column, read in columns}
