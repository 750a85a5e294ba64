"""Reports of `explain`: a network's layers and output sides, as tables and as JSON; a slide's printed figures beside those that
follow from the layers, with the reason for each mistake; and networks side by side, with accuracy, activations, parameters,
FLOPs and the lecture's conclusion about two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from cnnbench import units
from cnnbench.analysis.metrics import describe_interval
from cnnbench.analysis.tradeoff import QUANTITIES, BestAccuracy, Contender, printed_memory_ratio
from cnnbench.report.model import Cell, Document, Note, Report, Table, make_notes
from cnnbench.report.table_builder import ColumnSpec, TableSpec, build_table, figure, wording
from cnnbench.workloads.base import Loss, Workload
from cnnbench.workloads.explanation import ExplainedLayer, Explanation, OutputSide, PretrainedLayer
from cnnbench.workloads.flops import FLOAT32_BYTES, Shape
from cnnbench.workloads.lecture_slides import (
    ACCURACIES,
    CONCLUSION,
    CONCLUSION_WORKLOADS,
    FIRST_DAY,
    SLIDES,
    PrintedFigure,
    PrintedStatement,
    Slide,
)

FORMATS = "markdown, latex or json"
COUNTED = (
    "FLOPs: 2 for each multiply-accumulate of the convolutions and matrix products, nothing for other operations; training is "
    "the forward pass, the gradients of the weights and the gradients of the inputs, except that the first layer with weights "
    "needs no gradient of its input."
)
STORED = (
    "Activations: one example's values in float32, the input and what convolutions, pooling and dense layers write; "
    "activation functions and dropout are counted in place."
)


def build(found: Explanation) -> Report:
    """Report the layers with totals, the formula of each output side, pre-training if any, and what is counted."""
    total, words = found.total, {"name": found.workload.name}
    tables = [build_table(LAYERS, groups=[(found.workload.title, (*found.layers, total))], words=words)]
    sides = []
    for layer in found.layers:
        which = ("",) if len(layer.sides) == 1 else (", height", ", width")  # named only where they differ
        sides += [LabelledSide(f"{layer.label}{name}", side) for name, side in zip(which, layer.sides, strict=False)]
    if sides:
        tables.append(build_table(SIDES, sides, words=words))
    kinds = f"{units.count(total.weights)} weights and {units.count(total.biases)} biases"
    if found.workload.declared is not None:
        kinds = "weights and biases together: torch modules give no separate counts"
    summary = (
        f"{units.count(total.parameters)} parameters: {kinds}, {units.count(total.parameter_bytes)} bytes in float32."
    )
    notes = [Note("summary", summary), *_explain_loss(found.workload), Note("rule", COUNTED), Note("rule", STORED)]
    if found.pretraining:
        table, note = _explain_pretraining(found)
        tables.append(table)
        notes.append(note)
    return Report(tuple(tables), tuple(notes), document(found), FORMATS)


LOSSES: Mapping[Loss, str] = {
    "squared-error": "Loss: mean squared error, the mean of (o - y)^2 over n examples; its gradient by an output o is "
    "2 (o - y) / n.",
    "binary-cross-entropy": "Loss: cross-entropy of p = 1 / (1 + exp(-o)), the mean of -y log p - (1 - y) log(1 - p) over n "
    "examples; its gradient by an output o is (p - y) / n. Class 1 is chosen where o > 0: o = 0 is the decision boundary.",
}
"""The loss in formulas, for the networks of one output."""


def _explain_loss(workload: Workload) -> Iterable[Note]:
    """Explain the loss of a network of one output, and cite the lecture's contents."""
    if workload.loss in LOSSES:
        yield Note("rule", LOSSES[workload.loss])
    if workload.name in FIRST_DAY:
        yield Note("reference", f'The lecture\'s contents, first day: "{FIRST_DAY[workload.name]}" ({SOURCE}).')


def shape_text(shape: Shape) -> str:
    """Write a shape as the lecture does, height x width x channels: (32, 28, 28) is `28x28x32`."""
    return "x".join(str(side) for side in (*shape[1:], *shape[:1]))


def fill_formula(side: OutputSide) -> str:
    """Fill the numbers into the formula: `floor((5 - 4 + 2*2) / 1) + 1 = 6`, `ceil(7 / 2) = 4`."""
    if side.same:
        return f"ceil({side.input} / {side.stride}) = {side.output}"
    return f"floor(({side.input} - {side.filter} + 2*{side.before}) / {side.stride}) + 1 = {side.output}"


