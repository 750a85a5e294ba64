"""An explained network in words: tables of its layers and output sides, and the same figures, all of them, for JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cnnbench import units
from cnnbench.report.model import Note, Report, Table
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording
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
    tables = [build_table(LAYERS, groups=[(found.workload.title, (*found.layers, total))], words={"name": name})]
    if sides := [each for layer in found.layers for each in _label_sides(layer)]:
        tables.append(build_table(SIDES, sides, words={"name": name}))
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


class LabelledSide(NamedTuple):
    """A layer's output side; the label says which of two where they differ."""

    label: str
    side: OutputSide


def count_column(
    key: str, title: str, unit: str, priority: int, text: Callable[[int], str] = units.count
) -> ColumnSpec[Any]:
    """Declare a column of the counts that have its key as their name."""
    return figure(key, title, priority, key, text, unit=unit)


def _count_values(number: int) -> str:
    """Format a width; a total has none."""
    return units.count(number) if number else ""


LABEL: ColumnSpec[Any] = wording("layer", "layer", 1, "label")
_FIGURES = (
    count_column("activations", "activations", "values", 1),
    count_column("activation_bytes", "bytes of\nactivations", "", 5),
    count_column("weights", "weights", "", 1),
    count_column("biases", "biases", "", 4),
    count_column("parameter_bytes", "bytes of\nparameters", "", 6),
    count_column("forward_flops", "forward", "FLOPs", 2),
    count_column("training_flops", "training", "FLOPs", 3),
)
LAYERS = TableSpec[ExplainedLayer](
    "layers",
    "{name}, layer by layer",
    (LABEL, wording("output", "output", 1, lambda layer: shape_text(layer.output)), *_FIGURES),
)
_SIDES_RULE = (
    "o = floor((i - f + 2p) / s) + 1, or with SAME pooling o = ceil(i / s): input i, filter f, padding p (where two, "
    "left or top and right or bottom), stride s"
)
SIDES = TableSpec[LabelledSide](
    "sides",
    "{name}, output sides",
    (
        LABEL,
        figure("i", "i", 1, "side.input"),
        figure("f", "f", 1, "side.filter"),
        figure("p", "p", 1, lambda each: padding_text(each.side)),
        figure("s", "s", 1, "side.stride"),
        figure("o", "o", 1, "side.output"),
        wording("worked_out", "worked out", 1, lambda each: fill_formula(each.side)),
    ),
    group=lambda each: _SIDES_RULE,
)
_PRETRAINED = (
    count_column("inputs", "inputs", "values", 2, _count_values),
    count_column("outputs", "outputs", "values", 2, _count_values),
    count_column("below_flops", "layers below", "FLOPs", 1),
    count_column("own_flops", "autoencoder", "FLOPs", 1),
    count_column("total_flops", "a step", "FLOPs", 1),
)
PRETRAINING = TableSpec[PretrainedLayer](
    "pretraining",
    "{name}, pre-training, one example",
    (LABEL, *_PRETRAINED),
    group=lambda each: "each hidden layer learns to give back what it is given, before the network above is trained",
)


def _kinds(found: Explanation) -> str:
    if found.workload.declared is not None:
        return "weights and biases, not told apart in a network of torch modules"
    return f"{units.count(found.total.weights)} weights and {units.count(found.total.biases)} biases"


def _label_sides(layer: ExplainedLayer) -> Iterator[LabelledSide]:
    """Label each of the layer's sides: which of them it is, is said only where they differ."""
    names = ("",) if len(layer.sides) == 1 else (", height", ", width")
    return (LabelledSide(f"{layer.label}{name}", side) for name, side in zip(names, layer.sides, strict=False))


def _pretraining(found: Explanation) -> Table:
    lines = [replace(layer, label=f"{number}: {layer.label}") for number, layer in enumerate(found.pretraining, 1)]
    below, own = (sum(getattr(each, name) for each in lines) for name in ("below_flops", "own_flops"))
    lines.append(PretrainedLayer("total", 0, 0, below, own))
    return build_table(PRETRAINING, lines, words={"name": found.workload.name})


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


def _read_counts(columns: Sequence[ColumnSpec[Any]], value: object) -> dict[str, Any]:
    return {column.key: getattr(value, column.key) for column in columns}
