"""Charts show what the records say: each mark's figures against closed forms, and every picture knows its data."""

from __future__ import annotations

import json
import math
import statistics
import xml.etree.ElementTree as ET

import builders as b
import learning_builders as lb
import pytest
import report_builders
from hypothesis import given
from hypothesis import strategies as st

from cnnbench.report import chart_images
from cnnbench.report.charts import theme
from cnnbench.report.charts.chart_data import axis_labels, one_line
from cnnbench.report.charts.processes import quantiles
from cnnbench.report.charts.rows import compute_needed_bytes


@pytest.fixture(scope="module")
def charts():
    return {chart.key: chart for chart in report_builders.page().charts}


@pytest.fixture(scope="module")
def again():
    """The same charts, made another time."""
    return {chart.key: chart for chart in report_builders.page(report_builders.everything()).charts}


def marks(chart, **fields):
    return [datum for datum in chart.data if all(datum.get(name) == value for name, value in fields.items())]


def test_the_lectures_speed_ups_are_the_quotients_of_its_times(charts):
    published = {datum["processor"]: datum["speedup_over_reference"] for datum in marks(charts["speedup"], run=None)}
    assert published == pytest.approx(
        {"Intel i7-4790K": 1.0, "AWS EC2 K520": 6331 / 1324, "GTX-970": 6331 / 550, "GTX-1080": 6331 / 327}
    )


def test_a_measured_row_stands_beside_them_with_its_interval(charts):
    """6,331 s over the geometric mean step x 42,900; three processes, so an interval."""
    (datum,) = marks(charts["speedup"], machine=b.MACHINE_ID, place="cuda:0", precision="fp32")
    step = statistics.geometric_mean(report_builders.GPU_STEPS)
    assert datum["speedup_over_reference"] == pytest.approx(6331 / (step * 42_900))
    assert datum["speedup_over_reference_low"] < datum["speedup_over_reference"] < datum["speedup_over_reference_high"]
    assert datum["speedup_over_reference_n"] == 3


def test_speed_ups_over_the_cpu_take_the_fastest_cpu_of_the_same_work(charts):
    (datum,) = marks(charts["speedup-cpu"], machine=b.MACHINE_ID, place="cpu, 1 thread")
    ratio = math.exp(
        statistics.fmean(math.log(a / c) for a, c in zip(report_builders.CPU_STEPS, [0.41, 0.42, 0.43], strict=True))
    )
    assert datum["speedup"] == pytest.approx(ratio)


def test_promised_and_achieved_flops_of_the_lecture(charts):
    """lecture.md section 4: 872.8 of 8,990 GFLOP/s."""
    found = {datum["kind"]: datum["flops_per_second"] for datum in marks(charts["flops"], processor="GTX-1080")}
    assert found["printed"] == 8990e9
    assert found["achieved in the job"] == pytest.approx(2.85392665958400e14 / 327)


def test_the_roof_is_the_copy_speed_up_to_the_best_product(charts):
    roof = [
        datum for datum in marks(charts["roofline"], kind="roof") if datum["roof"].startswith("Test CPU 9000, cpu, 8")
    ]
    left, ridge, right = ((datum["intensity_flops_per_byte"], datum["gflops_per_second"]) for datum in roof)
    peak = 2 * 2048**3 / statistics.geometric_mean([0.0913, 0.0955, 0.0921]) / 1e9
    assert ridge[1] == right[1] == pytest.approx(peak)
    assert ridge[1] / ridge[0] == pytest.approx(report_builders.FLOORS["copy_bytes_per_second"] / 1e9)
    assert left[1] / left[0] == pytest.approx(ridge[1] / ridge[0])


def test_a_products_intensity_is_its_side_over_six_in_float32(charts):
    """2 n^3 FLOP over 3 n^2 values of 4 bytes."""
    (datum,) = marks(charts["roofline"], name="gemm 2,048")
    assert datum["intensity_flops_per_byte"] == pytest.approx(2048 / 6)


def test_no_training_step_stands_above_its_roof(charts):
    for datum in marks(charts["roofline"], kind="training step"):
        roof = max(d["gflops_per_second"] for d in marks(charts["roofline"], kind="roof", roof=datum["roof"]))
        assert datum["gflops_per_second"] <= roof


