"""From what a profiler saw to a step taken apart. Pure: spans of the host and intervals of the device in, a Breakdown out.

On the host operators nest, and each has its self time: its own less that of what it calls. What the operators of a step
leave of it is Python's, the kernels' callers' or nobody's: `python and gaps`. On an accelerator the host only queues; there
each operator has the time of the kernels it queued, and what they leave of the steps is `device idle`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from cnnbench.errors import WorkloadError
from cnnbench.profile_model import Breakdown, Group, Operator, Part, StepPhase

ANNOTATION = "cnnbench::"
"""Begins the names of our own marks, which are no operators."""
ALL_STEPS, STEP = f"{ANNOTATION}steps", f"{ANNOTATION}step"
PHASES: tuple[StepPhase, ...] = get_args(StepPhase)
GROUPS: tuple[Group, ...] = get_args(Group)
_BACKWARD = ("autograd::engine", "torch::autograd")
"""Around what autograd runs, in a thread of its own on accelerators, where none of our marks is."""


@dataclass(frozen=True)
class HostSpan:
    """Something that ran on the host, in seconds of the profiler's clock; `parents` are around it, the outermost first."""

    name: str
    begin: float
    end: float
    self_seconds: float
    parents: tuple[str, ...] = ()
    kernels: tuple[tuple[str, float], ...] = ()
    """What it queued itself, by name with seconds."""
    annotation: bool = False
    """A name that somebody gave to a part of the program: no operator, its self time is Python's."""

    @property
    def seconds(self) -> float:
        """How long it lasted, what it called included."""
        return self.end - self.begin

    @property
    def device_seconds(self) -> float:
        """Of the kernels that it queued itself."""
        return sum(seconds for _, seconds in self.kernels)


@dataclass(frozen=True)
class Interval:
    """A kernel, a copy or a fill on the device."""

    name: str
    begin: float
    end: float


def break_down_host(spans: Sequence[HostSpan]) -> Breakdown:
    """The host's time. Raises WorkloadError where no step was seen."""
    steps = [span for span in spans if span.name == STEP]
    whole = sum(step.seconds for step in steps)
    if not steps or whole <= 0:
        raise WorkloadError("the profiler saw no step")
    inside = [span for span in spans if STEP in span.parents and not _is_annotation(span.name) and not span.annotation]
    operators = _sum_by_operator(((span, span.self_seconds) for span in inside), len(steps), whole)
    groups = _sum_by(operators, "group")
    groups["python and gaps"] = max(0.0, whole / len(steps) - sum(groups.values()))
    phases = _host_phases(
        [span for span in spans if STEP in span.parents and _is_annotation(span.name)], whole, len(steps)
    )
    return Breakdown(
        view="host",
        step_seconds=whole / len(steps),
        each_seconds=tuple(step.seconds for step in steps),
        groups=_parts(groups, whole / len(steps), GROUPS),
        phases=_parts(phases, whole / len(steps), PHASES),
        operators=operators,
    )


def break_down_device(spans: Sequence[HostSpan], intervals: Sequence[Interval]) -> Breakdown:
    """The device's time in the steps, which were queued one after the other and waited for at their end.

    Raises WorkloadError where no step was seen.
    """
    window = next((span for span in spans if span.name == ALL_STEPS), None)
    steps = sum(span.name == STEP for span in spans)
    if window is None or not steps or window.seconds <= 0:
        raise WorkloadError("the profiler saw no step")
    whole = window.seconds
    inside = [
        each
        for each in spans
        if window.begin <= each.begin < window.end and each.kernels and not _is_annotation(each.name)
    ]
    ran = [each for each in intervals if window.begin <= each.begin < window.end]
    timed = [*((span, span.device_seconds) for span in inside), *_find_unattributed_kernels(ran, inside)]
    operators = _sum_by_operator(timed, steps, whole)
    groups = _sum_by(operators, "group")
    idle = max(0.0, whole / steps - sum(groups.values()))
    groups["device idle"] = idle
    phases = _sum_by(operators, "phase")
    parts = (*_parts(phases, whole / steps, PHASES), Part(name="device idle", seconds=idle, share=idle * steps / whole))
    return Breakdown(
        view="device",
        step_seconds=whole / steps,
        each_seconds=(whole / steps,),
        groups=_parts(groups, whole / steps, GROUPS),
        phases=tuple(part for part in parts if part.seconds > 0),
        operators=operators,
        kernels=_sum_by_kernel(ran, steps, whole),
        device_idle_share=max(0.0, 1.0 - measure_coverage(ran) / whole),
    )


def measure_coverage(intervals: Iterable[Interval]) -> float:
    """Seconds in which at least one of them ran."""
    total, reached = 0.0, float("-inf")
    for each in sorted(intervals, key=lambda interval: interval.begin):
        total += max(0.0, each.end - max(each.begin, reached))
        reached = max(reached, each.end)
    return total


def find_phase(parents: Sequence[str]) -> StepPhase:
    """The innermost phase around something; autograd's is the backward pass."""
    for name in reversed(parents):
        if name.startswith(_BACKWARD):
            return "backward"
        for phase in PHASES:
            if name == f"{ANNOTATION}{phase}":
                return phase
    return "between"


