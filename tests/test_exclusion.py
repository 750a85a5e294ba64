"""Which blocks count and which arms may be compared: blind, symmetric, exact."""

from __future__ import annotations

import math
from inspect import signature

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair_builders import block, header, run, span

from cnnbench.errors import UnfitError
from cnnbench.paired_protocol import Span, WorkDone
from cnnbench.regression.blocks import explain_drop, find_unequal_work, reason_to_drop
from cnnbench.regression.check_record import DropLimits
from cnnbench.regression.sequential import sort_blocks
from cnnbench.schema import Telemetry

LIMITS = DropLimits(cores=2, control_band=0.02)
QUIET = {"steal_seconds": 0.01, "cpu_pressure_seconds": 0.15, "cgroup_throttled_seconds": 0.0}
QUIET_CONTROL = 0.001
WORK = WorkDone(
    **{"images": 1280, "batches": 10, "order_digest": "a1", "parameters": 3_274_634, "flops": 10**12},
    **{"optimizer_steps": 10, "precision": "fp32", "first_losses": (2.8, 3.8, 3.2, 2.4, 2.0), "final_loss": 0.3},
)

readings = st.builds(
    Telemetry,
    steal_seconds=st.none() | st.floats(0, 5),
    cpu_pressure_seconds=st.none() | st.floats(0, 5),
    cgroup_throttled_seconds=st.none() | st.floats(0, 5),
    device_throttle_reasons=st.none() | st.sampled_from([(), ("idle",), ("power cap",)]),
    device_other_processes=st.none() | st.integers(0, 2),
)
spans = st.builds(Span, wall_seconds=st.floats(1, 100), before=readings, after=readings)


def drop(base, head, base_control=1e-3, head_control=1e-3):
    """Why a block is dropped whose arms ran one after the other, each over its span of time."""
    runs = {"base": {0: run(0.01, base_control)}, "head": {0: run(0.01, head_control)}}
    measured = block(0, jobs=(0,)).model_copy(update={"spans": {"base": base, "head": head}, **runs})
    return explain_drop(header(mode="sequential", limits=LIMITS), measured)


@given(spans, spans, st.floats(9e-4, 1.1e-3))
def test_exchanging_the_arms_changes_no_drop(base, head, control):
    assert drop(head, base, control, 1e-3) == drop(base, head, 1e-3, control)


def test_the_rule_sees_no_time_of_a_step():
    """By what it is given: counters, the wall time they grew over, and a loop that runs no code of either arm."""
    assert set(signature(reason_to_drop).parameters) == {"spans", "control", "limits"}
    assert set(Span.model_fields) == {"wall_seconds", "before", "after"}


def reason(control=QUIET_CONTROL, **disturbed):
    """Why 21 quiet seconds of both arms in one span are dropped, but for what is disturbed."""
    before = Telemetry(**dict.fromkeys(QUIET, 0.0))
    whole = Span(wall_seconds=21.0, before=before, after=Telemetry(**(QUIET | disturbed)))
    return reason_to_drop([whole], control, LIMITS)


@pytest.mark.parametrize(
    ("disturbed", "words"),
    [
        ({"steal_seconds": 0.51}, "other guests took 1.2 % of the CPU time, allowed are 1.0 %"),
        ({"cpu_pressure_seconds": 1.1}, "threads waited for a core 5.2 % of the time"),
        ({"cgroup_throttled_seconds": 0.3}, "the CPU quota stopped threads 1.4 % of the time"),
        ({"device_throttle_reasons": ("power cap",)}, "lowered its clock"),
        ({"device_other_processes": 3}, "1 other processes used the device"),
        ({"control": -0.03}, "differed by 3.0 % between the arms, allowed are 2.0 %"),
    ],
)
def test_a_disturbed_block_is_dropped_with_its_number(disturbed, words):
    """0.51 of 2 x 21 core seconds, 1.1 and 0.3 of 21 s, the check's own two processes and one more, exp(0.03) - 1."""
    assert words in reason(**disturbed)
    assert reason() is None


