"""Every name of a job and of a processor, at each length that is needed. No other module names jobs.

The words are those that `schema.Job` declares for its fields, and a name contains them for every field that is not
plain. Two jobs with different work never get the same words: a table groups rows by them. Names longer than
`plain_text.LONGEST`, which no real processor or workload has, are cut.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from cnnbench import units, workloads
from cnnbench.plain_text import plain
from cnnbench.schema import PROTOCOL, SPLIT_IMAGES, Device, Job, digest
from cnnbench.schema.job import AXES, AxisGroup, plain_values
from cnnbench.workloads.recipes import RECIPES

_NOISE = re.compile(r"\((?:R|TM|C)\)|\b\d+-Core\b|\bProcessor\b|\bCPU @ [\d.]+ ?GHz", re.IGNORECASE)
_DATA = {"mnist": "MNIST", "synthetic": "SYNTHETIC digits", "random": "random data", "points": "points"}
_WORK: tuple[AxisGroup, ...] = ("work", "compute", "network", "data", "clock", "ranks")
"""All groups of a job's fields except where it runs and which repeat it is."""
_BLOCKS = ("warmup_steps", "block_steps", "blocks")
_PROCESSES = ("world", "copies", "nodes")
_STATED = ("precision", "layout", "execution")
"""The fields that the name of a step states even if they are plain."""

# Orders of words; `...` is the place of every field that is not listed, new ones included.
_SHORT_ORDER = ("task", ..., "recipe", "target", "optimizer", "loader", "loader_workers", "division", "precision")
_TITLE_ORDER = (
    "division",
    "task",
    "layout",
    "execution",
    "pool",
    "activation",
    *_PROCESSES,
    "scaling",
    "loader",
    "loader_workers",
    ...,
)
_STEP_ORDER = (*_STATED, ..., "division")
_CHART_ORDER = (
    "precision",
    "layout",
    "division",
    "loader",
    "loader_workers",
    "task",
    "execution",
    ...,
    "pool",
    "activation",
    "optimizer",
)


def processor_name(device: Device) -> str:
    """Shorten the processor's name: no trade marks, core count or the word Processor."""
    return plain(_NOISE.sub(" ", device.name)) or plain(device.name)


def count_threads(threads: int | None) -> tuple[str, ...]:
    """Format `1 thread` or `2 threads`; empty if the number is the default."""
    return () if threads is None else (f"{threads} thread{'' if threads == 1 else 's'}",)


def place_label(job: Job) -> str:
    """Name where on the machine: `cpu, 2 threads`, `cuda:0`, or `cpu, 2 ranks, 1 thread` for several processes.

    The allocator is named if it was not held.
    """
    processes = _find_words(job, "ranks", order=(*_PROCESSES, ...), titles=True, omitted=("scaling",))
    return ", ".join((plain(job.device), *processes, *count_threads(job.threads), *_find_words(job, "place")))


def place_key(machine_id: str, job: Job) -> str:
    """Format the place as `--relative-to` takes it: machine, device and, on a CPU, threads."""
    return f"{machine_id}/{job.device}" + ("" if job.threads is None else f"/{job.threads}")


def job_label(job: Job, *, threads: bool = False) -> str:
    """Name the job for progress lines: `mnist-cnn b128 fp32 on cpu`, with the thread count if wanted and known."""
    what = str(job.size) if job.size is not None else f"b{job.batch_size}"
    words = deviations(job, "optimizer", "loader", "loader_workers", "division", "precision")
    place = ", ".join((job.device, *count_threads(job.threads if threads else None)))
    return " ".join((job.workload, what, *words, job.precision, "on", place))


def process_label(job: Job) -> str:
    """Name the job with its round: `mnist-cnn b128 fp32 on cpu, round 1`."""
    return f"{job_label(job)}, round {job.round + 1}"


def work_label(job: Job, protocol: int = PROTOCOL) -> str:
    """Name the job's work, without the usual choices and without what has a column of its own.

    Those are the precision, and a GEMM's size and blocks. The timing rule is added if it is not today's.
    """
    return _describe(job, (_training(job),)) + format_protocol(protocol)


def full_label(job: Job, protocol: int = PROTOCOL) -> str:
    """Name the job in full: where it ran, what it did, and the timing rule if it is not today's."""
    size = () if job.size is None else (f"side {units.count(job.size)}",)
    return " · ".join((place_label(job), job.precision, work_label(job), *size)) + format_protocol(protocol)