def side_lines(side: OutputSide) -> tuple[str, ...]:
    """Explain an output side in sentences: the formula, SAME's padding, and what the filter never reaches."""
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
    """Write the padding as `1` if it is equal on both sides, else as `0 and 1`: left or top, right or bottom."""
    return str(side.before) if side.before == side.after else f"{side.before} and {side.after}"


class LabelledSide(NamedTuple):
    """A layer's output side; if height and width differ, the label names which one it is."""

    label: str
    side: OutputSide


def count_column(
    key: str, title: str, unit: str, priority: int, text: Callable[[int], str] = units.count
) -> ColumnSpec[Any]:
    """Declare a column of counts; its key is the name of the attribute it shows."""
    return figure(key, title, priority, key, text, unit=unit)


def _count_values(number: int) -> str:
    """Format a layer's width; a total has no width."""
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
        wording("worked_out", "computed", 1, lambda each: fill_formula(each.side)),
    ),
    group=lambda each: (
        "o = floor((i - f + 2p) / s) + 1, or with SAME pooling o = ceil(i / s): input i, filter f, padding p (where two, "
        "left or top and right or bottom), stride s"
    ),
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
    group=lambda each: "each hidden layer learns to reproduce its input, before the network above is trained",
)


def _explain_pretraining(found: Explanation) -> tuple[Table, Note]:
    lines = [replace(layer, label=f"{number}: {layer.label}") for number, layer in enumerate(found.pretraining, 1)]
    below, own = (sum(getattr(each, name) for each in lines) for name in ("below_flops", "own_flops"))
    total = PretrainedLayer("total", 0, 0, below, own)
    epochs = found.workload.pretraining.epochs if found.workload.pretraining else 0
    rule = (
        "Pre-training of a layer with a inputs and h outputs: 10ah FLOPs, encoder and decoder 2ah each forward, the "
        "gradients of both weights and of the code 2ah each; the layers below run forward only. With its "
        f"{epochs} epochs per layer, each example costs {units.count(epochs * found.pretraining_flops)} FLOPs before "
        "training begins."
    )
    return build_table(PRETRAINING, [*lines, total], words={"name": found.workload.name}), Note("rule", rule)


def document(found: Explanation) -> Document:
    """Collect every figure of a network in one object; keys carry units, shapes are (channels, height, width)."""
    workload = found.workload
    pretraining = workload.pretraining and {
        "epochs": workload.pretraining.epochs,
        "layers": [{"layer": each.label, **_read_counts(each, _PRETRAINED)} for each in found.pretraining],
        "flops_per_example_and_epoch": found.pretraining_flops,
    }
    layers = [
        {
            "layer": layer.label,
            "output_shape": list(layer.output),
            "sides": [side_document(side) for side in layer.sides],
            **_read_counts(layer, _FIGURES, "parameters"),
        }
        for layer in found.layers
    ]
    return {
        "workload": workload.name,
        "version": workload.version,
        "description": workload.title,
        "counted": [COUNTED, STORED],
        "layers": layers,
        "total": _read_counts(found.total, _FIGURES, "parameters"),
        "pretraining": pretraining,
    }


def side_document(side: OutputSide) -> Document:
    """Describe one output side with the sizes it follows from."""
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


def _read_counts(counted: object, columns: Iterable[ColumnSpec[Any]], *others: str) -> Document:
    return {name: getattr(counted, name) for name in (*(column.key for column in columns), *others)}


SOURCE = '"Machine Learning to Deep Learning_3", 2017'


@dataclass(frozen=True)
class SlideFigure:
    """One figure of the slide beside the right one; `printed` is None where the slide is blank."""

    where: str
    what: str
    printed: PrintedFigure | None
    right: int

    @property
    def printed_text(self) -> str:
        """The figure as the slide prints it."""
        return units.NOT_AVAILABLE if self.printed is None else self.printed.text

    @property
    def erratum(self) -> str | None:
        """The description of the slide's mistake in this figure; None if it is right."""
        printed = self.printed
        if printed is None or not printed.reason:
            return None
        value, off = units.count(printed.value), self.right - printed.value
        text = printed.text if printed.text == value else f"{printed.text} = {value}"
        return (
            f"{self.where}, {self.what}: printed {text}, right {units.count(self.right)} ({units.count(abs(off))} "
            f"{'too few' if off > 0 else 'too many'}): {printed.reason}."
        )


class SlideRow(NamedTuple):
    """A row of the slide: its activations and its weights (or parameters)."""

    activations: SlideFigure
    parameters: SlideFigure


