"""Charts of the regression check: marks are the verdict's figures, and decisions stand in words too."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest
import verdict_builders
from false_alarm_chart import draw_false_alarms
from false_alarm_page import from_json
from hypothesis import given
from hypothesis import strategies as st
from verdict_builders import replay_decision

from cnnbench.regression.decision import MetricSeries
from cnnbench.regression.design import CheckPlan, compute_detectable_effect, make_check_plan
from cnnbench.report import chart_images
from cnnbench.report.charts import theme
from cnnbench.report.charts.check import CONTROL, draw_detectable_effect, draw_forest, ratio_ticks

PLAN = CheckPlan()
MIXED, META = verdict_builders.mixed(), verdict_builders.meta()
SPREADS = {"a": 0.01, "b": 0.03}
STUDY, _ = from_json((Path(__file__).parents[1] / "docs" / "studies" / "false-alarms.json").read_text(encoding="utf-8"))
CHARTS = {
    "forest": draw_forest(MIXED, META),
    "mde": draw_detectable_effect(SPREADS, PLAN),
    "study": draw_false_alarms(STUDY),
}


def words(svg):
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_each_series_has_its_ratio_interval_control_and_what_would_be_found():
    data = CHARTS["forest"].data
    for finding in MIXED.findings:
        label = finding.series.label
        own = {
            datum["kind"]: datum
            for datum in data
            if datum["series"].removesuffix(" (advisory)") == label
            and datum["series"].endswith(" (advisory)") != finding.series.gated
        }
        mark = own[finding.decision.value.upper()]
        assert mark["ratio"] == math.exp(finding.estimate)
        assert (mark["ratio_low"], mark["ratio_high"]) == (math.exp(finding.low), math.exp(finding.high))
        assert own["would be found in 80 % of checks"]["ratio"] == math.exp(finding.detectable)
        assert (CONTROL in own) == (finding.series.job in META.controls)


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_a_decision_is_written_and_not_only_coloured(narrow):
    said = " ".join(words(chart_images.inline_svg(CHARTS["forest"], narrow=narrow)))
    for finding in MIXED.findings:
        assert finding.decision.value.upper() in said
    assert "+9.0 % [8.6, 9.4]" in said


def test_decisions_differ_in_shape_too():
    layers = CHARTS["forest"].wide["layer"]
    shapes = next(layer["encoding"]["shape"]["scale"]["range"] for layer in layers if "shape" in layer["encoding"])
    assert len(set(shapes)) == len(shapes) >= 6


def test_the_band_is_the_tolerance_either_way():
    shade = next(layer for layer in CHARTS["forest"].wide["layer"] if layer["mark"]["type"] == "rect")
    assert shade["encoding"]["x"]["datum"] == pytest.approx(1 / 1.05)
    assert shade["encoding"]["x2"]["datum"] == pytest.approx(1.05)


def test_of_many_series_the_slowest_are_drawn_and_the_caption_says_so():
    jobs = {MetricSeries(f"job {n}"): verdict_builders.differences(1 - n / 1000) for n in range(60)}
    chart = draw_forest(replay_decision(jobs, {}, PLAN), META)
    drawn = {datum["series"] for datum in chart.data}
    assert len(drawn) == 40
    assert {"job 0", "job 38"} <= drawn
    assert "The slowest 40 of 61 series" in chart.caption


@pytest.mark.parametrize("name", ["a\nb", "\x00\x1b[2J\ud800", "</svg><script>", "'; x", "x" * 3000, ""])
def test_a_name_is_only_drawn(name):
    verdict = verdict_builders.mixed((name, "fast", "noisy", "same"))
    picture = chart_images.svg(draw_forest(verdict, verdict_builders.meta(title=name, head=name)))
    tags = {each.tag.rpartition("}")[2] for each in ET.fromstring(picture).iter()}
    assert "script" not in tags


def test_an_extreme_verdict_can_be_drawn():
    verdict = replay_decision({MetricSeries("a"): verdict_builders.differences(1e-6, 60.0)}, {}, make_check_plan(1.0))
    assert chart_images.png(draw_forest(verdict, META))[:4] == b"\x89PNG"


@given(st.floats(1e-6, 0.985), st.floats(1.015, 1e6), st.sampled_from([5, 10]))
def test_ratio_ticks_lie_within_the_range_in_order_and_fit(low, high, most):
    """The axis always holds 1 and a little on both sides."""
    ticks = ratio_ticks(low, high, most)
    assert ticks == sorted(set(ticks))
    assert 1 <= len(ticks) <= 12
    assert low <= ticks[0] <= ticks[-1] <= high


def test_one_is_a_tick_wherever_it_is_within():
    for low, high in ((0.9, 1.1), (0.93, 1.6), (0.99, 5.0), (0.5, 2.0)):
        assert 1.0 in ratio_ticks(low, high, 10)


def test_the_curve_is_the_detectable_effect_of_each_budget_and_the_jobs_lie_on_the_last():
    data = CHARTS["mde"].data
    for datum in data:
        if datum["role"] == "curve":
            budget = make_check_plan(0.05, int(re.search(r"\d+", datum["name"]).group()))
            effect = compute_detectable_effect(datum["spread"], budget)
            assert datum["slowdown"] == pytest.approx(math.expm1(effect))
    jobs = {datum["name"]: datum["slowdown"] for datum in data if datum["role"] == "job"}
    assert jobs == {
        job: pytest.approx(math.expm1(compute_detectable_effect(spread, PLAN))) for job, spread in SPREADS.items()
    }
    assert [datum["slowdown"] for datum in data if datum["role"] == "limit"] == [0.05, 0.1]


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_no_two_ticks_of_an_axis_of_the_curve_read_the_same(narrow):
    """Half percents are not rounded: each label stands at most once on each of the two axes."""
    said = [
        word for word in words(chart_images.inline_svg(CHARTS["mde"], narrow=narrow)) if re.fullmatch(r"[\d.]+%", word)
    ]
    assert len(said) > 6
    assert max(Counter(said).values()) <= 2


def test_more_blocks_see_smaller_slowdowns():
    at_end = [datum["slowdown"] for datum in CHARTS["mde"].data if datum["role"] == "curve"][12::13]
    assert at_end == sorted(at_end, reverse=True)


def test_a_plan_that_cannot_suspect_has_no_curve():
    with pytest.raises(ValueError, match="6 blocks"):
        draw_detectable_effect(SPREADS, make_check_plan(0.05, 6))


def test_a_curve_can_be_drawn_before_anything_is_calibrated():
    assert "the tolerance" in words(chart_images.svg(draw_detectable_effect({}, PLAN)))


def test_every_rule_has_a_mark_in_every_noise():
    data = CHARTS["study"].data
    marks = {(datum["rule"], datum["noise"]): datum["alarms"] for datum in data}
    assert marks == {
        **{("cnnbench", rates.noise): rates.suite.regressed for rates in STUDY.ours},
        **{(rates.peer, rates.noise): rates.suite.hits for rates in STUDY.peers},
    }
    assert all(datum["upper"] < 1.5e-4 for datum in data if datum["rule"] == "cnnbench")


@pytest.mark.parametrize("key", list(CHARTS))
class TestPictures:
    def test_a_picture_carries_its_data_in_both_forms(self, key):
        chart = CHARTS[key]
        picture = chart_images.svg(chart)
        stored = json.loads(ET.fromstring(picture).find("{http://www.w3.org/2000/svg}metadata").text)
        assert stored["rows"] == [dict(datum) for datum in chart.data]
        digest = chart_images.data_digest(chart)
        assert chart_images.stored_digest(picture) == chart_images.stored_digest(chart_images.png(chart)) == digest

    def test_no_word_is_drawn_in_a_colour_that_the_dark_page_does_not_know(self, key):
        for narrow in (False, True):
            root = ET.fromstring(chart_images.inline_svg(CHARTS[key], narrow=narrow))
            texts = root.iter("{http://www.w3.org/2000/svg}text")
            assert {each.get("fill") for each in texts} <= set(theme.DARK)

    def test_the_narrow_drawing_fits_a_phone(self, key):
        width = float(ET.fromstring(chart_images.inline_svg(CHARTS[key], narrow=True)).get("width"))
        assert width <= 366