def ladder_label(job: Job, protocol: int = PROTOCOL) -> str:
    """Name what the rungs of a ladder share: the work, but not how a step is computed, and where; see `step_label`."""
    work = work_label(job.model_copy(update=plain_values("compute")))
    return f"{work} · on {place_label(job)}{format_protocol(protocol)}"


def step_label(job: Job, stated: Collection[str] = _STATED) -> str:
    """Name how a step is computed: `fp32, nchw, eager`, with loader and division if they are not the usual ones.

    Without `stated` only what differs from the plain way is named.
    """
    return ", ".join(_find_words(job, "compute", order=_STEP_ORDER, titles=True, stated=stated))


def list_step_values(job: Job) -> tuple[str, ...]:
    """List how a step is computed, plain or not, by values alone.

    An example: `reference`, `fp32`, `nchw`, `eager`, `resident`.
    """
    return tuple(str(getattr(job, name)) for name in plain_values("compute") if name != "loader_workers")


def target_label(job: Job, protocol: int = PROTOCOL) -> str:
    """Name the work that all trainings to one target share; see `variant_label`.

    How it is computed and trained is left out.
    """
    shared = {**plain_values("compute", "network"), "task": job.task}
    return _describe(job.model_copy(update=shared), ()) + format_protocol(protocol)


def variant_label(job: Job) -> str:
    """Name how a step is computed and the network trained: `bf16, nhwc, compiled, adam xavier`."""
    return ", ".join((step_label(job), _training(job), *_find_words(job, "network", omitted=("task", "optimizer"))))


def profile_title(job: Job) -> str:
    """Name what a device's rungs have in common: `mnist-cnn b128 fp32 on cpu, 2 threads`; see `profile_variant`."""
    return job_label(job.model_copy(update={"execution": "eager", "layout": "nchw"}), threads=True)


def profile_variant(job: Job) -> str:
    """Name a rung of a profile: `reference`, `reference nhwc compiled`, or a tuned rung such as `native`."""
    if job.division != "reference":
        return job.execution
    return " ".join(("reference", *_find_words(job, "compute", omitted=("precision", "loader", "loader_workers"))))


def trace_file_name(job: Job, variant: str) -> str:
    """Name the file of a trace: `mnist-cnn-b128-fp32-on-cpu-2-threads-native.json`.

    A second trace of the same rung and settings overwrites the first.
    """
    return _make_file_name(f"{profile_title(job)} {variant}") + ".json"


def short_name(job: Job, *, size: bool = False, batch: bool = False) -> str:
    """Name the job in a few words, for a sentence about its row: `mnist-cnn nhwc compiled bf16`.

    `size` adds a GEMM's side, `batch` the batch of any other job.
    """
    side = (str(job.size),) if size and job.size is not None else ()
    images = (f"b{job.batch_size}",) if batch and job.size is None else ()
    return " ".join((plain(job.workload), *side, *images, *deviations(job, "precision"), job.precision))


def deviations(job: Job, *omitted: str) -> tuple[str, ...]:
    """List, in words, how the job differs from the plain one of its workload and batch.

    Empty for the plain one.
    """
    return _find_words(job, *_WORK, order=_SHORT_ORDER, omitted=omitted)


def chart_words(job: Job) -> tuple[str, ...]:
    """List how the job is computed and trained, if not the plain way, in the order of a chart's labels."""
    return _find_words(job, "compute", "network", order=_CHART_ORDER)


def name_plan(plan: Iterable[Job]) -> Callable[[Job], str]:
    """Return a function that names a plan's jobs: `mnist-cnn b128 fp32 on cpu, dataloader, round 1`.

    A name is the job's label, with the thread count if the plan has several, and the fields that distinguish jobs with
    equal labels. No two jobs have the same name.
    """
    jobs = {job.row_key: job for job in plan}
    several = len({job.threads for job in jobs.values()} - {None}) > 1
    by_label = defaultdict(list)
    for job in jobs.values():
        by_label[job_label(job, threads=several)].append(job)
    fields = {label: find_distinguishing_fields(alike) for label, alike in by_label.items()}

    def name(job: Job) -> str:
        label = job_label(job, threads=several)
        apart = (
            str(getattr(job, field)) if field in _TRIED_FIRST else f"{field}={getattr(job, field)}"
            for field in fields.get(label, ())
        )
        return ", ".join((label, *apart, f"round {job.round + 1}"))

    return name


