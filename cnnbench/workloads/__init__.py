"""Workloads by name: one file per workload, and the counts that a job needs from it.

Four sources: cnnbench's own; other installed packages (entry point `cnnbench.workloads`); the user's files that this
process was given; and, for reading only, the headers of ledgers it has read, so that a result can be read where its
workload is not installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

from cnnbench.errors import UsageError, WorkloadError
from cnnbench.schema import Job, WorkloadFacts
from cnnbench.workloads import first_day, flops, gemm, mlp, mnist_cnn, vgg16
from cnnbench.workloads.base import DEFAULT_INIT as DEFAULT_INIT
from cnnbench.workloads.base import Band as Band
from cnnbench.workloads.base import Workload as Workload
from cnnbench.workloads.flops import Counts as Counts
from cnnbench.workloads.torch_counts import count_network as count_network
from cnnbench.workloads.user_files import WorkloadFile, find_problems, is_file, load

GROUP = "cnnbench.workloads"
_BUILT_IN = {
    workload.name: workload
    for workload in (
        *(gemm.WORKLOAD, *first_day.WORKLOADS, *mlp.WORKLOADS),
        *(mnist_cnn.WORKLOAD, mnist_cnn.WORKLOAD_2048, vgg16.WORKLOAD),
    )
}
_FILES: dict[str, WorkloadFile] = {}
_FROM_LEDGERS: dict[str, dict[int, Workload]] = {}
"""Workloads described in ledgers, by name and version."""


class _Installed(NamedTuple):
    workload: Workload
    source: str


@cache
def _registry() -> dict[str, _Installed]:
    """Collect all installed workloads. Raises UsageError for an entry point that does not give a workload.

    UsageError rather than WorkloadError: the package is at fault, and not the name that was asked for.
    """
    found = {name: _Installed(workload, "cnnbench") for name, workload in _BUILT_IN.items()}
    for point in entry_points(group=GROUP):
        source = f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.module
        place = f"entry point {point.name} = {point.value} of {source}"
        try:
            workload = point.load()
        except (Exception, SystemExit) as error:
            raise UsageError(f"{place}: {type(error).__name__}: {error}; fix or uninstall that package") from error
        if not isinstance(workload, Workload):
            raise UsageError(f"{place}: expected a cnnbench.workloads.Workload, got {type(workload).__name__}")
        if wrong := find_problems(workload):
            raise UsageError(f"{place}: {'; '.join(wrong)}")
        if workload.name in found:
            raise UsageError(f"{place}: a workload named {workload.name!r} exists already; uninstall one of the two")
        found[workload.name] = _Installed(workload, source)
    return found


def names() -> tuple[str, ...]:
    """List the names of all workloads, sorted."""
    return tuple(sorted({*_registry(), *_FILES, *_FROM_LEDGERS}))


def get(name: str, version: int | None = None) -> Workload:
    """Look up a workload by name, in the given version if that is known, else in the one installed here.

    Raises WorkloadError with all known names.
    """
    here = _registry().get(name) or _FILES.get(name)
    described = _FROM_LEDGERS.get(name, {})
    if version in described and (here is None or here.workload.version != version):
        return described[version]
    if here is None and not described:
        raise WorkloadError(f"workload {name!r} is not one of {', '.join(names())}")
    return described[max(described)] if here is None else here.workload


def get_for(job: Job) -> Workload:
    """Look up the workload of a job, in its version. Raises WorkloadError."""
    return get(job.workload, job.workload_version)


def find(text: str, folder: Path = Path()) -> Workload:
    """Look up a workload by name, or run its file (`my_net.py`, `my_net.py:NAME`). Raises WorkloadError."""
    return add_file(text, folder) if is_file(text) else get(text)


def add_file(text: str, folder: Path = Path()) -> Workload:
    """Run the user's file and register its workload by name in this process. Raises WorkloadError."""
    found = load(text, folder)
    name = found.workload.name
    if name in _registry():
        raise WorkloadError(
            f"{found.path}: a workload named {name!r} exists already ({source_of(name)}); choose another name"
        )
    other = _FILES.get(name)
    if other is not None and other.text != found.text:
        raise WorkloadError(f"{found.path}: {other.path} has a workload named {name!r} too; choose another name")
    _FILES[name] = found
    return found.workload


def file_of(name: str) -> WorkloadFile | None:
    """Look up the file that a workload came from; None for an installed one."""
    return _FILES.get(name)


def forget_files() -> None:
    """Forget all files, as at the start of the process."""
    _FILES.clear()


def is_built_in(name: str) -> bool:
    """Tell whether the workload is one of cnnbench's own."""
    return name in _BUILT_IN


def source_of(name: str) -> str:
    """Name where a workload comes from: `cnnbench`, another package with its version, or a file's name."""
    installed, file = _registry().get(name), _FILES.get(name)
    if installed is not None:
        return installed.source
    return "a ledger" if file is None else file.path.name


