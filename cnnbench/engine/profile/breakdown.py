"""The breakdown of a profiled step: a pure function of the host's spans and the device's intervals.

On the host operators nest, and each has its self time: its own less that of what it calls. The rest of a step outside
its operators is Python's, the kernels' callers' or nobody's: `python and gaps`. On an accelerator the host only queues;
there each operator has the time of the kernels it queued, and the rest of the steps is `device idle`.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cnnbench.errors import WorkloadError
from cnnbench.profile_model import Breakdown, Group, Operator, Part, StepPhase

ANNOTATION = "cnnbench::"
"""Begins the names of our own marks, which do not count as operators."""
ALL_STEPS, STEP = f"{ANNOTATION}steps", f"{ANNOTATION}step"
PHASES: tuple[StepPhase, ...] = get_args(StepPhase)
GROUPS = get_args(Group)
_BACKWARD = ("autograd::engine", "torch::autograd")
"""Spans around what autograd runs, on accelerators in a separate thread without our marks."""


@dataclass(frozen=True)
class ProfiledSpan:
    """Something that ran on the host, or a kernel, a copy or a fill on the device, in seconds of the profiler's clock."""

    name: str
    begin: float
    end: float
    self_seconds: float = 0.0
    parents: tuple[str, ...] = ()
    """Names of the spans around it on the host, the outermost first."""
    kernels: tuple[tuple[str, float], ...] = ()
    """Kernels that it queued itself, by name with seconds."""
    annotation: bool = False
    """Whether it is a named part of the program rather than an operator; its self time is Python's."""

    @property
    def seconds(self) -> float:
        """Duration, including what it called."""
        return self.end - self.begin


def break_down_host(spans: Sequence[ProfiledSpan]) -> Breakdown:
    """Break the host's time of a step down. Raises WorkloadError if the profiler saw no step."""
    steps = [span for span in spans if span.name == STEP]
    whole = sum(step.seconds for step in steps)
    if not steps or whole <= 0:
        raise WorkloadError("the profiler saw no step")
    step, inside = whole / len(steps), [span for span in spans if STEP in span.parents]
    marks = [span for span in inside if span.name.startswith(ANNOTATION)]
    unnamed = [span for span in inside if not (span.annotation or span.name.startswith(ANNOTATION))]
    operators = _sum_by_operator([(span, span.self_seconds) for span in unnamed], len(steps), whole)
    groups, phases = _sum_by(operators, "group"), defaultdict[str, float](float)
    groups["python and gaps"] = max(0.0, step - sum(groups.values()))
    for mark in marks:  # each less the phases inside it, such as the optimiser's step inside an update
        phases[mark.name.removeprefix(ANNOTATION)] += mark.seconds / len(steps)
        around = find_phase(mark.parents)
        if around != "between":
            phases[around] -= mark.seconds / len(steps)
    phases["between"] = max(0.0, step - sum(phases.values()))
    return Breakdown(
        view="host",
        step_seconds=step,
        each_seconds=tuple(each.seconds for each in steps),
        groups=_list_parts(groups, step, GROUPS),
        phases=_list_parts(phases, step, PHASES),
        operators=operators,
    )


def break_down_device(spans: Sequence[ProfiledSpan], intervals: Sequence[ProfiledSpan]) -> Breakdown:
    """Break the device's time of the steps down; they were queued one after the other and synchronised once at the end.

    Raises WorkloadError if the profiler saw no step.
    """
    window = next((span for span in spans if span.name == ALL_STEPS), None)
    steps = sum(span.name == STEP for span in spans)
    if window is None or not steps or window.seconds <= 0:
        raise WorkloadError("the profiler saw no step")
    whole, step = window.seconds, window.seconds / steps
    inside = [
        each for each in spans if window.begin <= each.begin < window.end and not each.name.startswith(ANNOTATION)
    ]
    timed = [(span, sum(seconds for _, seconds in span.kernels)) for span in inside if span.kernels]
    ran = [each for each in intervals if window.begin <= each.begin < window.end]
    queued = Counter(name for span in inside for name, _ in span.kernels)
    for each in ran:
        queued[each.name] -= 1
        if queued[each.name] < 0:  # no operator queued it, as in the replay of a recorded graph: counted by itself
            timed.append((each, each.seconds))
    operators = _sum_by_operator(timed, steps, whole)
    groups, phases = _sum_by(operators, "group"), _sum_by(operators, "phase")
    groups["device idle"] = phases["device idle"] = max(0.0, step - sum(groups.values()))
    return Breakdown(
        view="device",
        step_seconds=step,
        each_seconds=(step,),
        groups=_list_parts(groups, step, GROUPS),
        phases=_list_parts(phases, step, (*PHASES, "device idle")),
        operators=operators,
        kernels=_sum_by_operator([(each, each.seconds) for each in ran], steps, whole),
        device_idle_share=max(0.0, 1.0 - measure_coverage(ran) / whole),
    )


def measure_coverage(intervals: Iterable[ProfiledSpan]) -> float:
    """Measure the seconds in which at least one of the intervals ran."""
    total, reached = 0.0, float("-inf")
    for each in sorted(intervals, key=lambda interval: interval.begin):
        total += max(0.0, each.end - max(each.begin, reached))
        reached = max(reached, each.end)
    return total