def test_memory_stands_beside_what_the_layers_need(charts):
    """227,116 bytes of activations an image (lecture.md), and 1,378,698 parameters three times."""
    found = {
        d["kind"]: d["bytes"] for d in marks(charts["memory"], machine=b.MACHINE_ID, place="cuda:0", precision="fp32")
    }
    assert found == {
        "measured high-water mark": 300 * 2**20,
        "analytic: what the layers need": 128 * 227_116 + 3 * 4 * 1_378_698,
    }


@pytest.mark.parametrize(("optimizer", "copies"), [("sgd", 2), ("momentum", 3), ("adam", 4)])
def test_memory_is_that_of_the_rows_own_optimiser(optimizer, copies):
    """Weights, gradients, and what the rule keeps of each weight."""
    row = lb.rows_of([b.record(b.cnn_job(optimizer=optimizer))])[0]
    assert compute_needed_bytes(row) == 128 * 227_116 + copies * 4 * 1_378_698


def test_the_learning_curve_runs_on_the_jobs_own_clock(charts):
    first, *_, last = marks(charts["learning"], kind="sample after an epoch")
    assert first["minutes"] == pytest.approx((429 * 0.0655 + 0.05) / 60)
    assert last["minutes"] == pytest.approx(100 * (429 * 0.0655 + 0.05) / 60)
    (final,) = marks(charts["learning"], kind="all test images at the end")
    assert (final["images"], final["accuracy"]) == (10_000, 0.97)


def test_perfect_scaling_is_the_smallest_counts_rate_times_the_threads(charts):
    one, eight = sorted(charts["threads"].data, key=lambda datum: datum["varied"])
    assert (one["varied"], eight["varied"]) == (1, 8)
    assert eight["ideal"] == pytest.approx(8 * one["images_per_second"])


def test_rungs_differ_in_nothing_but_how_the_step_is_computed(charts):
    rungs = {datum["rung"] for datum in charts["ladder"].data}
    assert rungs == {"reference, fp32, nchw, eager, resident", "reference, bf16, nchw, eager, resident"}


def test_block_percentiles_are_against_the_rows_mean(charts):
    """All blocks of a process take the same time here, so its three percentiles are its step over the row's mean."""
    mean = statistics.geometric_mean(report_builders.CPU_STEPS)
    own = [d for d in marks(charts["noise"], machine=b.MACHINE_ID, place="cpu, 8 threads") if "15 blocks" in d["work"]]
    own = [datum for datum in own if "batch 128" in datum["work"]]
    for name in ("block_p05", "block_p50", "block_p95"):
        assert [datum[name] for datum in own] == pytest.approx([step / mean for step in report_builders.CPU_STEPS])


@given(st.lists(st.floats(1e-6, 1e3), min_size=2, max_size=200))
def test_percentiles_are_in_order_and_within_the_values(values):
    low, middle, high = quantiles(values)
    slack = 1e-12 * max(values)  # rounding of the interpolation
    assert min(values) - slack <= low <= middle + slack <= high + 2 * slack <= max(values) + 3 * slack
    assert middle == pytest.approx(statistics.median(values))


@given(st.floats(1e-6, 1e12), st.floats(1.0, 1e9))
def test_log_ticks_lie_within_the_scale_in_order_and_fit(low, factor):
    for layout in (theme.WIDE, theme.NARROW):
        scale = theme.log_scale([low, low * factor], below=2.6, above=2.6)
        ticks = theme.log_ticks(scale, layout)
        assert 1 <= len(ticks) <= 12
        assert ticks == sorted(set(ticks))
        assert scale["domain"][0] <= ticks[0] <= ticks[-1] <= scale["domain"][1]


def test_machines_with_the_same_processor_have_lines_of_their_own():
    """Perfect scaling is from each machine's own smallest count, and no line joins the points of two machines."""
    ledgers = [
        b.ledger(
            [
                *b.repeats(b.cnn_job(threads=1), [0.4 * slower] * 3),
                *b.repeats(b.cnn_job(threads=2), [0.25] * 3, start=3),
                b.record(b.lecture_job(), 0.06, index=6, epoch_evaluations=report_builders.curve(100, 429)),
            ],
            run_id=f"2026030{slower}T120000Z-0001",
            machine=b.machine(f"box-{slower}"),
        )
        for slower in (1, 2)
    ]
    charts = {chart.key: chart for chart in report_builders.page(ledgers).charts}
    for key in ("threads", "learning"):
        owners = {(datum["series"], datum["machine"]) for datum in charts[key].data}
        assert len(owners) == len({series for series, _ in owners}) == 2
    for name in {datum["series"] for datum in charts["threads"].data}:
        one, two = sorted(marks(charts["threads"], series=name), key=lambda datum: datum["varied"])
        assert two["ideal"] == pytest.approx(2 * one["images_per_second"])


