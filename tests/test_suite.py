"""Suites: what is right unfolds into its product, what is wrong is named, all of it, with file, key, value and choices."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnbench import workloads
from cnnbench.analysis.doubts import HALF_BLOCKS_LEAST
from cnnbench.analysis.metrics import PROJECTION_PROCESSES, PROJECTION_STEPS, PROJECTION_STEPS_TOGETHER
from cnnbench.devices import list_kinds
from cnnbench.errors import SuiteError
from cnnbench.plan import job_keys
from cnnbench.plan.suite import Suite, find_suite, load_suite, suite_names

AXES: dict[str, list[Any]] = {
    "division": ["reference"],  # the tuned one chooses its layout itself: tests/test_tuned.py
    "precision": ["fp32", "tf32", "bf16", "fp16"],
    "layout": ["nchw", "nhwc"],
    "batch_size": [1, 32, 125, 128, 55_000],
    "optimizer": ["rmsprop", "rmsprop-tf1"],
    "init": ["truncated-0.1", "normal-0.01"],
    "data": ["auto", "mnist", "synthetic"],
    "split": ["train-55000", "train-60000"],
    "order": ["sequential", "shuffled"],
    "loader": ["resident", "dataloader"],
    "warmup_steps": [0, 1, 20],
    "block_steps": [1, 10],
    "blocks": [1, 15],
    "extra_forwards": [0, 2],
    "final_evaluation": [True, False],
    "threads": ["auto", 1, 2],
    "allocator": ["held", "system"],
}
"""Every axis on its own, with values any two of which go together."""


def write(folder: Path, text: str, name: str = "x.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, job: str, top: str = "") -> Suite:
    return load_suite(write(folder, f"{top}\n[[job]]\n{job}\n"))


def mistakes(folder: Path, job: str, top: str = "") -> list[str]:
    with pytest.raises(SuiteError) as caught:
        load(folder, job, top)
    return str(caught.value).splitlines()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suites")


axes = st.fixed_dictionaries(
    {}, optional={name: st.lists(st.sampled_from(values), min_size=1, unique=True) for name, values in AXES.items()}
).filter(lambda chosen: math.prod(map(len, chosen.values())) <= 500)


@given(axes)
def test_lists_unfold_into_their_product_each_combination_once(folder: Path, chosen: dict[str, list[Any]]) -> None:
    job = "\n".join(f"{name} = {json.dumps(values)}" for name, values in chosen.items())
    cells = load(folder, f'workload = "mnist-cnn"\n{job}').jobs[0].combinations("cpu")
    assert len(cells) == math.prod(map(len, chosen.values()))
    assert len({tuple(cell.items()) for cell in cells}) == len(cells)
    for name, values in chosen.items():
        assert {cell[name] for cell in cells} == set(values)


@given(st.sampled_from(sorted(AXES)), st.data())
def test_one_value_and_a_list_of_it_and_a_table_of_it_are_the_same(
    folder: Path, name: str, data: st.DataObject
) -> None:
    value = json.dumps(data.draw(st.sampled_from(AXES[name])))
    forms = (value, f"[{value}]", f"[{value}, {value}]", f"{{ cpu = {value}, gpu = [{value}] }}")
    suites = [load(folder, f'workload = "mnist-cnn"\n{name} = {form}') for form in forms]
    assert len({suite.jobs[0].combinations("cpu").__repr__() for suite in suites}) == 1


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_bytes_that_are_no_suite_raise_a_suite_error_and_nothing_else(folder: Path, junk: bytes) -> None:
    path = folder / "junk.toml"
    path.write_bytes(junk)
    with pytest.raises(SuiteError, match=r"junk\.toml"):
        load_suite(path)


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["cpu", "fp32"])
)
names = st.sampled_from([*job_keys.KEYS, *job_keys.FROM_ELSEWHERE, "name", "job", "cpu", "gpu"]) | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(names, values, max_size=8)
documents = st.fixed_dictionaries({"job": st.lists(tables, max_size=3) | values}, optional={"repeats": values}) | tables


def to_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{to_toml(name)} = {to_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps("null" if value is None else value).replace("\x7f", "")


@given(documents, st.sampled_from(["mnist-cnn", "gemm", None]))
def test_toml_of_any_shape_is_a_suite_or_a_suite_error(folder: Path, document: dict[str, Any], workload: Any) -> None:
    jobs = document.get("job")
    if workload is not None and isinstance(jobs, list):
        document = document | {"job": [{"workload": workload} | job if isinstance(job, dict) else job for job in jobs]}
    text = "\n".join(f"{to_toml(name)} = {to_toml(value)}" for name, value in document.items())
    path = write(folder, text.encode("utf-8", "replace").decode(), "shape.toml")
    said = ""
    try:
        suite = load_suite(path)
        assert suite.jobs
    except SuiteError as error:
        said = str(error)
    assert all(line.startswith(f"{path}: ") for line in said.splitlines())


def test_all_mistakes_are_named_at_once_each_with_file_place_key_value_and_choices(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
repeats = 0
[[job]]
workload = "gemm"
size = 1024
[[job]]
workload = "mnist-cnn"
precision = ["fp32", "fp23"]
bacth_size = 64
warmup_steps = true
repeats = 1001
[[job]]
workload = "mnist"
order = "random"
""",
    )
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    assert str(caught.value).splitlines() == [
        f"{path}: repeats 0 must be a whole number from 1 to 1000",
        f"{path}: [[job]] 2: precision 'fp23' is not one of fp32, tf32, bf16, fp16",
        f"{path}: [[job]] 2: unknown key 'bacth_size'; did you mean 'batch_size'?",
        f"{path}: [[job]] 2: warmup_steps true must be a whole number from 0 to 100000",
        f"{path}: [[job]] 2: repeats 1001 must be a whole number from 1 to 1000",
        f"{path}: [[job]] 3: workload 'mnist' is not one of {', '.join(workloads.names())}",
        f"{path}: [[job]] 3: order 'random' is not one of sequential, shuffled",
    ]


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ('workload = "gemm"', "gemm needs size"),
        ('workload = "gemm"\nsize = 64\norder = "shuffled"', "order 'shuffled': gemm takes no order"),
        ('workload = "gemm"\nsize = 64\nclock = "job"', "clock 'job' is not one of steady"),
        ('workload = "gemm"\nsize = 0', "size 0 must be a whole number from 1"),
        ('workload = "mnist-cnn"\nsize = 64', "size 64: mnist-cnn takes no size"),
        ('workload = "mnist-cnn"\nclock = "job"', "clock 'job' needs epochs"),
        ('workload = "mnist-cnn"\nclock = ["job"]', "clock takes one value"),
        ('workload = "mnist-cnn"\nsteps_per_epoch = 9', "steps_per_epoch 9 needs epochs"),
        ('workload = "mnist-cnn"\nepochs = 1\nsteps_per_epoch = 430', "more than the 429 full batches of 128"),
        ('workload = "mnist-cnn"\nbatch_size = 56_000', "batch_size 56000 is more than the images of split"),
        ('workload = "mnist-cnn"\nepoch_eval_images = 256', "epoch_eval_images 256 needs clock 'job'"),
        ('workload = "mnist-cnn"\nclock = "job"\nepochs = 1\nstop_when_all_right = true', "needs epoch_eval_images"),
        ('workload = "mnist-cnn"\nclock = "accuracy"\nepochs = 3', "clock 'accuracy' needs target"),
        ('workload = "mnist-cnn"\nclock = "accuracy"\ntarget = 0.99', "clock 'accuracy' needs epochs, the limit"),
        ('workload = "mnist-cnn"\ntarget = 0.99', "target 0.99 needs clock 'accuracy', not 'steady'"),
        ('workload = "mnist-cnn"\ntarget = 99', "target 99 must be a number above 0 and up to 1"),
        (
            'workload = "mnist-cnn"\nclock = "accuracy"\ntarget = 0.9\nepochs = 1\nevaluate_every = 430',
            "evaluate_every 430 is more than the 429 steps",
        ),
        ('workload = "mnist-cnn"\ntask = "inference"\nclock = "job"\nepochs = 1', "needs clock 'steady'"),
        ('workload = "mnist-cnn"\ntask = "inference"\nextra_forwards = 2', "extra_forwards 2 makes no sense"),
        ('workload = "mlp-1"\nlayout = "nhwc"', "layout 'nhwc' is not one of nchw"),
        ('workload = "mlp-1"\npool = "max"', "pool 'max': mlp-1 takes no pool"),
        ('workload = "softmax"\nactivation = "relu"', "softmax takes no activation"),
        ('workload = "mlp-5-pretrained"', "mlp-5-pretrained has two phases"),
        ('workload = "vgg16"\nsplit = "train-55000"', "vgg16 takes no split"),
        ('workload = "vgg16"\nclock = "accuracy"', "clock 'accuracy' is not one of steady"),
        ('workload = "mnist-cnn"\nbatch_size = "auto"', "batch_size 'auto' must be a whole number"),
        ('workload = "mnist-cnn"\nexecution = "jit"', "execution 'jit' is not one of eager, compiled"),
        ('workload = "mnist-cnn"\nloader_workers = 2', "loader_workers 2 needs loader 'dataloader'"),
        ('workload = "mnist-cnn"\nloader = { cpu = "dataloader" }\nloader_workers = 2', "not 'resident'"),
        ('workload = "mnist-cnn"\nprecision = []', "precision is an empty list"),
        ('workload = "mnist-cnn"\nprecision = {}', "precision is an empty table"),
        (
            'workload = "mnist-cnn"\nprecision = { gppu = "fp32" }',
            "precision.gppu is not a device kind; choose from cpu",
        ),
        ('workload = "mnist-cnn"\nprecision = { gpu = "fp8" }', "precision.gpu 'fp8' is not one of"),
        ('workload = "mnist-cnn"\nbatch_size = 128.0', "batch_size 128.0 must be a whole number"),
        ('workload = "mnist-cnn"\nfinal_evaluation = 1', "final_evaluation 1 must be true or false"),
        ('workload = "mnist-cnn"\nthreads = "all"', "threads 'all' must be a whole number from 1 to 4096 or 'auto'"),
        ('workload = "mnist-cnn"\ndevice = "cpu"', "unknown key 'device'; devices are chosen by --device"),
        ('workload = ["gemm"]', "workload ['gemm'] must be one name of"),
        ("size = 64", "workload is missing; choose from"),
        (f'workload = "mnist-cnn"\nblocks = {list(range(1, 201))}\nblock_steps = {list(range(1, 201))}', "40,000 comb"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(tmp_path: Path, job: str, said: str) -> None:
    lines = mistakes(tmp_path, job)
    assert len(lines) == 1
    assert lines[0].startswith(f"{tmp_path / 'x.toml'}: [[job]] 1: ")
    assert said in lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no [[job]]"),
        ("job = 3", "write [[job]], with two brackets"),
        ("job = [3]", "[[job]] 1: must be a table, not 3"),
        ('[[job]]\nworkload = "gemm"\nsize = \n', "line 3"),
        ("size = 3\n[[job]]\nworkload = 'gemm'\nsize = 4", "unknown key 'size'; it belongs under [[job]]"),
        ("descripton = 'x'\n[[job]]\nworkload = 'gemm'\nsize = 4", "did you mean 'description'?"),
        ("x = " + "[" * 10_000, "x.toml: not "),
        ("x = " + "9" * 10_000, "x.toml: not TOML"),
    ],
)
def test_a_file_that_is_no_suite_says_why(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SuiteError) as caught:
        load_suite(write(tmp_path, text))
    assert said in str(caught.value)


