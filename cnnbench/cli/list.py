"""`cnnbench list` and `cnnbench validate`: what there is to run, and whether a suite is right. Neither torch nor pandas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from cnnbench import units, workloads
from cnnbench.cli import completion
from cnnbench.errors import ExitCode, SuiteError
from cnnbench.plan.suite import Suite, find_suite, load_suite, suite_names
from cnnbench.schema import DeviceKind

LISTED_KINDS = ("suites", "workloads")
COUNTED_DEVICE_KINDS: tuple[DeviceKind, ...] = ("cpu", "cuda")
"""Device kinds whose jobs are counted: what a suite plans may differ by kind, and these two are the common ones."""


@click.command("list")
@click.argument("kind", type=click.Choice(LISTED_KINDS), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(kind: str | None, as_json: bool) -> None:
    """List the shipped suites and the workloads, or only one KIND of them."""
    entries = {
        "suites": [_describe_suite(load_suite(find_suite(name))) for name in suite_names()],
        "workloads": [_describe_workload(workloads.get(name)) for name in workloads.names()],
    }
    chosen = {name: found for name, found in entries.items() if kind in (None, name)}
    if as_json:
        click.echo(json.dumps(chosen, indent=2))
        return
    for name, found in chosen.items():
        click.echo(name)
        _print_columns([(str(entry["name"]), _format_entry(entry)) for entry in found])


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="SUITE...", shell_complete=completion.complete_suites)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, the mistakes too.")
@click.pass_context
def validate(context: click.Context, suites: tuple[str, ...], as_json: bool) -> None:
    """Check each SUITE (a shipped name or a TOML file); every mistake is named with its file, key and choices."""
    results: list[dict[str, Any]] = []
    for name in suites:
        workloads.forget_files()  # each suite by itself: two may have files with a workload of one name
        try:
            results.append({"suite": name, "ok": True, **_describe_suite(load_suite(find_suite(name))), "errors": []})
        except SuiteError as error:
            results.append({"suite": name, "ok": False, "errors": str(error).splitlines()})
    wrong = [line for result in results for line in result["errors"]]
    if as_json:
        click.echo(json.dumps(results, indent=2))
        if wrong:
            context.exit(ExitCode.USAGE)
        return
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
        "repeats": suite.repeats,
        "cells": {kind: len(suite.combinations(kind)) for kind in COUNTED_DEVICE_KINDS},
    }


def _describe_workload(workload: workloads.Workload) -> dict[str, Any]:
    training = workload.kind == "training"
    return {
        "name": workload.name,
        "version": workload.version,
        "description": workload.title,
        "source": workloads.source_of(workload.name),
        "kind": workload.kind,
        "optimizers": list(workload.optimizers),
        "inits": list(workload.inits),
        "parameters": workload.parameters if training else None,
        "flops_forward_per_image": workload.flops_forward_per_image if training else None,
        "flops_training_per_image": workload.flops_training_per_image if training else None,
    }


def _format_entry(entry: dict[str, Any]) -> str:
    if "cells" in entry:
        return f"{entry['description']} ({_format_size(entry)})"
    if entry["parameters"] is None:
        return str(entry["description"])
    parameters, flops = units.count(entry["parameters"]), units.count(entry["flops_training_per_image"])
    source = "" if entry["source"] == "cnnbench" else f"; from {entry['source']}"
    return f"{entry['description']} ({parameters} parameters, {flops} FLOPs a training image{source})"


def _format_size(entry: dict[str, Any]) -> str:
    cells, rounds = entry["cells"], entry["repeats"]
    times = "once" if rounds == 1 else f"{rounds} times"
    jobs = "job" if cells["cpu"] == 1 else "jobs"
    return f"{cells['cpu']} {jobs} on the CPU, {cells['cuda']} on each GPU, each {times}"


def _print_columns(rows: Sequence[tuple[str, str]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        click.echo(f"  {name:<{width}}  {text}")
