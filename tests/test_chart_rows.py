"""Rows and lines of charts can be told apart, and what is left out is said."""

from __future__ import annotations

import altair as alt
import builders as b
import pages_records as records
import pytest
import report_builders
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import axis_labels, keep_different, one_line, series_names
from cnnbench.report.charts.kinds import write_label


def chart(ledgers, key):
    return next(chart for chart in report_builders.page(ledgers).charts if chart.key == key)


@pytest.fixture(scope="module")
def twins():
    """Two machines alike in everything but their id."""
    ledgers = []
    for number, name in enumerate(("left-1111", "right-2222")):
        run = records.Run(b.machine(name, gpus=(records.gpu(records.H100),), **records.EPYC), f"run-{number}")
        for device in run.machine.devices:
            records.measure(run, device, whole=True)
        ledgers.append(run.ledger())
    return report_builders.page(ledgers)


@pytest.mark.parametrize(
    ("key", "field"), [("threads", "series"), ("batches", "series"), ("learning", "series"), ("roofline", "roof")]
)
def test_a_line_is_of_one_machine(twins, key, field):
    """Machines with the same processor have lines of their own, each with its machine's name."""
    found = next(chart for chart in twins.charts if chart.key == key)
    machines = {}
    for datum in found.data:
        machines.setdefault(datum[field], set()).add(datum["machine"])
    assert all(len(names) == 1 and next(iter(names)) in line for line, names in machines.items())


@pytest.mark.parametrize("key", ["speedup", "flops", "speedup-cpu", "ladder", "memory", "energy", "noise"])
def test_rows_of_two_machines_that_read_alike_name_their_machine(twins, key):
    found = next(chart for chart in twins.charts if chart.key == key)
    measured = [datum for datum in found.data if datum["run"] is not None]
    assert measured
    assert all(datum["machine"] in datum["label"].split("\n") for datum in measured)


def test_a_machine_is_not_named_where_nothing_is_alike():
    """Two machines with different processors need no names."""
    found = chart(records.everything(), "energy")
    assert not any(datum["machine"] in datum["label"] for datum in found.data)


def test_a_rung_is_named_by_what_differs():
    """Every rung of the ladder, the input pipeline's too, reads differently, without help of its machine or run."""
    data = chart(records.everything(), "ladder").data
    own = [one_line(datum["label"]) for datum in data if datum["processor"] == "NVIDIA H100 80GB HBM3"]
    assert len(own) == len(set(own)) == 6
    for words in ("dataloader, 2 workers", "tf32", "bf16, nhwc", "bf16, nhwc, tuned"):
        assert any(f"cuda:0, {words}, " in label for label in own)


def test_series_never_share_a_name():
    made = series_names([("a", "b"), ("a", "b"), ("a", ""), ("a", "b")])
    assert made == ["a, b", "a, b (2)", "a", "a, b (3)"]


@given(st.lists(st.integers(0, 5), max_size=40))
def test_the_first_few_are_as_different_as_can_be_and_none_is_lost(kinds):
    items = list(enumerate(kinds))
    found, _ = keep_different(items, lambda item: item[1], len(items))
    assert sorted(found) == items
    first = found[: len(set(kinds))]
    assert len({kind for _, kind in first}) == len(first)


@given(st.floats(1e-9, 1e12), st.floats(1.0, 1e9), st.floats(0, 80), st.floats(0, 80))
def test_a_log_scale_keeps_room_at_both_ends_and_has_a_tick(low, factor, before, after):
    for layout in (theme.WIDE, theme.NARROW):
        scale = theme.log_scale_with_room([low, low * factor], layout.width, before=before + 1, after=after + 1)
        start, end = scale["domain"]
        assert start < low <= low * factor < end
        ticks = theme.log_ticks(scale, layout, layout.width)
        assert ticks
        assert start <= ticks[0] <= ticks[-1] <= end


def test_labels_of_one_chart_have_as_many_lines_as_the_longest_needs():
    short = [("NVIDIA H100", "cuda:0", "150 steps", "")]
    long = [*short, ("NVIDIA H100", "cuda:0, bf16, nhwc, tuned, dataloader, 2 workers", "batch 128, 150 steps", "")]
    apart = [("NVIDIA H100", "cuda:0", "150 steps", "left-1111")]
    lines = {len(names): len(write_label(axis_labels(names), theme.WIDE)) for names in (short, long)}
    assert lines == {1: 2, 2: 3}
    assert len(write_label(axis_labels(apart), theme.WIDE)) == 3


@pytest.mark.parametrize("layout", ["wide", "narrow"])
def test_every_specification_is_valid_vega_lite(layout):
    """By Altair's schema; the legends' layout is Vega's own, of which Vega-Lite's schema says nothing."""
    for chart in report_builders.page(records.everything()).charts:
        spec = dict(getattr(chart, layout))
        config = dict(spec["config"])
        config["legend"] = {name: value for name, value in config["legend"].items() if name != "layout"}
        alt.Chart.from_dict({**spec, "config": config}, validate=True).to_dict(validate=True)


def test_what_is_not_drawn_is_counted():
    """Thirteen kinds of row on three machines of five processors are more than charts have room for."""
    page = report_builders.page(records.many_machines())
    captions = {chart.key: chart.caption for chart in page.charts}
    for key in ("speedup", "flops", "speedup-cpu", "memory", "energy", "roofline", "batches"):
        assert " are drawn; all are in the tables' files." in captions[key], key
