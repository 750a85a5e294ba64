"""The commands around measuring: `list`, `validate`, `schema`, `data` and `completion`."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from types import GenericAlias
from typing import TYPE_CHECKING, Any

import click
from click.exceptions import Exit

from cnnbench.cli import completion
from cnnbench.cli.command_group import CommandGroup
from cnnbench.cli.options import DATA_DIR, SUITES, json_option
from cnnbench.cli.output import print_json
from cnnbench.cli.this_process import find_data_cache, find_named, make_console, show_download
from cnnbench.errors import DataError, ExitCode, SuiteError, UsageError

if TYPE_CHECKING:
    from cnnbench.plan.suite import Suite
    from cnnbench.schema import DeviceKind
    from cnnbench.workloads import Workload

COUNTED_DEVICE_KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")
"""Device kinds whose jobs are counted: what a suite plans may differ by kind, and these two are the common ones."""
SCHEMAS = {
    "check": "cnnbench.regression.check_record:CheckRecord",
    "devices": "cnnbench.machine.measured_peaks:DevicesReport",
    "doctor": "cnnbench.machine.doctor:DoctorFinding",
    "noise": "cnnbench.regression.noise_profile:NoiseProfile",
    "record": "cnnbench.schema:Record",
    "run": "cnnbench.schema:RunHeader",
}
"""The model of each kind of file, as `module:attribute`."""


@click.command
@click.argument("kind", type=click.Choice(["suites", "workloads"]), required=False)
@json_option()
def list_command(kind: str | None, as_json: bool) -> None:
    """List the shipped suites and the workloads, or only one KIND of them."""
    from cnnbench import workloads
    from cnnbench.plan.suite import find_suite, load_suite, suite_names

    chosen = {}
    if kind != "workloads":
        chosen["suites"] = [_describe_suite(load_suite(find_suite(name))) for name in suite_names()]
    if kind != "suites":
        chosen["workloads"] = [_describe_workload(workloads.get(name)) for name in workloads.names()]
    if as_json:
        return print_json(chosen)
    for name, found in chosen.items():
        width = max(len(entry["name"]) for entry in found)
        click.echo(name)
        for entry in found:
            size = _format_size(entry)
            click.echo(f"  {entry['name']:<{width}}  {entry['description']}{size and f' ({size})'}")


@click.command
@SUITES
@json_option("Print JSON, the mistakes too.")
def validate(suites: tuple[str, ...], as_json: bool) -> None:
    """Check each SUITE (a shipped name or a TOML file); every mistake is named with its file, key and choices."""
    from cnnbench import workloads
    from cnnbench.plan.suite import find_suite, load_suite

    results: list[dict[str, Any]] = []
    for name in suites:
        workloads.forget_files()  # each suite alone: two may have files with a workload of one name
        try:
            results.append({"suite": name, "ok": True, **_describe_suite(load_suite(find_suite(name))), "errors": []})
        except SuiteError as error:
            results.append({"suite": name, "ok": False, "errors": str(error).splitlines()})
    wrong = [line for result in results for line in result["errors"]]
    if as_json:
        print_json(results)
        raise Exit(ExitCode.USAGE if wrong else ExitCode.DONE)
    for result in results:
        if result["ok"]:
            click.echo(f"{result['suite']}: OK, {_format_size(result)}")
    if wrong:
        raise SuiteError("\n".join(wrong))


def _describe_suite(suite: Suite) -> dict[str, Any]:
    return {
        "name": suite.name,
        "description": suite.description,
        "path": str(suite.path),
        "sha256": suite.digest,
        "repeats": suite.repeats[-1],
        "fewest_repeats": suite.repeats[0],
        "cells": {kind: len(suite.combinations(kind)) for kind in COUNTED_DEVICE_KINDS},
    }


def _describe_workload(workload: Workload) -> dict[str, Any]:
    from cnnbench import workloads

    sizes = ("parameters", "flops_forward_per_image", "flops_training_per_image")
    return {
        "name": workload.name,
        "version": workload.version,
        "description": workload.title,
        "source": workloads.source_of(workload.name),
        "kind": workload.kind,
        "optimizers": list(workload.optimizers),
        "inits": list(workload.inits),
        **{name: getattr(workload, name) if workload.kind == "training" else None for name in sizes},
    }


def _format_size(entry: dict[str, Any]) -> str:
    """Describe a suite as `3 jobs on the CPU, 3 on each GPU, each 3 times`, a network by parameters and FLOPs."""
    if "cells" in entry:
        cells, rounds, fewest = entry["cells"], entry["repeats"], entry["fewest_repeats"]
        jobs, times = "job" if cells["cpu"] == 1 else "jobs", "once" if rounds == 1 else f"{rounds} times"
        times = times if fewest == rounds else f"{fewest} to {times}"
        return f"{cells['cpu']} {jobs} on the CPU, {cells['cuda']} on each GPU, each {times}"
    if entry["parameters"] is None:
        return ""
    from cnnbench import units

    parameters, flops = units.count(entry["parameters"]), units.count(entry["flops_training_per_image"])
    source = "" if entry["source"] == "cnnbench" else f"; from {entry['source']}"
    return f"{parameters} parameters, {flops} FLOPs a training image{source}"


@click.command
@click.argument("name", type=click.Choice(SCHEMAS), required=False)
def schema(name: str | None) -> None:
    """Print the JSON schema of NAME: devices and doctor (their --json), record and run (a ledger's lines), check and noise
    (what `check -o` and `check calibrate` write)."""
    if name is None:
        raise UsageError(f"which schema? one of {', '.join(SCHEMAS)}")
    from pydantic import TypeAdapter

    model: Any = pkgutil.resolve_name(SCHEMAS[name])
    if name == "doctor":  # it prints a list of findings
        model = GenericAlias(list, model)
    print_json(TypeAdapter(model).json_schema())


@click.group(cls=CommandGroup)
def data() -> None:
    """Fetch, verify and find MNIST."""


@data.command
@DATA_DIR
@click.pass_context
def fetch_command(context: click.Context, data_dir: Path | None) -> None:
    """Download what is missing, verify everything, print the directory."""
    from cnnbench.data.download import fetch

    directory = data_dir or find_data_cache()
    with show_download(make_console(), quiet=bool(context.find_root().params.get("quiet"))) as on_progress:
        fetch(directory, on_progress=on_progress)
    click.echo(directory)


@data.command
@DATA_DIR
def verify_command(data_dir: Path | None) -> None:
    """Print a line for each file: the SHA-256 of its decompressed contents, the file, OK or BAD."""
    from cnnbench.data import mnist

    directory, problems = data_dir or find_data_cache(), []
    for file in mnist.FILES:
        try:
            mnist.read_file(directory, file)
        except DataError as error:
            click.echo(f"{'-' * len(file.sha256)}  {directory / file.name}  BAD")
            problems.append(str(error))
        else:
            click.echo(f"{file.sha256}  {mnist.locate_file(directory, file)}  OK")
    if problems:
        raise DataError("\n".join(dict.fromkeys(problems)))


@data.command
@DATA_DIR
@click.pass_context
def where_command(context: click.Context, /, **_: Any) -> None:
    """Print the directory a run would take MNIST from, and where its name came from (flag, env, settings or cache)."""
    from cnnbench.data import MnistDirectory, find
    from cnnbench.data.download import DataUnavailableError

    cache = find_data_cache()
    found = find(find_named(context) or MnistDirectory("cache", cache))
    if found is None:
        raise DataUnavailableError(
            f"MNIST is not on this machine: {cache} (the user's cache) does not hold it; "
            "run `cnnbench data fetch`, or name its directory with --data-dir or CNNBENCH_DATA"
        )
    click.echo(f"{found.directory}\t{found.origin}")


@click.command
@click.argument("shell", type=click.Choice(completion.SHELLS))
@click.pass_context
def completion_command(context: click.Context, /, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, suites, machines and runs.

    \b
    bash:  mkdir -p ~/.local/share/bash-completion/completions
           cnnbench completion bash > ~/.local/share/bash-completion/completions/cnnbench
           (without the package bash-completion: source <(cnnbench completion bash) in ~/.bashrc)
    zsh:   mkdir -p ~/.zfunc
           cnnbench completion zsh > ~/.zfunc/_cnnbench
           and in ~/.zshrc: fpath+=(~/.zfunc); autoload -Uz compinit && compinit
    fish:  mkdir -p ~/.config/fish/completions
           cnnbench completion fish > ~/.config/fish/completions/cnnbench.fish

    It holds in every shell opened from then on.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"this version of click completes nothing for {shell}; upgrade click")
    click.echo(kind(context.find_root().command, {}, "cnnbench", completion.COMPLETE_VARIABLE).source(), nl=False)