_TRIED_FIRST = (
    "loader",
    "optimizer",
    "init",
    "clock",
    "division",
    "loader_workers",
    "order",
    "split",
    "data",
    "epochs",
)


def find_distinguishing_fields(alike: Collection[Job]) -> tuple[str, ...]:
    """Choose as many fields as distinguish the jobs, trying first those that a reader looks for.

    None for a single job.
    """
    chosen: list[str] = []
    for field in dict.fromkeys((*_TRIED_FIRST, *find_differing_fields(alike))):
        seen = {tuple(getattr(job, name) for name in chosen) for job in alike}
        if len(seen) == len(alike):
            break
        if len({getattr(job, field) for job in alike}) > 1:
            chosen.append(field)
    return tuple(chosen)


def find_differing_fields(jobs: Collection[Job]) -> tuple[str, ...]:
    """List every field in which any two of the jobs differ, except seed and round."""
    return tuple(name for name in plain_values(*_WORK, "place") if len({getattr(job, name) for job in jobs}) > 1)


def name_jobs(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Name each job `mnist-cnn/cpu`, with the keys that distinguish it from others of that name."""
    names = [f"{job.workload}/{job.device}" for job in jobs]
    pairs = list(zip(names, jobs, strict=True))
    fields = {name: find_differing_fields([job for its, job in pairs if its == name]) for name in names}
    return tuple(" ".join((name, *(f"{field}={getattr(job, field)}" for field in fields[name]))) for name, job in pairs)


def name_run_folder(job: Job, plan: Sequence[Job]) -> str:
    """Name the folder of a job: its label and round in letters, digits, dots and hyphens, unique within the plan.

    Jobs with equal labels have the beginning of their row key's digest added.
    """
    label = job_label(job, threads=True)
    alike = {each.row_key for each in plan if job_label(each, threads=True) == label and each.round == job.round}
    mark = f" {digest(job.row_key)[:6]}" if len(alike) > 1 else ""
    return _make_file_name(f"{label}{mark}, round {job.round + 1}")


def describe_job(job: Job) -> str:
    """Write the text that `-k` searches: `mnist-cnn b128 fp32 on cpu`, then every key as key=value."""
    values = job.model_dump(exclude={"seed", "round"}, exclude_none=True)
    return " ".join((job_label(job), *(f"{name}={value}" for name, value in values.items()))).lower()


def export_name(job: Job, protocol: int) -> str:
    """Name a job for exports: `mnist-cnn-v1[precision=fp32,batch_size=128,...]`, with every unusual field and the
    protocol.

    The name depends on the job alone, not on what else is exported, and a field that a later version adds does not
    change it.
    """
    inside = ",".join(f"{name}={value}" for name, value in export_params(job, protocol).items())
    return f"{plain(job.workload)}-v{job.workload_version}[{inside}]"


def export_params(job: Job, protocol: int) -> dict[str, str | int | float | bool]:
    """Collect the fields in that name, in the schema's order."""
    always = {"precision", "device", "threads"} | (set() if job.size is not None else {"batch_size"})
    usual = plain_values(*_WORK, "place")
    chosen = {
        name: plain(value) if isinstance(value, str) else value
        for name in usual
        if name not in ("workload", "workload_version")
        and (value := getattr(job, name)) is not None
        and (name in always or value != usual[name])
    }
    return {**chosen, "protocol": protocol}


def export_names(jobs: Mapping[str, tuple[Job, int]]) -> dict[str, str]:
    """Name each job for exports by its row key, with the beginning of the key's digest if two names would be equal."""
    named = {key: export_name(*each) for key, each in jobs.items()}
    counts = Counter(named.values())
    return {key: name if counts[name] == 1 else f"{name}#{digest(key)[:8]}" for key, name in named.items()}


def _make_file_name(words: str) -> str:
    """Convert the words to letters, digits, dots and hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", words.lower()).strip("-.")


def _find_words(
    job: Job,
    *groups: AxisGroup,
    order: Sequence[Any] = (...,),
    titles: bool = False,
    stated: Collection[str] = (),
    omitted: Collection[str] = (),
) -> tuple[str, ...]:
    """Find the words of the fields that are not plain.

    Words that several fields share appear once. They are in the order of `order`, in which `...` is the place of all
    fields that it does not list. With `titles` they are the words of a table's title, in which a field without any is
    called by its name. `stated` fields are included even if they are plain, `omitted` ones never.
    """
    found: dict[str, str] = {}
    for name, usual in plain_values(*groups).items():
        value, word = getattr(job, name), AXES[name].word
        if titles:
            word = AXES[name].title or word
        is_plain = name not in stated and (value == usual or _goes_without_saying(job, name))
        if titles and name == "final_evaluation" and value and _ends_unevaluated(job):
            is_plain, word = False, "final evaluation"
        if name in omitted or is_plain or (word is None and not titles):
            continue
        text = plain(f"{name.replace('_', ' ')} {value}" if word is None else word.format(job))
        if text not in found.values():
            found[name] = text
    others = order.index(...)
    return tuple(found[name] for name in sorted(found, key=lambda name: order.index(name) if name in order else others))


def _goes_without_saying(job: Job, name: str) -> bool:
    """Check for a field that is not plain and yet nothing new.

    Examples are the workload's own optimiser, and what the recipe or the clock decides.
    """
    if name == "optimizer" and job.workload != "gemm":
        own = workloads.get(job.workload).default_optimizer if job.workload in workloads.names() else None
        return own in (None, job.optimizer)
    if name == "target" and job.recipe is not None and job.recipe in RECIPES:
        return job.target == RECIPES[job.recipe].target
    if name == "data":
        return job.workload == "gemm" and job.data == "random"
    return name == "final_evaluation" and _ends_unevaluated(job)


def _ends_unevaluated(job: Job) -> bool:
    return job.workload == "gemm" or job.clock == "accuracy"


def _describe(job: Job, training: tuple[str, ...]) -> str:
    """Describe the work for a table's title.

    It names what is trained on what, for how long, and every other field that is not plain.
    """
    omitted = {"workload", "workload_version", "precision", "clock", *_LENGTH_FIELDS[job.clock]}
    omitted |= set() if job.job_steps is None else {"epochs", "steps_per_epoch"}
    if job.workload == "gemm":
        head: tuple[str, ...] = (f"gemm v{job.workload_version}", "square matrices of random values")
        omitted |= {"size", *_BLOCKS}
    else:
        split = () if job.split is None else (f"{units.count(SPLIT_IMAGES[job.split])} images",)
        data = " ".join((_DATA[job.data], *split, "in order" if job.order == "sequential" else "shuffled"))
        head = (f"{plain(job.workload)} v{job.workload_version}", f"batch {job.batch_size}", *training, data)
        omitted |= {"batch_size", "optimizer", "init", "data", "split", "order"}
    return " · ".join(
        (*head, *_length(job), *_find_words(job, *_WORK, order=_TITLE_ORDER, titles=True, omitted=omitted))
    )


_LENGTH_FIELDS = {"steady": _BLOCKS, "job": (), "accuracy": ("target", "evaluate_every"), "recipe": ("recipe",)}
"""The fields that `_length` describes, by clock."""


def _training(job: Job) -> str:
    return " ".join(plain(name) for name in (job.optimizer, job.init) if name is not None) or "no optimiser"


def _length(job: Job) -> tuple[str, ...]:
    whole = None
    if job.job_steps is not None:
        whole = f"{job.epochs} x {job.steps_per_epoch} = {units.count(job.job_steps)} steps"
    if job.clock == "job":
        return (f"{whole or 'no fixed length'}, measured",)
    if job.clock == "recipe":
        return (f"recipe {job.recipe}", f"{whole or 'no fixed length'} and one evaluation, measured")
    if job.clock == "accuracy":
        target = "no target" if job.target is None else f"to {job.target_text} of test images"
        every = "never evaluated" if job.evaluate_every is None else f"evaluated every {job.evaluate_every} steps"
        return (target, every, "no epoch limit" if whole is None else f"at most {whole}")
    if job.workload == "gemm":
        return () if whole is None else (whole,)
    blocks = f"{job.blocks} blocks of {job.block_steps} steps after {job.warmup_steps} warm-up"
    return (blocks,) if whole is None else (f"{whole}, projected from {blocks}",)


def format_protocol(protocol: int) -> str:
    """Format the timing rule to follow a title; empty if it is today's."""
    return "" if protocol == PROTOCOL else f" · protocol {protocol}"