def list_slide_rows(found: Explanation, slide: Slide) -> list[SlideRow]:
    """List the slide's rows in its order, then its totals: values, and bytes in float32."""
    total = found.total
    layers = (
        (
            f"{row.label} {shape_text(layer.output)}",
            row.activations,
            layer.activations,
            row.parameters,
            layer.parameters,
        )
        for row, layer in zip(slide.rows, found.stored, strict=True)
    )
    rows = (
        *layers,
        ("total", None, total.activations, slide.parameters, total.parameters),
        ("total, bytes", slide.activation_bytes, total.activation_bytes, None, total.parameter_bytes),
    )
    return [
        SlideRow(SlideFigure(where, "activations", stored, written), SlideFigure(where, slide.counted, trained, right))
        for where, stored, written, trained, right in rows
    ]


def build_statement(found: Explanation, printed: PrintedStatement) -> Report:
    """Report what a slide says wrongly in words about the network, beside what is right, with the source."""
    spec = TableSpec[PrintedStatement](
        "slide",
        f"{found.workload.name}, as the slide says and as it is",
        (wording("printed", "printed", 1, "text"), wording("right", "right", 1, "right")),
    )
    table = build_table(spec, groups=[(f"{printed.title} ({SOURCE})", [printed])])
    stated = {"title": printed.title, "printed": printed.text, "right": printed.right, "right_source": printed.source}
    note = Note("reference", f"Right by: {printed.source}.")
    return Report((table,), (note,), {**document(found), "slide": {"source": SOURCE, **stated}}, FORMATS)


def build_slide(found: Explanation, slide: Slide, also: Explanation | None) -> Report:
    """Report the slide as a table, with the reasons below. `also` is the variant of the network on another slide."""
    every = list_slide_rows(found, slide)
    figures = [each for row in every for each in row]
    wrong = [each for each in figures if each.erratum]

    def list_marks(row: SlideRow) -> str:
        return " ".join(f"[{number}]" for number, each in enumerate(wrong, 1) if each in row)

    spec = TableSpec[SlideRow](
        "slide",
        f"{found.workload.name}, as the slide prints it and as it is",
        (
            wording("layer", "layer", 1, "activations.where"),
            figure("activations_printed", "activations", 1, "activations.printed_text", unit="printed"),
            figure("activations", "activations", 1, "activations.right", units.count, unit="right"),
            figure("parameters_printed", slide.counted, 1, "parameters.printed_text", unit="printed"),
            figure("parameters", slide.counted, 1, "parameters.right", units.count, unit="right"),
            wording("erratum", "erratum", 1, list_marks),
        ),
    )
    notes = [Note("warning", f"[{number}] {each.erratum}") for number, each in enumerate(wrong, 1)]
    if any(each.printed is None for each in figures):
        notes.append(Note("reference", f"{units.NOT_AVAILABLE}: the slide prints no figure there."))
    if any(each.printed_text.endswith("k") for each in figures):
        notes.append(Note("reference", "25k and the like are shortened, not wrong."))
    if also is not None:
        dense = [layer for layer in also.stored if layer.label.startswith("dense")]
        last = " and ".join(f"{units.count(layer.parameters)} ({layer.label})" for layer in dense)
        text = (
            f"The architecture slide draws {also.workload.name} instead: its dense layers have {last} {slide.counted}."
        )
        notes.append(Note("reference", text))
    rows = [
        {"row": row.activations.where, **{name: _describe_figure(each) for name, each in row._asdict().items()}}
        for row in every
    ]
    beside = {"source": SOURCE, "title": slide.title, "counted": slide.counted, "rows": rows}
    return Report(
        (build_table(spec, groups=[(f"{slide.title} ({SOURCE})", every)]),),
        (*notes, Note("rule", STORED)),
        {**document(found), "slide": beside},
        FORMATS,
    )


def _describe_figure(figure: SlideFigure) -> Document:
    printed = figure.printed
    return {
        "printed": printed and printed.text,
        "printed_value": printed and printed.value,
        "right": figure.right,
        "erratum": printed and (printed.reason or None),
    }


# Networks side by side.


