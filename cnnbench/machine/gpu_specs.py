"""GPUs by exact product name, as `gpus.toml` lists them; `peaks` does the arithmetic."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FlopsPerClock = Mapping[str, int]


@dataclass(frozen=True)
class GpuSpec:
    """One product. `clock` (GHz) is the `clock_kind` its maker rates it with, `tensor_clock` the one for tf32 and below.

    Where a maker publishes a rate and no clock, `published` holds FLOP/s by precision and the clock is None. `units` None: not
    the same in every unit sold.
    """

    names: tuple[str, ...]
    units: int | None
    rates: FlopsPerClock
    clock: float | None
    clock_kind: str
    source: str
    tensor_clock: float | None = None
    published: Mapping[str, float] = field(default_factory=dict)


@cache
def load_gpu_specs() -> tuple[GpuSpec, ...]:
    """Return every product of the table, in its order."""
    table = tomllib.loads(Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8"))
    return tuple(spec for group in table["group"] for spec in _read_group(group, table["rates"][group["rates"]]))


def _read_group(group: Mapping[str, Any], rates: FlopsPerClock) -> Iterator[GpuSpec]:
    published = {precision: teraflops * 1e12 for precision, teraflops in group.get("published", {}).items()}
    for names, *figures in group["products"]:
        units, clock = (*figures, None, None)[:2]
        kind, tensor_clock = group.get("clock_kind", "published"), group.get("tensor_clock")
        yield GpuSpec(tuple(names.split("|")), units, rates, clock, kind, group["source"], tensor_clock, published)