def test_rows_that_read_alike_keep_places_of_their_own():
    made = axis_labels([("a", "b"), ("a", "b"), ("a", "c")])
    assert len(set(made)) == 3
    assert [one_line(label) for label in made] == ["a, b", "a, b", "a, c"]


@pytest.mark.parametrize("key", [chart.key for chart in report_builders.page().charts])
class TestPictures:
    """Each picture carries its data and the digest of it, in both forms, and is well-formed."""

    def test_an_svg_says_what_it_shows(self, charts, key):
        chart = charts[key]
        picture = chart_images.svg(chart)
        root = ET.fromstring(picture)
        space = "{http://www.w3.org/2000/svg}"
        assert root.find(f"{space}title").text == chart.title
        assert root.find(f"{space}desc").text == chart.alt
        stored = json.loads(root.find(f"{space}metadata").text)
        assert stored["rows"] == [dict(datum) for datum in chart.data]
        assert stored["sha256"] == chart_images.data_digest(chart) == chart_images.stored_digest(picture)

    def test_no_word_is_drawn_in_a_colour_that_the_dark_page_does_not_know(self, charts, key):
        root = ET.fromstring(chart_images.svg(charts[key]))
        fills = {each.get("fill") for each in root.iter("{http://www.w3.org/2000/svg}text")}
        assert fills <= set(theme.DARK)

    def test_a_png_carries_the_same_digest(self, charts, key):
        assert chart_images.stored_digest(chart_images.png(charts[key])) == chart_images.data_digest(charts[key])

    def test_its_specification_is_always_the_same(self, charts, again, key):
        assert chart_images.specification(again[key]) == chart_images.specification(charts[key])


def test_small_ticks_are_drawn_as_they_are():
    """Coordinates are rounded to a thousandth of a pixel, figures are not."""
    import vl_convert

    frugal = b.repeats(
        b.cnn_job(device="cuda:0"), [0.0005] * 3, energy=report_builders.energy(2e-5)
    )  # 0.04 mJ an image
    page = report_builders.page([b.ledger(frugal, machine=b.machine(gpus=[b.GPU]))])
    chart = next(chart for chart in page.charts if chart.key == "energy")
    for layout in (chart.wide, chart.narrow):
        drawn = chart_images.inline_svg(chart, narrow=layout is chart.narrow)
        texts = {"".join(each.itertext()) for each in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")}
        raw = ET.fromstring(vl_convert.vegalite_to_svg(dict(layout)))
        assert texts == {"".join(each.itertext()) for each in raw.iter("{http://www.w3.org/2000/svg}text")}
        assert "0.00005" in texts


def test_small_values_are_drawn_in_full():
    """Places in a drawing are rounded to a thousandth of a pixel; the words in it are not places."""
    page = report_builders.page(baseline="gpubox-9f9f/cuda:0")
    chart = next(chart for chart in page.charts if chart.key == "speedup-cpu")
    texts = [datum["text"] for datum in chart.data]
    assert "0.0074x" in texts
    for narrow in (False, True):
        drawn = [each.text for each in ET.fromstring(chart_images.inline_svg(chart, narrow=narrow)).iter() if each.text]
        assert [text for text in texts if text not in drawn] == []


def test_one_changed_figure_changes_the_digest(charts):
    import dataclasses

    chart = charts["speedup"]
    changed = ({**chart.data[0], "speedup_over_reference": 1.0000001}, *chart.data[1:])
    assert chart_images.data_digest(dataclasses.replace(chart, data=changed)) != chart_images.data_digest(chart)


def test_a_picture_of_somebody_else_has_no_digest():
    assert chart_images.stored_digest("<svg/>") is None
    assert chart_images.stored_digest(b"\x89PNG") is None