def test_a_place_that_holds_no_suite_says_which(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'name = "\xff"')
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 2_000_000)
    for path, said in (
        (tmp_path, "a directory"),
        (tmp_path / "none.toml", "no such file; shipped suites are"),
        (binary, "not UTF-8 text (byte 8)"),
        (huge, "larger than"),
        (Path("/dev/zero"), "not a regular file"),
    ):
        with pytest.raises(SuiteError) as caught:
            load_suite(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert said in str(caught.value)


def test_a_name_nobody_knows_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(
        SuiteError, match=r"no suite 'quik'; there are batch, convergence, first-day, ladder, .* did you mean 'quick'\?"
    ):
        find_suite("quik")


def test_a_shipped_name_beats_a_file_of_that_name_and_a_path_is_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick").mkdir()
    assert load_suite(find_suite("quick")).name == "quick"
    assert find_suite("./mine.toml") == Path("mine.toml")
    assert find_suite(str(tmp_path / "mine.toml")) == tmp_path / "mine.toml"


def test_values_differ_by_device_kind_rocm_takes_cudas_and_a_kind_left_out_has_the_default(tmp_path: Path) -> None:
    job = load(
        tmp_path,
        'workload = "gemm"\nsize = { cpu = [64, 128], gpu = 256 }\nblocks = { cuda = 7, gpu = 8 }',
    ).jobs[0]
    sides = {kind: [(cell["size"], cell["blocks"]) for cell in job.combinations(kind)] for kind in list_kinds()}
    default = job_keys.default_value("blocks", workloads.get("gemm"))
    assert sides == {
        "cpu": [(64, default), (128, default)],
        "cuda": [(256, 7)],
        "rocm": [(256, 7)],
        "mps": [(256, 8)],
        "xpu": [(256, 8)],
    }
    assert load(tmp_path, 'workload = "gemm"\nsize = { gpu = 256 }').jobs[0].combinations("cpu") == ()


def test_a_thread_sweep_is_about_the_cpu(tmp_path: Path) -> None:
    job = load(tmp_path, 'workload = "mnist-cnn"\nthreads = [1, 2, 4]').jobs[0]
    assert [cell["threads"] for cell in job.combinations("cpu")] == [1, 2, 4]
    assert [cell["threads"] for cell in job.combinations("cuda")] == ["auto"]
    named = load(tmp_path, 'workload = "mnist-cnn"\nthreads = { cpu = 1, cuda = [2, 3] }').jobs[0]
    assert [cell["threads"] for cell in named.combinations("cuda")] == [2, 3]


def test_epochs_alone_mean_all_full_batches_of_the_split(tmp_path: Path) -> None:
    job = load(tmp_path, 'workload = "mnist-cnn"\nepochs = 2\nbatch_size = [125, 128]').jobs[0]
    assert [cell["steps_per_epoch"] for cell in job.combinations("cpu")] == [440, 429]


def test_the_data_kinds_of_a_job_are_those_of_all_devices(tmp_path: Path) -> None:
    def data_kinds(table: str) -> set[object]:
        job = load(tmp_path, table).jobs[0]
        return {cell["data"] for kind in list_kinds() for cell in job.combinations(kind)}

    assert data_kinds('workload = "mnist-cnn"') == {"auto"}
    assert data_kinds('workload = "mnist-cnn"\ndata = { cpu = "synthetic" }') == {"synthetic", "auto"}
    assert data_kinds('workload = "gemm"\nsize = 4') == {"random"}


def test_the_digest_is_that_of_the_files_bytes_and_the_rest_has_defaults(tmp_path: Path) -> None:
    suite = load(tmp_path, 'workload = "gemm"\nsize = 4')
    assert suite.digest == hashlib.sha256(suite.path.read_bytes()).hexdigest()
    assert (suite.name, suite.description, suite.repeats, suite.seed) == ("x", "", range(3, 4), None)
    named = load(tmp_path, 'workload = "gemm"\nsize = 4', 'name = "y"\nseed = 5\nrepeats = 1\ndescription = "d"')
    assert (named.name, named.description, named.repeats, named.seed) == ("y", "d", range(1, 2), 5)


@pytest.mark.parametrize("name", suite_names())
def test_a_shipped_suite_trains_the_same_work_on_every_device(name: str) -> None:
    """Rows divide one another only where the work is equal, so a suite whose GPU job differs could show no speed-up."""
    suite = load_suite(find_suite(name))
    assert suite.name == name
    assert suite.description
    on_cpu, *on_others = (
        {
            tuple((name, value) for name, value in cell.items() if name != "threads")
            for cell in suite.combinations(kind)
            if cell["workload"] != "gemm"
        }
        for kind in ("cpu", "cuda", "mps")
    )
    assert on_cpu
    assert all(cells >= on_cpu for cells in on_others)


def test_the_shipped_suites_are_the_lectures_jobs() -> None:
    """Recipes of the lecture's two programs: 100 x 429 x 128 in order, and up to 20 x 440 x 125 shuffled."""
    job = {name: load_suite(find_suite(name)).combinations("cpu")[-1] for name in ("lecture", "lecture-notebook")}
    script, notebook = job["lecture"], job["lecture-notebook"]
    assert (script["epochs"], script["steps_per_epoch"], script["batch_size"]) == (100, 429, 128)
    assert (script["order"], script["init"], script["epoch_eval_images"]) == ("sequential", "normal-0.01", 256)
    assert (notebook["epochs"], notebook["steps_per_epoch"], notebook["batch_size"]) == (20, 440, 125)
    assert (notebook["order"], notebook["init"], notebook["extra_forwards"]) == ("shuffled", "truncated-0.1", 2)
    assert (notebook["epoch_eval_images"], notebook["stop_when_all_right"]) == (200, True)


@pytest.mark.parametrize(("name", "processes", "steps"), [("quick", 8, 44), ("standard", 3, 429)])
def test_a_projecting_suite_times_enough_steps_even_if_one_process_fails(name: str, processes: int, steps: int) -> None:
    suite = load_suite(find_suite(name))
    (spec,) = [job for job in suite.jobs if job.workload == "mnist-cnn"]
    (training,) = spec.combinations("cpu")
    blocks = int(training["blocks"] or 0)
    assert (spec.repeats, blocks * int(training["block_steps"] or 0)) == (processes, steps)
    assert (training["epochs"], training["steps_per_epoch"]) == (100, 429)
    left = max(PROJECTION_PROCESSES, processes - 1)
    assert left * steps >= PROJECTION_STEPS_TOGETHER
    assert steps >= PROJECTION_STEPS
    assert blocks >= 2 * HALF_BLOCKS_LEAST  # else no doubt would report a warm-up that was not over