def build_tradeoff(contenders: Sequence[Contender], missing: Mapping[str, str], problems: Sequence[str] = ()) -> Report:
    """Report the table and its notes, and the same figures as one object, with ratios to the first workload.

    `missing` names for each workload without an accuracy the command that measures one.
    """
    base = contenders[0].workload.name
    table = build_table(TRADEOFF, groups=[(f"per example; below each figure its ratio to {base}'s", contenders)])
    errors = conclusion(contenders)
    wrong = {"printed": CONCLUSION, "printed_memory_ratio": printed_memory_ratio(), "why_wrong": list(errors)}
    counted = (COUNTED, STORED)
    document = {
        "base": base,
        "workloads": [_describe_contender(each, missing) for each in contenders],
        "conclusion": wrong if errors else None,
        "counted": list(counted),
        "problems": list(problems),
    }
    notes = (
        *make_notes("missing", (f"{name}: accuracy {units.NOT_AVAILABLE} ({why})" for name, why in missing.items())),
        *make_notes("problem", problems),
        *make_notes("warning", errors),
        *([_SLIDE] if any(each.workload.name in ACCURACIES for each in contenders) else []),
        *([_BEST] if any(each.best for each in contenders) else []),
        *make_notes("rule", counted),
    )
    return Report((table,), notes, document, FORMATS)


def _ratio_column(name: str, title: str, unit: str, priority: int) -> ColumnSpec[Contender]:
    return figure(
        name,
        title,
        priority,
        lambda each: each.counts[name],
        units.count,
        unit=unit,
        details=lambda each: () if each.is_base else (units.ratio(each.ratios[name]),),
    )


TRADEOFF = TableSpec[Contender](
    "tradeoff",
    "Accuracy against cost",
    (
        wording("workload", "workload", 1, "workload.name"),
        ColumnSpec("accuracy", "accuracy", 1, lambda each: _accuracy(each.best), "best"),
        figure("slide_accuracy", "slide", 4, lambda each: ACCURACIES.get(each.workload.name), unit="printed"),
        _ratio_column("activations", "activations", "values", 1),
        _ratio_column("parameters", "parameters", "values", 1),
        _ratio_column("forward_flops", "forward", "FLOPs", 2),
        _ratio_column("training_flops", "training", "FLOPs", 3),
    ),
)
_SLIDE = Note(
    "reference",
    "The slide's accuracies are as printed. Its 100 % is where the published notebook stops: 200 random test images all "
    "right; that is a rule for stopping, not an accuracy on the 10,000.",
)
_BEST = Note(
    "rule",
    "Accuracy is the best recorded on all test images of MNIST, whatever the batch, optimiser and number of steps; the "
    "interval is Wilson's, for the sampling of test images alone.",
)


def _accuracy(best: BestAccuracy | None) -> Cell:
    if best is None:
        return Cell(units.NOT_AVAILABLE, details=("not measured",))
    interval = describe_interval(best.share, units.percent)
    seen = (f"best of {units.count(best.processes)}", f"{units.count(best.test.after_steps)} steps")
    return Cell(units.percent(best.share.value), details=(*interval, *seen))


def conclusion(contenders: Sequence[Contender]) -> tuple[str, ...]:
    """Correct what the lecture's concluding slide claims about its two networks.

    Empty unless the first contender is the lecture's MLP and its CNN is among the others.
    """
    small, large = CONCLUSION_WORKLOADS
    other = next((each for each in contenders if each.workload.name == large), None)
    memory, parameters = SLIDES[small].activation_bytes, SLIDES[large].parameters
    if contenders[0].workload.name != small or other is None or memory is None:
        return ()
    activations, trained, forward, training = (units.ratio(other.ratios[name]) for name in QUANTITIES)
    return (
        f'The concluding slide says of {large} against {small}: "{CONCLUSION}". The 5 seems to be {parameters.text} / '
        f"{memory.text} = {units.ratio(printed_memory_ratio())}: the CNN's weights in values, some of them forgotten, over "
        "the MLP's memory in bytes, most of it weights. Those are two units, and two different things.",
        f"Rightly, {large} has {activations} the activations and {trained} the parameters of {small}, and takes "
        f"{forward} the FLOPs forward and {training} training.",
    )


def _describe_contender(contender: Contender, missing: Mapping[str, str]) -> Document:
    best, counts, name = contender.best, contender.counts, contender.workload.name
    accuracy = best and {
        "share": best.share.value,
        "low": best.share.low,
        "high": best.share.high,
        "images": best.test.images,
        "after_steps": best.test.after_steps,
        "best_of_processes": best.processes,
        "machine": best.machine_id,
        "run": best.run_id,
    }
    return {
        "workload": name,
        "accuracy": accuracy,
        "accuracy_missing": missing.get(name),
        "slide_accuracy": ACCURACIES.get(name),
        **counts,
        "activation_bytes": FLOAT32_BYTES * counts["activations"],
        "parameter_bytes": FLOAT32_BYTES * counts["parameters"],
        "ratios": dict(contender.ratios),
    }
