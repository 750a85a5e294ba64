"""`--set`, `-L` and `--warmup`: what they change is what the same words in the suite's file would be, mistakes included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_suite
from hypothesis import given
from hypothesis import strategies as st
from test_user_workload import NET

from cnnbench import workloads
from cnnbench.errors import SuiteError, UsageError
from cnnbench.plan.overrides import describe_overrides, read_overrides
from cnnbench.plan.suite import find_suite, load_suite

CNN = 'workload = "mnist-cnn"\n'
TWO = f'{CNN}[[job]]\nworkload = "gemm"\nsize = 64\n'
Texts = dict[str, list[str]]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    workloads.forget_files()


@st.composite
def axes(draw: st.DrawFn) -> Texts:
    """Some keys, each with some of its values as they are typed."""
    names = draw(st.lists(st.sampled_from(sorted(test_suite.AXES)), unique=True, min_size=1, max_size=4))
    return {
        name: [str(value).lower() if isinstance(value, bool) else str(value) for value in draw(some(name))]
        for name in names
    }


def some(name: str) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.sampled_from(test_suite.AXES[name]), unique=True, min_size=1, max_size=2)


@given(chosen=axes(), other=st.sampled_from([1, 64]))
def test_values_of_the_command_line_make_the_jobs_that_they_make_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, chosen: Texts, other: int
) -> None:
    folder = tmp_path_factory.mktemp("suites")
    lines = "".join(f"{name} = [{', '.join(map(quote, values))}]\n" for name, values in chosen.items())
    written = test_suite.load(folder, CNN + lines)
    silent = test_suite.write(folder, f"[[job]]\n{CNN}" + (f"batch_size = {other}\n"), "silent.toml")
    settings = [f"{name}={values[0]}" for name, values in chosen.items() if len(values) == 1]
    sweeps = [(name, ",".join(values)) for name, values in chosen.items() if len(values) > 1]
    if "batch_size" not in chosen:
        settings.append("batch_size=128")  # what a file has that does not say it
    changed = load_suite(silent, read_overrides(settings, sweeps))
    assert set(map(tuple, map(dict.items, map(dict, changed.combinations("cpu"))))) == set(
        map(tuple, map(dict.items, map(dict, written.combinations("cpu"))))
    )


def quote(text: str) -> str:
    return text if text.isdecimal() or text in ("true", "false") else f'"{text}"'


def test_a_key_changes_the_jobs_that_take_it_and_no_other(tmp_path: Path) -> None:
    path = test_suite.write(tmp_path, f"[[job]]\n{TWO}")
    changed = load_suite(path, read_overrides(["batch_size=32"], [("precision", "fp32,bf16")], 7))
    cells = [(cell["workload"], cell["batch_size"], cell["precision"]) for cell in changed.combinations("cpu")]
    plain = load_suite(path).combinations("cpu")[1]["batch_size"]
    assert cells == [
        ("mnist-cnn", 32, "fp32"),
        ("mnist-cnn", 32, "bf16"),
        ("gemm", plain, "fp32"),
        ("gemm", plain, "bf16"),
    ]
    assert {cell["warmup_steps"] for cell in changed.combinations("cpu")} == {7}


def test_a_value_that_only_some_workloads_take_changes_their_jobs(tmp_path: Path) -> None:
    """A product has steady steps alone: `clock=accuracy` is for the network beside it."""
    path = test_suite.write(tmp_path, f"[[job]]\n{TWO}")
    changed = load_suite(path, read_overrides(["clock=accuracy", "target=0.9", "epochs=1"]))
    assert [cell["clock"] for cell in changed.combinations("cpu")] == ["accuracy", "steady"]


def test_the_suite_is_not_changed_for_who_reads_it_next(tmp_path: Path) -> None:
    path = test_suite.write(tmp_path, f"[[job]]\n{TWO}")
    before = load_suite(path)
    load_suite(path, read_overrides(["batch_size=1"]))
    assert load_suite(path) == before


def test_a_workload_of_a_file_takes_settings_as_any(tmp_path: Path) -> None:
    """The suite's path to it is relative to the suite, that of `--set` to this folder."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(NET.replace('"my-net"', f'"{name}"'))
    path = test_suite.write(tmp_path, '[[job]]\nworkload = "one.py"\n')
    for more, name in (([], "one"), ([f"workload={tmp_path / 'two.py'}"], "two")):
        (cell,) = load_suite(path, read_overrides(["batch_size=32", *more])).combinations("cpu")
        assert (cell["workload"], cell["batch_size"]) == (name, 32)


def test_a_workload_replaces_those_of_its_kind_and_several_make_a_job_each(tmp_path: Path) -> None:
    path = test_suite.write(tmp_path, f"[[job]]\n{TWO}")
    for settings, sweeps, expected in (
        (["workload=mlp-1"], [], ["mlp-1", "gemm"]),
        ([], [("workload", "mlp-1, softmax")], ["mlp-1", "softmax", "gemm"]),
    ):
        changed = load_suite(path, read_overrides(settings, sweeps))
        assert [cell["workload"] for cell in changed.combinations("cpu")] == expected