def collect_header_facts(used: Iterable[str]) -> dict[str, WorkloadFacts]:
    """Describe the workloads that are not cnnbench's own, as a ledger's header stores them for its readers."""
    found = {}
    for name in sorted({name for name in used if not is_built_in(name)}):
        workload, file = get(name), file_of(name)
        facts = {field: getattr(workload, field) for field in WorkloadFacts.model_fields if hasattr(workload, field)}
        found[name] = WorkloadFacts(**facts, source=source_of(name), sha256=None if file is None else file.sha256)
    return found


def register_from_ledger(facts: Mapping[str, WorkloadFacts]) -> None:
    """Register workloads from a ledger's header, for reading its records; cnnbench's own stay as they are."""
    for name, each in facts.items():
        if is_built_in(name):
            continue
        counts = Counts(
            parameters=each.parameters,
            forward=each.flops_forward_per_image,
            training=each.flops_training_per_image,
            activations=each.activations_per_image,
            convolves=each.convolves,
        )
        _FROM_LEDGERS.setdefault(name, {})[each.version] = Workload(
            name=name,
            kind="training",
            declared=counts,
            **each.model_dump(include={"version", "title", "input_shape", "classes", "dataset"}),
        )


def flops_per_step(job: Job) -> int:
    """Compute the model FLOPs of one timed step.

    Training: batch x training FLOPs per image, plus the forward passes that the job adds. Inference: batch x forward
    FLOPs. GEMM: 2 x side^3. Raises WorkloadError for an unknown workload or a GEMM without a side.
    """
    workload = get_for(job)
    if workload.kind == "gemm":
        if job.size is None:
            raise WorkloadError("a gemm job needs a size, the side of its operands")
        return 2 * job.size**3
    if job.task == "inference":
        return job.batch_size * workload.flops_forward_per_image
    per_image = workload.flops_training_per_image + job.extra_forwards * workload.flops_forward_per_image
    return job.batch_size * per_image


def pretraining_steps(job: Job) -> int:
    """Count the steps of pre-training, all hidden layers together; 0 for most workloads, or without epochs."""
    workload = get_for(job)
    if workload.pretraining is None or job.full_epoch is None:
        return 0
    return len(workload.hidden) * workload.pretraining.epochs * job.full_epoch


def pretraining_flops(job: Job) -> int:
    """Compute the model FLOPs of all pre-training steps, which are as many for each hidden layer."""
    per_image = get_for(job).flops_pretraining_per_image
    return job.batch_size * sum(per_image) * pretraining_steps(job) // max(len(per_image), 1)


def step_bytes(job: Job) -> int:
    """Estimate the memory of one step in bytes, by the closed form: activations and parameters.

    Training counts activations twice (with their gradients), inference once (an upper bound on the two largest
    neighbours). The whole is a lower bound: libraries' workspaces are left out.
    """
    workload = get_for(job)
    shorter = 2 if job.precision in ("bf16", "fp16") else 1  # than float32
    if workload.kind == "gemm":
        return 3 * (job.size or 0) ** 2 * flops.FLOAT32_BYTES // shorter
    # In training parameters are kept as weights, gradients, and up to two values of optimiser state.
    both, copies = (2, 4) if job.task == "training" else (1, 1)
    return job.batch_size * workload.activation_bytes_per_image * both // shorter + workload.parameter_bytes * copies


def batch_that_fits(job: Job, memory_bytes: int, *, most: int = 4096) -> int:
    """Find the largest power of two up to `most` whose step needs at most half of the memory; at least 1."""
    batch = most
    while batch > 1 and step_bytes(job.model_copy(update={"batch_size": batch})) > memory_bytes // 2:
        batch //= 2
    return batch


TUNED_TOLERANCE = {"fp32": 1e-2, "tf32": 2e-2, "bf16": 0.2, "fp16": 0.05}
"""Tolerances for a network of up to `TUNED_LAYERS` layers with weights; except in fp32 they grow in proportion to
depth.

A judgement, not a measurement. Rounding alone is far below (`tests/test_tuned.py` limits fp32 to 2e-5); but where two
of the four values under a maximum are equal up to rounding, the gradient takes the other way."""
TUNED_LAYERS = 5


def tuned_tolerance(job: Job) -> float:
    """Compute the largest relative error of a tuned step's gradients that counts as rounding.

    It depends on the format and, in formats shorter than float32, on the depth: the reference's own gradients of
    VGG-16's first layer are off by more than twice the bf16 figure (`tests/test_rounding_by_depth.py` computes them).
    """
    layers = 0
    if job.precision != "fp32" and job.workload in names():
        known = get_for(job)
        layers = sum(isinstance(layer, flops.Weighted) for layer in known.layers)
    return TUNED_TOLERANCE[job.precision] * max(1.0, layers / TUNED_LAYERS)
