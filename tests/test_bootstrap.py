"""The set-up's choices, facts in and pip's arguments out; and that a second time changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from cnnbench import bootstrap
from cnnbench.bootstrap import Facts, choose_torch, describe_torch, parse_nvidia_smi, version_tuple

LINUX = Facts("linux")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CONFIGURED = ("torch==2.13.0",)


def indexes(facts: Facts) -> list[str | None]:
    return [attempt.ask_first for attempt in choose_torch(facts)]


def test_without_a_gpu_the_cpu_build_comes_first_then_the_configured_index() -> None:
    first, second = choose_torch(LINUX)
    assert first.ask_first == CPU_INDEX
    assert first.arguments[:2] == ("--index-url", CPU_INDEX)
    assert first.arguments[-1] == "torch==2.13.0"
    assert second.arguments == CONFIGURED


def test_a_short_wait_is_a_flag_so_that_no_variable_of_the_users_stretches_it() -> None:
    arguments = choose_torch(LINUX)[0].arguments
    assert int(arguments[arguments.index("--timeout") + 1]) <= 15
    assert int(arguments[arguments.index("--retries") + 1]) <= 2


@pytest.mark.parametrize(
    ("capabilities", "driver", "first"),
    [
        (((9, 0),), 580, None),
        (((7, 5), (12, 0)), 590, None),
        ((), None, None),
        (((6, 1),), 580, "cu126"),
        (((9, 0), (7, 0)), 580, "cu126"),
        (((8, 6),), 550, "cu126"),
        (((12, 0),), 570, "cu128"),
    ],
)
def test_an_nvidia_gpu_gets_a_cuda_build_that_it_and_its_driver_can_run(
    capabilities: tuple[tuple[int, ...], ...], driver: int | None, first: str | None
) -> None:
    """CUDA 13 needs capability 7.5 and driver R580; 12.6 has no Blackwell. Whatever comes first, the default is last."""
    facts = LINUX._replace(nvidia=True, capabilities=capabilities, driver=driver)
    attempts = choose_torch(facts)
    assert attempts[-1].arguments == CONFIGURED
    wheels = [f"https://download.pytorch.org/whl/{first}", None] if first else [None]
    assert indexes(facts) == wheels
    assert "CPU" not in "".join(attempt.what for attempt in attempts)


def test_the_last_torch_for_cuda_12_is_2_14() -> None:
    old = choose_torch(LINUX._replace(nvidia=True, capabilities=((5, 2),), driver=580))[0]
    assert old.arguments[-1] == "torch>=2.9,<2.15"


def test_an_amd_gpu_gets_the_rocm_build_and_a_mac_the_configured_one() -> None:
    assert indexes(LINUX._replace(amd=True)) == ["https://download.pytorch.org/whl/rocm7.2", None]
    assert [attempt.arguments for attempt in choose_torch(Facts("darwin"))] == [CONFIGURED]


@pytest.mark.parametrize(
    ("torch", "kept"),
    [("2.13.0+cpu", True), ("2.9.0", True), ("2.10.1+cu130", True), ("2.8.1", False), ("1.13", False), (None, False)],
)
def test_a_torch_that_is_new_enough_is_kept(torch: str | None, kept: bool) -> None:
    assert (choose_torch(LINUX._replace(torch=torch)) == ()) is kept


def test_the_build_is_always_said_and_what_is_odd_about_it() -> None:
    cpu, cuda = LINUX._replace(torch="2.13.0+cpu", torch_build="cpu"), LINUX._replace(torch_build="cuda 13.0")
    assert describe_torch(cpu) == "torch 2.13.0+cpu, build: cpu"
    assert "about 3 GB" in describe_torch(cuda)
    assert "build: cuda 13.0" in describe_torch(cuda)
    assert "warning" not in describe_torch(cuda._replace(nvidia=True))
    assert "a CPU build though a GPU was found" in describe_torch(cpu._replace(nvidia=True))


def test_versions_and_nvidia_smis_answer_are_read() -> None:
    assert version_tuple("2.13.0+cpu") == (2, 13, 0)
    assert version_tuple("2.14.0a0+git1") == (2, 14, 0)
    assert version_tuple("[N/A]") == ()
    assert parse_nvidia_smi("9.0, 580.65.06\n7.5, 580.65.06\n") == (((9, 0), (7, 5)), 580)
    assert parse_nvidia_smi("No devices were found\n") == ((), None)
    assert parse_nvidia_smi("") == ((), None)


class Machine:
    """A machine whose pip and processes are lists: what was asked, and what each answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.installed: list[tuple[str, ...]] = []
        self.torch: str | None = None
        self.reachable, self.works = True, True
        self.origin: str | None = None
        (root / "pyproject.toml").write_text("[project]")
        self.root, self.prefix = root, root / "env"
        self.prefix.mkdir()
        monkeypatch.setattr(bootstrap, "_environment", lambda _: (Path("python"), self.prefix))
        monkeypatch.setattr(bootstrap, "find_gpus", lambda: LINUX)
        monkeypatch.setattr(bootstrap, "_ask", self.ask)
        monkeypatch.setattr(bootstrap, "_pip", self.pip)

    def ask(self, command: tuple[str, ...], seconds: float = 60, environment: object = None) -> str | None:
        if "index" in command:
            return "" if self.reachable else None
        build = self.torch and "cpu"
        return json.dumps({"python": [3, 11], "torch": self.torch, "build": build, "cnnbench": self.origin})

    def pip(self, _: Path, *arguments: str) -> int:
        self.installed.append(arguments)
        if not self.works:
            return 1
        if "torch==2.13.0" in arguments:
            self.torch = "2.13.0+cpu"
        else:
            self.origin = str(self.root / "cnnbench" / "__init__.py")
        return 0


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