def test_keys_above_the_jobs_are_the_suites(tmp_path: Path) -> None:
    path = test_suite.write(tmp_path, f"repeats = 5\n[[job]]\n{CNN}")
    changed = load_suite(path, read_overrides(["seed=4", "repeats=2"]))
    assert (changed.seed, changed.repeats) == (4, range(2, 3))


def test_a_share_is_a_number(tmp_path: Path) -> None:
    path = test_suite.write(tmp_path, f'[[job]]\n{CNN}clock = "accuracy"\nepochs = 2\ntarget = 0.9\n')
    assert load_suite(path, read_overrides(["target=0.99"])).combinations("cpu")[0]["target"] == 0.99


def test_another_suite_is_another_digest_and_the_same_has_the_same() -> None:
    """A run is resumed by its suites' digests: never with other settings, and the file alone has the digest it had."""
    path = find_suite("quick")
    digests = [
        load_suite(path, read_overrides(settings)).digest for settings in ([], ["batch_size=64"], ["batch_size=32"])
    ]
    assert len(set(digests)) == 3
    assert digests[0] == load_suite(path).digest
    assert digests[1] == load_suite(path, read_overrides(["batch_size=64"])).digest


@pytest.mark.parametrize(
    ("settings", "sweeps", "said"),
    [
        (["precsion=bf16"], [], ["--set: unknown key 'precsion'; did you mean 'precision'?"]),
        (["precision"], [], ["--set 'precision': write key=value"]),
        (["precision=fp23"], [], ["--set precision: 'fp23' is not one of fp32, tf32, bf16, fp16"]),
        (["batch_size=many"], [], ["--set batch_size: 'many' must be a whole number from 1 to 60000"]),
        (["target=2"], [], ["--set target: '2' must be a number above 0 and up to 1"]),
        (["final_evaluation=yes"], [], ["--set final_evaluation: 'yes' must be true or false"]),
        (["device=cpu"], [], ["--set: unknown key 'device'; devices are chosen by --device"]),
        (["workload=nosuch"], [], ["--set workload: workload 'nosuch' is not one of"]),
        ([], [("batch_size", "3,y")], ["-L batch_size: 'y' must be a whole number"]),
        ([], [("batch_size", "3,")], ["-L batch_size: '' must be a whole number"]),
        ([], [("seed", "3,4")], ["-L seed: takes one value"]),
        ([], [("clock", "steady,job")], ["-L clock: takes one value"]),
        (["blocks=3", "blocks=4"], [], ["--set blocks: it is given twice"]),
        (
            ["blocks=3", "block_step=4", "blocks=x"],
            [("x", "3")],
            ["'block_step'; did you", "blocks: it is given twice", "-L: unknown"],
        ),
    ],
)
def test_every_mistake_is_named_with_what_may_be(
    settings: list[str], sweeps: list[tuple[str, str]], said: list[str]
) -> None:
    with pytest.raises(UsageError) as raised:
        read_overrides(settings, sweeps)
    lines = str(raised.value).splitlines()
    assert [part in line for part, line in zip(said, lines, strict=True)] == [True] * len(said)


def test_warmup_and_a_setting_of_it_are_two_words_for_one() -> None:
    with pytest.raises(UsageError, match="--warmup warmup_steps: it is given twice"):
        read_overrides(["warmup_steps=3"], (), 4)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        (["pool=max"], UsageError, "pool: no job takes it; the workloads are gemm"),
        (["workload=mlp-1"], UsageError, "workload: no job takes it; the workloads are gemm"),
        (["clock=job"], SuiteError, "x.toml with clock=job: [[job]] 1: clock 'job' is not one of steady"),
    ],
)
def test_what_the_suite_cannot_be_is_said_of_the_suite_as_changed(
    tmp_path: Path, settings: list[str], kind: type[Exception], said: str
) -> None:
    path = test_suite.write(tmp_path, '[[job]]\nworkload = "gemm"\nsize = 64\n')
    with pytest.raises(kind) as raised:
        load_suite(path, read_overrides(settings))
    assert said in str(raised.value)


def test_a_broken_suite_is_named_as_without_them(tmp_path: Path) -> None:
    for text in (
        "",
        "job = 3\n",
        "[[job]]\n",
        "[[job]]\nworkload = 3\n",
        '[[job]]\nworkload = "nosuch"\n',
        "job = [3]\n",
    ):
        path = test_suite.write(tmp_path, text)
        with pytest.raises(SuiteError) as plain:
            load_suite(path)
        for setting in ("repeats=3", "batch_size=3"):
            with pytest.raises(SuiteError) as changed:
                load_suite(path, read_overrides([setting]))
            assert str(changed.value) == str(plain.value).replace("x.toml:", f"x.toml with {setting}:")


def test_they_are_described_as_they_were_typed() -> None:
    found = read_overrides(["batch_size=64", "final_evaluation=false"], [("precision", "fp32, bf16")])
    assert describe_overrides(found) == "batch_size=64 final_evaluation=false precision=fp32,bf16"
