"""Ledgers that say the worst a ledger can say, wherever it can say something."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import builders as b

from cnnbench.schema import Energy, Machine, Record, RunHeader, Telemetry, digest

TEXTS = {
    "script": "<script>alert(1)</script>",
    "image": '"><img src=x onerror=alert(1)>',
    "formula": '=HYPERLINK("http://evil","x")',
    "formula behind a quote": " '=1+1",
    "link": "[x](http://evil)",
    "picture": "![x](http://evil/x.png)",
    "mention": "@octocat www.evil.com a@evil.com",
    "cells": "a | b || c \\| d `|` $e$ *f* &amp; \\",
    "page end": "<!-- table end --> --> <!-- cnnbench page sha256:" + "0" * 64 + " -->",
    "latex": r"\input{/etc/passwd} \write18{id} %\end{document}",
    "lines": "one\n## two\r\n| three |\n\n- four\u2028five\x85six",
    "ansi": "\x1b[2Jx\x1b]0;title\x07\x9b31m",
    "long": "w" * 5000,
    "long words": "many words " * 500,
    "direction": "\u202egnp.exe\u202c \u2066a\u2069",
    "half a character": "a\ud800b",
    "nothing": "\x00",
    "markup": "[bold red]x[/] {0} %s {{ 7 * 7 }}",
}
"""What a name or an error message may say, by what it is after."""


def machine(text: str, machine_id: str) -> Machine:
    """A machine whose every word is the text."""
    gpu = b.GPU.model_copy(update={"name": text, "uuid": text, "capability": text, "driver": text})
    words = dict.fromkeys(("cpu_vendor", "hypervisor", "governor", "os", "kernel", "libc"), text)
    return b.machine(machine_id, cpu_name=text, gpus=[gpu], cpu_isa=(text,), **words)


def records(text: str) -> list[Record]:
    """Rows of every kind, failures among them, each with the text wherever a record has one."""
    energy = Energy(
        source=text, tick_seconds=0.1, window_seconds=10.0, window_steps=1000, window_joules=2500.0, idle_seconds=1.0,
        idle_joules=50.0,
    )  # fmt: skip
    said: dict[str, Any] = {
        "floors": {"launch_seconds": 2.5e-6, "copy_bytes_per_second": 4.1e10, "draw_seconds": 3.1e-6, text: 1.0},
        "operators_per_step": 85,
        "telemetry_before": Telemetry(missing={"package_energy_joules": text}, device_throttle_reasons=(text,)),
        "settings": {text: text, "matmul_error": text},
        "phases": {text: 1.0},
    }
    odd = b.cnn_job(optimizer=text, init=text)
    gpu = b.cnn_job(device="cuda:0", precision="tf32")
    found = [
        *b.repeats(b.cnn_job(), [0.070, 0.072, 0.071], **said),
        *b.repeats(gpu, [0.0010, 0.0011, 0.0012], start=3, energy=energy, **said),
        b.record(b.lecture_job(), 0.06, index=6, **said),
        *b.repeats(b.gemm_job(1024), [0.012, 0.011, 0.013], start=7),
        b.record(odd, index=10, **said),
        b.record(b.cnn_job(workload=text, device=text, threads=None), index=11),
        b.record(gpu.model_copy(update={"precision": "bf16"}), index=12, status="oom", message=text),
        b.record(b.gemm_job(64, device=text), index=13, status="crashed", message=text),
    ]
    failed = [
        each.model_copy(update={"outcome": each.outcome.model_copy(update={"stderr_tail": text})})
        for each in found[-2:]
    ]
    return [*found[:-2], *failed]


def header(text: str, found: Iterable[Record], *, run_id: str, machine_id: str) -> RunHeader:
    """The run of these records, with the text wherever a run has one."""
    software = b.software(
        text, torch_build=text, python=text, cnnbench=text, git_commit=text, blas=text, cpu_capability=text, numpy=text
    )
    made = b.header(found, run_id=run_id, machine=machine(text, machine_id), software=software, created_at=text)
    return made.model_copy(update={"suites": {text: text}, "options": {text: text}})


def write(path: Path, text: str, *, named: bool = True) -> Path:
    """A ledger at this path; `named`: its run and machine are called so too, instead of as their file and folder."""
    found = records(text)
    run_id, machine_id = (text, text) if named else (path.stem, path.parent.name)
    head = header(text, found, run_id=run_id, machine_id=machine_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(head.model_dump(mode="json"))]
    for each in found:
        update = {"run_id": run_id, "machine_id": machine_id, "prev": digest(lines[-1])}
        lines.append(json.dumps(each.model_dump(mode="json") | update))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_all(folder: Path, texts: Iterable[str], *, named: bool = True) -> Path:
    """A ledger of each text, in a folder of its own; returns the folder of all."""
    for number, text in enumerate(texts):
        write(folder / f"box-{number:02}" / f"run-{number:02}.jsonl", text, named=named)
    return folder