def _is_annotation(name: str) -> bool:
    return name.startswith(ANNOTATION)


def _measure_share(seconds: float, steps: int, whole: float) -> dict[str, float]:
    return {"seconds": seconds / steps, "share": seconds / whole}


def _sum_by_operator(timed: Iterable[tuple[HostSpan, float]], steps: int, whole: float) -> tuple[Operator, ...]:
    """One for each name, group and phase, the longest first."""
    calls: dict[tuple[str, Group, StepPhase], list[float]] = defaultdict(list)
    for span, taken in timed:
        phase = find_phase((*span.parents, span.name))
        calls[span.name, find_group(span.name, phase, span.parents), phase].append(taken)
    found = [
        Operator(
            name=name, group=group, phase=phase, calls=len(taken) / steps, **_measure_share(sum(taken), steps, whole)
        )
        for (name, group, phase), taken in calls.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.seconds, each.name, each.phase)))


def _find_unattributed_kernels(ran: Sequence[Interval], operators: Sequence[HostSpan]) -> list[tuple[HostSpan, float]]:
    """Kernels that no operator queued, as in the replay of a recorded graph: each stands for itself."""
    known: dict[str, int] = defaultdict(int)
    for span in operators:
        for name, _ in span.kernels:
            known[name] += 1
    found = []
    for each in ran:
        if known[each.name]:
            known[each.name] -= 1
        else:
            found.append((HostSpan(each.name, each.begin, each.end, 0.0), each.end - each.begin))
    return found


def _sum_by_kernel(ran: Sequence[Interval], steps: int, whole: float) -> tuple[Operator, ...]:
    spans = [HostSpan(each.name, each.begin, each.end, 0.0) for each in ran]
    return _sum_by_operator(((span, span.seconds) for span in spans), steps, whole)


def _sum_by(operators: Sequence[Operator], field: Literal["group", "phase"]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for operator in operators:
        sums[getattr(operator, field)] += operator.seconds
    return sums


def _host_phases(marks: Sequence[HostSpan], whole: float, steps: int) -> dict[str, float]:
    """Each phase less the phases inside it, such as the optimiser's step inside an update."""
    phases: dict[str, float] = defaultdict(float)
    for mark in marks:
        phases[mark.name.removeprefix(ANNOTATION)] += mark.seconds / steps
        around = find_phase(mark.parents)
        if around != "between":
            phases[around] -= mark.seconds / steps
    phases["between"] = max(0.0, whole / steps - sum(phases.values()))
    return phases


def _parts(seconds: dict[str, float], step: float, order: Sequence[str]) -> tuple[Part, ...]:
    return tuple(
        Part(name=name, seconds=seconds[name], share=seconds[name] / step) for name in order if seconds.get(name)
    )


NATIVE = "native::"
"""How the native kernels are called in a profile (see `engine.profile.profiler`)."""
_DROPOUT = re.compile(r"dropout")


def _rule(group: Group, pattern: str) -> tuple[Group, re.Pattern[str]]:
    return group, re.compile(pattern, re.IGNORECASE)


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
_RULES = (
    # Native kernels are one pass over several layers: each counts where its products are.
    _rule("convolution", r"^native::.*(first|stage|conv|pack)"),
    _rule("matrix product", r"^native::.*(sparse|dense_\w+_tiles|product|gemm|mm)"),
    _rule("optimiser", r"^native::.*(rmsprop|adam|sgd|momentum|update)"),
    _rule("elementwise", r"^native::.*(dense|cross|loss|bias|relu)"),
    _rule("compiled code", r"compiledf|torch-compiled|inductor|triton|^## call"),
    _rule("bookkeeping", r"^(autograd::|torch::autograd|torchdynamo)|(?-i:^[A-Z]\w*Backward\d*$)"),
    _rule("pooling", r"pool"),
    _rule("convolution", r"conv(?!ert)|winograd|wgrad|dgrad|fprop"),
    _rule("random numbers", r"dropout|bernoulli|random|normal_|uniform_|philox|distribution_"),
    _rule("matrix product", rf"^aten::({_MULTIPLYING})$|gemm|gemv|cutlass"),
    _rule("optimiser", r"^aten::_(fused|foreach)|multi_tensor_apply"),
    _rule("allocation", rf"^aten::({_ALLOCATING})$|memset|cudaMalloc"),
    _rule("data and copies", rf"^aten::({_COPYING})$|memcpy|dataloader|reorder"),
    _rule("bookkeeping", rf"^aten::({_VIEWING})$|^detach_?$"),
    _rule("elementwise", rf"^aten::({_COMPUTING})$|elementwise|reduce_kernel|softmax|nll_loss|vectorized"),
)
"""The first that fits."""


def find_group(name: str, phase: StepPhase, parents: Sequence[str] = ()) -> Group:
    """The group of an operator in a phase; what an optimiser's step or the drawing of a batch calls is theirs.

    `parents` are the operators around it: a product of masks within `aten::dropout` is dropout's.
    """
    if phase == "optimiser":
        return "optimiser"
    if phase == "draw":
        return "data and copies"
    found: Group = next((group for group, rule in _RULES if rule.search(name)), "other")
    if found == "elementwise" and any(map(_DROPOUT.search, parents)):
        return "random numbers"
    return found
