"""Words of other benchmarking tools, and words that cnnbench had before, each with what to type instead.

None of them is an alias: an unknown command or option is an error, and this table says in it what was meant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Answer(NamedTuple):
    """What a word is, and what to type here."""

    tool: str
    """Whose word it is; empty for one that cnnbench had before."""
    meant: str


ASV, HYPERFINE, MILABENCH, PHORONIX = "asv", "hyperfine", "milabench", "Phoronix Test Suite"
PYPERF, PYTEST, BEFORE = "pyperf", "pytest-benchmark", ""
ANSWERS: Mapping[str, Answer] = {
    "benchmark": Answer(PHORONIX, "`cnnbench run SUITE`, such as `cnnbench run quick`"),
    "batch-run": Answer(PHORONIX, "`cnnbench run SUITE...`, which asks nothing"),
    "batch-benchmark": Answer(PHORONIX, "`cnnbench run SUITE...`, which asks nothing"),
    "finish-run": Answer(PHORONIX, "`cnnbench run SUITE --resume`"),
    "install": Answer(
        f"{MILABENCH} and {PHORONIX}", "`cnnbench data fetch` for MNIST, and `cnnbench doctor` for what is wrong here"
    ),
    "prepare": Answer(MILABENCH, "`cnnbench data fetch`"),
    "summary": Answer(MILABENCH, "`cnnbench show`"),
    "list-tests": Answer(PHORONIX, "`cnnbench list`"),
    "list-available-tests": Answer(PHORONIX, "`cnnbench list workloads`"),
    "list-available-suites": Answer(PHORONIX, "`cnnbench list suites`"),
    "system-info": Answer(PHORONIX, "`cnnbench devices`"),
    "diagnostics": Answer(PHORONIX, "`cnnbench doctor`"),
    "show-result": Answer(PHORONIX, "`cnnbench show`"),
    "merge-results": Answer(PHORONIX, "`cnnbench merge DIR...`"),
    "result-file-to-csv": Answer(PHORONIX, "`cnnbench export --to csv`"),
    "continuous": Answer(ASV, "`cnnbench check --base REF --head REF`"),
    "publish": Answer(ASV, "`cnnbench report -o DIR`"),
    "preview": Answer(ASV, "`cnnbench report --open`"),
    "machine": Answer(ASV, "`cnnbench devices`"),
    "quickstart": Answer(ASV, "`cnnbench run`, which runs the suite quick"),
    "compare_to": Answer(PYPERF, "`cnnbench compare BASE NEW`"),
    "compare-to": Answer(PYPERF, "`cnnbench compare BASE NEW`"),
    "stats": Answer(PYPERF, "`cnnbench show`"),
    "hist": Answer(PYPERF, "`cnnbench report`, which has the charts"),
    "metadata": Answer(PYPERF, "`cnnbench devices`"),
    "system": Answer(PYPERF, "`cnnbench doctor`, which says what to change and changes nothing"),
    "timeit": Answer(PYPERF, "`cnnbench run` for networks; a statement of Python's is not timed here"),
    "--runs": Answer(HYPERFINE, "`--repeats N` of `cnnbench run`, processes for each job"),
    "--min-runs": Answer(HYPERFINE, "`--repeats N` of `cnnbench run`: how many is fixed beforehand"),
    "--parameter-list": Answer(HYPERFINE, "`-L KEY V1,V2` of `cnnbench run`"),
    "--parameter-scan": Answer(HYPERFINE, "`-L KEY V1,V2` of `cnnbench run`, every value written out"),
    "--prepare": Answer(HYPERFINE, "not needed: each job is a fresh process, which prepares itself before it is timed"),
    "--show-output": Answer(HYPERFINE, "`-v` of `cnnbench run`, which shows the end of a failed worker's output"),
    "--ignore-failure": Answer(HYPERFINE, "the default of `cnnbench run`; `--fail-fast` is the other way"),
    "--processes": Answer(PYPERF, "`--repeats N` of `cnnbench run`"),
    "--values": Answer(PYPERF, "`--set blocks=N` of `cnnbench run`"),
    "--loops": Answer(PYPERF, "`--set block_steps=N` of `cnnbench run`"),
    "--rigorous": Answer(PYPERF, "the suite standard: `cnnbench run standard`"),
    "--fast": Answer(PYPERF, "the suite quick: `cnnbench run quick`"),
    "--affinity": Answer(PYPERF, "`--threads N` with `taskset -c CORES cnnbench run ...`"),
    "--benchmark-compare": Answer(PYTEST, "`cnnbench compare BASE NEW`"),
    "--benchmark-compare-fail": Answer(PYTEST, "`cnnbench check --base REF --tolerance 5%`"),
    "--benchmark-save": Answer(
        PYTEST, "not needed: every run is stored; `cnnbench check baseline save NAME` names some"
    ),
    "--benchmark-autosave": Answer(PYTEST, "not needed: every run is stored in the results directory"),
    "--benchmark-json": Answer(PYTEST, "`--export-json FILE` of `cnnbench run`"),
    "--benchmark-histogram": Answer(PYTEST, "`cnnbench report`, which has the charts"),
    "--benchmark-only": Answer(PYTEST, "an option of pytest; `cnnbench show FILE.json` reads what it saves"),
    "--interleave-rounds": Answer(ASV, "the default of `cnnbench run`: rounds run each job once, in random order"),
    "--bench": Answer(ASV, "`-k FILTER`"),
    "--factor": Answer(ASV, "`--tolerance 5%`"),
    "--select": Answer(MILABENCH, "`-k FILTER`"),
    "--exclude": Answer(MILABENCH, "`-k 'not FILTER'`"),
    "--config": Answer(MILABENCH, "the path of a suite: `cnnbench run mine.toml`"),
    "fleet": Answer(BEFORE, "`cnnbench cluster`"),
    "stopping": Answer(BEFORE, "`cnnbench learning stopping`"),
    "converge": Answer(BEFORE, "`cnnbench learning convergence`"),
    "claims": Answer(BEFORE, "`cnnbench learning open`"),
    "bands": Answer(BEFORE, "`cnnbench learning bands`"),
    "ingest": Answer(BEFORE, "`cnnbench show FILE.json`"),
    "baseline": Answer(BEFORE, "`cnnbench check baseline`"),
    "check baseline rm": Answer(BEFORE, "`cnnbench check baseline remove`"),
    "calibrate": Answer(BEFORE, "`cnnbench check calibrate`"),
    "selftest": Answer(BEFORE, "`cnnbench check calibrate --inject`"),
    "gate": Answer(BEFORE, "`cnnbench check`"),
    "replay": Answer(BEFORE, "`cnnbench check replay FILE.json`"),
    "outsize": Answer(BEFORE, "`cnnbench explain output-size`"),
    "--tau": Answer(BEFORE, "`--tolerance`"),
    "--replay": Answer(BEFORE, "`cnnbench check replay FILE.json`"),
    "--fleet": Answer(BEFORE, "`--id`"),
    "report --baseline": Answer(BEFORE, "`--relative-to`"),
    "merge -o": Answer(BEFORE, "`--results DIR`"),
    **{f"cluster {name} -o": Answer(BEFORE, "`--results DIR`") for name in ("run", "status", "cancel", "collect")},
}
"""By the word as it is typed: a command, an option of any command, or an option after its command's name."""


def answer_command(words: Sequence[str]) -> str | None:
    """Word the answer to an unknown command, given the names typed; None if nothing is known."""
    return _format(ANSWERS.get(" ".join(words)))


def answer_option(words: Sequence[str], option: str) -> str | None:
    """Word the answer to an unknown option, given the names of its command; None if nothing is known."""
    return _format(ANSWERS.get(" ".join((*words, option))) or ANSWERS.get(option))


def _format(found: Answer | None) -> str | None:
    if found is None:
        return None
    return f"{f' (a word of {found.tool})' if found.tool else ''}; here it is {found.meant}"