def find_phase(parents: Sequence[str]) -> StepPhase:
    """Find the innermost phase around a span; autograd's is the backward pass."""
    for name in reversed(parents):
        if name.startswith(_BACKWARD):
            return "backward"
        for phase in PHASES:
            if name == f"{ANNOTATION}{phase}":
                return phase
    return "between"


def _sum_by_operator(timed: Iterable[tuple[ProfiledSpan, float]], steps: int, whole: float) -> tuple[Operator, ...]:
    """Sum the times by name, group and phase, the longest first."""
    calls = defaultdict(list)
    for span, taken in timed:
        phase = find_phase((*span.parents, span.name))
        calls[span.name, find_group(span.name, phase, span.parents), phase].append(taken)
    found = [
        Operator(
            name=name,
            group=group,
            phase=phase,
            calls=len(taken) / steps,
            seconds=sum(taken) / steps,
            share=sum(taken) / whole,
        )
        for (name, group, phase), taken in calls.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.name, each.phase)))


def _sum_by(operators: Sequence[Operator], field: Literal["group", "phase"]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for operator in operators:
        sums[getattr(operator, field)] += operator.seconds
    return sums


def _list_parts(seconds: dict[str, float], step: float, order: Sequence[str]) -> tuple[Part, ...]:
    return tuple(
        Part(name=name, seconds=seconds[name], share=seconds[name] / step) for name in order if seconds.get(name)
    )


NATIVE = "native::"
"""Begins the native kernels' names in a profile (see `engine.profile.profiler`)."""
_ALLOCATING = r"empty\w*|new_empty\w*|resize\w*|set_|zeros\w*|zero_|ones\w*|full\w*|fill_|new_zeros"
_COPYING = (
    r"to|_to_copy|copy_|clone|contiguous|cat|stack|index\w*|gather|take|pin_memory|_pin_memory|_?unsafe_index\w*|randperm"
    r"|item|_local_scalar_dense"
)
_VIEWING = (
    r"view\w*|_?reshape\w*|_reshape_alias|_unsafe_view|t|numpy_T|transpose\w*|permute|expand\w*|slice|select|narrow"
    r"|as_strided_?|squeeze\w*|unsqueeze\w*|flatten|unflatten|unbind|split\w*|chunk|detach_?|alias|lift_fresh|resolve_\w+"
    r"|result_type|can_cast|is_\w+|_has_\w+|set_data"
)
_COMPUTING = (
    r"_?log_softmax\w*|_softmax\w*|softmax|nll_loss\w*|cross_entropy\w*|threshold\w*|relu\w*|sigmoid\w*|tanh\w*|clamp\w*"
    r"|add\w*|sub\w*|rsub|mul\w*|div\w*|sqrt\w*|rsqrt\w*|neg\w*|exp\w*|log\w*|pow\w*|abs\w*|sum\w*|mean\w*|max\w*|min\w*"
    r"|argmax|l[te]\w*|g[te]\w*|eq\w*|ne\w*|where|lerp\w*|\w*batch_norm\w*|masked_fill\w*|reciprocal\w*|_amp_\w+"
    r"|bitwise_\w+|logical_\w+"
)
_MULTIPLYING = r"mm|addmm|bmm|baddbmm|linear|matmul|_?scaled_mm|mkldnn_linear\w*"
_RULES: tuple[tuple[Group, str], ...] = (
    # Native kernels are one pass over several layers: each counts where its products are.
    ("convolution", r"^native::.*(first|stage|conv|pack)"),
    ("matrix product", r"^native::.*(sparse|dense_\w+_tiles|product|gemm|mm)"),
    ("optimiser", r"^native::.*(rmsprop|adam|sgd|momentum|update)"),
    ("elementwise", r"^native::.*(dense|cross|loss|bias|relu)"),
    ("compiled code", r"compiledf|torch-compiled|inductor|triton|^## call"),
    ("bookkeeping", r"^(autograd::|torch::autograd|torchdynamo)|(?-i:^[A-Z]\w*Backward\d*$)"),
    ("pooling", r"pool"),
    ("convolution", r"conv(?!ert)|winograd|wgrad|dgrad|fprop"),
    ("random numbers", r"dropout|bernoulli|random|normal_|uniform_|philox|distribution_"),
    ("matrix product", rf"^aten::({_MULTIPLYING})$|gemm|gemv|cutlass"),
    ("optimiser", r"^aten::_(fused|foreach)|multi_tensor_apply"),
    ("allocation", rf"^aten::({_ALLOCATING})$|memset|cudaMalloc"),
    ("data and copies", rf"^aten::({_COPYING})$|memcpy|dataloader|reorder"),
    ("bookkeeping", rf"^aten::({_VIEWING})$|^detach_?$"),
    ("elementwise", rf"^aten::({_COMPUTING})$|elementwise|reduce_kernel|softmax|nll_loss|vectorized"),
)
"""Rules for an operator's group: the first match counts, in upper or lower case."""


def find_group(name: str, phase: StepPhase, parents: Sequence[str] = ()) -> Group:
    """Find an operator's group; all that the optimiser's step or the drawing of a batch calls belongs to it.

    `parents` are the operators around it: a product of masks within `aten::dropout` is dropout's.
    """
    if phase == "optimiser":
        return "optimiser"
    if phase == "draw":
        return "data and copies"
    found: Group = next((group for group, rule in _RULES if re.search(rule, name, re.IGNORECASE)), "other")
    if found == "elementwise" and any("dropout" in each for each in parents):
        return "random numbers"
    return found