def test_the_first_time_installs_torch_then_cnnbench_and_the_second_nothing(here: Machine) -> None:
    bootstrap.set_up(here.root, ())
    torch, package = here.installed
    assert torch[:3] == ("install", "--index-url", CPU_INDEX)
    assert package == ("install", "--editable", str(here.root))
    here.installed.clear()
    bootstrap.set_up(here.root, ())
    assert here.installed == []


def test_what_is_missing_is_added_extras_a_changed_project_another_clone(here: Machine) -> None:
    bootstrap.set_up(here.root, ())
    for change in (
        lambda: bootstrap.set_up(here.root, ("test",)),
        lambda: ((here.root / "pyproject.toml").write_text("[project2]"), bootstrap.set_up(here.root, ())),
        lambda: (setattr(here, "origin", "/elsewhere/cnnbench/__init__.py"), bootstrap.set_up(here.root, ())),
    ):
        here.installed.clear()
        change()
        assert len(here.installed) == 1
        assert here.installed[0][1] == "--editable"


def test_extras_once_installed_stay_enough_for_less(here: Machine) -> None:
    bootstrap.set_up(here.root, ("test",))
    here.installed.clear()
    bootstrap.set_up(here.root, ())
    assert here.installed == []


def test_an_index_that_does_not_answer_is_said_and_passed_over(
    here: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    here.reachable = False
    bootstrap.set_up(here.root, ())
    assert here.installed[0] == ("install", "torch==2.13.0")
    assert f"{CPU_INDEX} does not answer" in capsys.readouterr().err


def test_pip_that_fails_is_one_error_with_exit_code_2(
    here: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.works = False
    with pytest.raises(bootstrap.BootstrapError, match="pip could not install torch"):
        bootstrap.set_up(here.root, ())
    monkeypatch.setattr(bootstrap, "set_up", _refuse)
    assert bootstrap.main(["setup"]) == 2
    assert capsys.readouterr().err.endswith("error: no way\n")


def _refuse(*_: object) -> Path:
    raise bootstrap.BootstrapError("no way")


def test_of_two_set_ups_of_a_clone_at_once_the_second_waits(
    here: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[str] = []
    monkeypatch.setattr(bootstrap, "__file__", str(tmp_path / "cnnbench" / "bootstrap.py"))
    monkeypatch.setattr(bootstrap, "set_up", lambda *_: order.append("second") or Path("python"))
    with bootstrap._alone(tmp_path):
        second = threading.Thread(target=bootstrap.main, args=(["setup"],))
        second.start()
        second.join(0.3)
        order.append("first")
    second.join()
    assert order == ["first", "second"]
    assert f"waiting for another set-up of {tmp_path}" in capsys.readouterr().err


def test_a_python_that_is_too_old_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", namedtuple("V", "major minor")(3, 8))
    assert bootstrap.main(["quick"]) == 2
    assert "error: cnnbench needs Python 3.11 or later" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run_code", "show_code", "code", "calls"),
    [(0, 0, 0, 2), (5, 0, 5, 2), (0, 2, 2, 2), (130, 0, 130, 1), (2, 0, 2, 1)],
)
def test_quick_runs_then_shows_and_passes_the_exit_code_on(
    monkeypatch: pytest.MonkeyPatch, run_code: int, show_code: int, code: int, calls: int
) -> None:
    seen: list[list[str]] = []

    def call(command: list[str], root: Path, *, stdout: int | None = None) -> int:
        seen.append(command)
        return run_code if "run" in command else show_code

    monkeypatch.setattr(bootstrap, "set_up", lambda *_: Path("python"))
    monkeypatch.setattr(bootstrap, "_call", call)
    assert bootstrap.main(["quick", "-d", "cpu"]) == code
    assert len(seen) == calls
    assert seen[0] == ["python", "-m", "cnnbench", "run", "quick", "-d", "cpu"]
    assert all(command[:5] == ["python", "-m", "cnnbench", "show", "--with-lecture"] for command in seen[1:])


def words_and_environment(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[list[str], dict[str, str]]:
    """pytest's words for these words of the user, and its environment."""
    seen: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(bootstrap, "set_up", lambda *_: Path("python"))
    monkeypatch.setattr(bootstrap, "_call", lambda command, root, env: seen.append((command, env)))
    bootstrap.main(["test", *words])
    return seen[0]


def test_tests_run_in_a_process_a_core_of_one_sleeping_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "allowed_cores", lambda: 3)
    monkeypatch.setattr(bootstrap, "TEST_BYTES", 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    command, environment = words_and_environment(monkeypatch)
    assert command == ["python", "-m", "pytest", "-n", "3", "--dist", "worksteal"]
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("1", "passive")
    assert environment["PATH"] == os.environ["PATH"]


def test_little_memory_means_fewer_processes_and_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "allowed_cores", lambda: 64)
    for gibibytes, processes in ((1, "1"), (4, "2"), (1024, "64")):
        pages = {"SC_PHYS_PAGES": gibibytes << 18, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr(os, "sysconf", pages.__getitem__)
        assert words_and_environment(monkeypatch)[0][4] == processes


def test_further_words_come_last_where_they_win(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--all", "-n", "0", "-k", "junk", "tests/test_suite.py"]
    assert words_and_environment(monkeypatch, *words)[0][-len(words) :] == words
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert words_and_environment(monkeypatch)[1]["OMP_NUM_THREADS"] == "2"


def test_a_command_that_dies_of_a_signal_ends_as_a_shell_would_say(tmp_path: Path) -> None:
    assert bootstrap._call([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path) == 137
    assert bootstrap._call([sys.executable, "-c", "raise SystemExit(5)"], tmp_path) == 5


def test_it_starts_without_any_package() -> None:
    """-I -S: neither site-packages nor the user's; only the clone itself on the path."""
    root = Path(bootstrap.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from cnnbench.bootstrap import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "{quick,test,setup}" in done.stdout
    assert "--all" in done.stdout
