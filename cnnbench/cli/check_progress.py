"""What a person sees while pairs are measured: what is compared, and a line for every block, on standard error."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from cnnbench.machine_facts import announce_machine
from cnnbench.regression.differences import control_ratio, median_ratio, read_block_state
from cnnbench.regression.exclusion import reason_to_drop
from cnnbench.report.escaping import plain

if TYPE_CHECKING:
    from cnnbench.paired_protocol import PairRecord
    from cnnbench.regression.check_record import CheckHeader
    from cnnbench.regression.sequential import NextBlock


class CheckDisplay:
    """A line for every block, on standard error; nothing is drawn while one is being measured."""

    def __init__(self, console: Console, verbosity: int, prefix: str = "") -> None:
        self._console, self._verbosity, self._prefix = console, verbosity, prefix
        self._where = ""

    def on_start(self, number: int, next_block: NextBlock) -> None:
        """A block is about to be measured."""
        self._where = (
            f"{self._prefix}block {number + 1} ({next_block.stage} {next_block.valid + 1} of {next_block.blocks})"
        )

    def on_finish(self, header: CheckHeader, block: PairRecord) -> None:
        """The block is on disk: what it found, or why it does not count."""
        self._print(f"{self._where}: {format_block(header, block)}", block.failure is not None)

    def _print(self, text: str, wrong: bool) -> None:
        if self._verbosity >= 0 or wrong:
            self._console.print(text, highlight=False, markup=False)


def format_block(header: CheckHeader, block: PairRecord) -> str:
    """`mnist-cnn/cpu +0.42 %, control -0.05 %, 19 s`."""
    if block.failure is not None:
        failure = block.failure
        return f"{(failure.status).upper()}: {failure.arm or 'an arm'}: {plain(failure.message)}"
    parts, control = [], []
    for job in sorted(block.base):
        pair = block.base[job], block.head[job]
        parts.append(f"{header.names[job]} {100 * math.expm1(median_ratio(*pair, header.mode)):+.2f} %")
        control.append(control_ratio(*pair, header.mode))
    parts.append(f"control {100 * math.expm1(statistics.median(control)):+.2f} %")
    line = ", ".join([*parts, f"{block.wall_seconds:.0f} s"])
    reason = (
        None if header.limits is None else reason_to_drop(read_block_state(header, block), header.limits.to_limits())
    )
    return line if reason is None else f"{line}; DROPPED: {reason}"


def announce_check(console: Console, header: CheckHeader, lines: Sequence[str] = ()) -> None:
    """What is compared, where and how, before it begins."""
    how = "taking turns" if header.mode == "turns" else "one after the other"
    names = ", ".join(header.names.values())
    looks = ", ".join(str(blocks) for blocks, _ in header.plan.looks)
    for line in (
        f"machine   {announce_machine(header.machine)}",
        f"base      {header.base.label}; torch {header.base.software.torch}, Python {header.base.software.python}",
        f"head      {header.head.label}; torch {header.head.software.torch}, Python {header.head.software.python}",
        f"jobs      {names}",
        f"blocks    two fresh processes {how}, {header.rounds} rounds of {header.steps_per_turn} steps, seed {header.seed}",
        f"plan      tolerance {100 * header.plan.tolerance:g} %, looks after {looks} blocks, "
        f"{header.plan.confirm_blocks} more to confirm",
        *lines,
    ):
        console.print(line, highlight=False, markup=False)
