"""The learning rates of a whole schedule on the device, each taken there by its step: what a recorded step can do alone.

A rate that the host sets would stand in the recording as the number it was. Here the recording reads a table, and which of
its places is next is a number on the device that a replay raises by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from cnnbench.errors import WorkloadError


class LrTable:
    """A rate for each of `steps` steps, all the same at first; float32."""

    def __init__(self, steps: int, rate: float, device: torch.device) -> None:
        self._table = torch.full((steps,), rate, device=device)
        self._done = torch.zeros((), dtype=torch.int64, device=device)

    def write(self, rates: Sequence[float]) -> None:
        """Put these in place of those of before: the recording holds the table's address.

        Raises WorkloadError for another number.
        """
        if len(rates) != len(self._table):
            raise WorkloadError(f"{len(rates)} rates for a recording of {len(self._table)} steps")
        self._table.copy_(torch.tensor(rates, dtype=torch.float32))

    def fill(self, rate: float) -> None:
        """The same rate for every step."""
        self._table.fill_(rate)

    def restart(self) -> None:
        """The first step is next."""
        self._done.zero_()

    def take(self, steps: int) -> tuple[torch.Tensor, ...]:
        """The next steps' rates, a tensor of no dimension each, by operators alone: after the last its rate goes on."""
        at = torch.arange(steps, device=self._table.device).add_(self._done).clamp_(max=len(self._table) - 1)
        self._done.add_(steps)
        return self._table.index_select(0, at).unbind()