def test_what_is_unknown_drops_nothing():
    stolen, silent = span(steal_seconds=9.0), Span(wall_seconds=10.0, before=Telemetry(), after=Telemetry())
    assert drop(stolen, stolen) is not None
    assert drop(silent, silent) is None
    assert drop(silent, stolen) is None
    assert drop(stolen, silent) is None


@pytest.mark.parametrize(("dropped", "fit"), [(0, True), (6, True), (7, False)])
def test_a_machine_that_loses_more_than_three_in_ten_is_unfit(dropped, fit):
    """16 planned: 6 of 22 is 27 %, 7 of 23 is 30.4 %."""
    measured = [block(n, steal_seconds=9.0 if n < dropped else 0.0) for n in range(dropped + 3)]
    if fit:
        assert list(sort_blocks(header(), measured)[1]) == list(range(dropped))
    else:
        with pytest.raises(
            UnfitError, match=r"7 blocks were dropped, more than 30 % of 23; the last: other guests took"
        ):
            sort_blocks(header(), measured)


def test_dropping_by_the_rule_keeps_the_signs_fair():
    """Noise that moves both d and the control loop: of the blocks kept, half are above zero (3.4 standard errors)."""
    rng = np.random.default_rng(1)
    disturbance = rng.normal(0, 0.03, 20_000)
    d = disturbance + rng.normal(0, 0.01, 20_000)
    kept = [reason(control=float(value)) is None for value in disturbance]
    above = np.mean(d[kept] > 0)
    assert 0 < sum(kept) < 20_000
    assert abs(above - 0.5) < 3.4 * math.sqrt(0.25 / sum(kept))


def test_the_same_work_is_equal():
    assert find_unequal_work(WORK, WORK) == ()
    assert (
        find_unequal_work(
            WORK, WORK.model_copy(update={"first_losses": (*WORK.first_losses[:4], 2.002)}), final_loss_band=0.1
        )
        == ()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": 1152}, "images: head 1,152, base 1,280"),
        ({"batches": 9}, "batches: head 9, base 10"),
        ({"parameters": 1}, "parameters: head 1, base 3,274,634"),
        ({"flops": 1}, "model FLOPs"),
        ({"optimizer_steps": 0}, "optimiser steps: head 0, base 10"),
        ({"order_digest": "b2"}, "another order"),
        ({"precision": "bf16"}, "precision: head bf16, base fp32"),
        ({"first_losses": (2.8, 3.8, 3.2, 2.4, 2.1)}, "loss of step 5: head 2.1, base 2"),
        ({"first_losses": (2.8, 3.8, 3.2, 2.4, math.nan)}, "loss of step 5"),
        ({"first_losses": (2.8,)}, "first losses: head has 1, base 5"),
        ({"first_losses": None}, "first losses: head has 0, base 5"),
        ({"final_loss": 0.9}, "final loss: head 0.9, base 0.3"),
        ({"final_loss": None}, "final loss: unknown"),
    ],
)
def test_less_or_other_work_is_named(change, words):
    """In either direction: doing more is no more comparable than doing less."""
    other = WORK.model_copy(update=change)
    (line,) = find_unequal_work(WORK, other, final_loss_band=0.1)
    assert words in line
    assert len(find_unequal_work(other, WORK, final_loss_band=0.1)) == 1


def test_a_product_has_no_loss_to_compare():
    product = WORK.model_copy(update={"first_losses": None, "final_loss": None})
    assert find_unequal_work(product, product) == ()


def test_a_coarser_precision_has_the_wider_tolerance():
    near = (*WORK.first_losses[:4], 2.03)
    both = [
        WORK.model_copy(update={"precision": "bf16", "first_losses": losses}) for losses in (WORK.first_losses, near)
    ]
    assert find_unequal_work(*both) == ()
    assert len(find_unequal_work(WORK, WORK.model_copy(update={"first_losses": near}))) == 1
