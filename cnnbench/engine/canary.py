"""The sync canary: does synchronise really wait? Tested in every worker with the clock and calls of the timing.

Two questions. (1) The same number of launches, of products of side s and 2s: eight times the work, so the synchronised
time must grow at least fourfold. (Repeating launches would prove nothing: launch time grows with their number too.) (2)
Time to synchronise compared with time to read one element of the result back to the host: reading cannot lie, so
synchronise must not return earlier than that, within 10 % and the copy's own latency. Times are the best of interleaved
rounds, at least 5, and more while the answer is still no: minima over more rounds converge, so an honest device passes
sooner or later and a lying one never does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from cnnbench.engine.timing import NANO, NanosecondClock
from cnnbench.schema import Canary

LAUNCHES = 4
GROWTH_REQUIRED = 4.0
RELATIVE_TOLERANCE = 0.10
MIN_ROUNDS = 5
MAX_ROUNDS = 240
MIN_SMALL_NS = 1_000_000
"""The small product's launches should take about a millisecond, so that work outweighs the launches themselves."""
SIDES = (256, 512, 1024, 2048, 4096)


class TorchProbe:
    """What the canary needs from a device: products on a real one. A test passes a dishonest one."""

    def __init__(self, device: torch.device, synchronize: Callable[[], None]) -> None:
        self._device, self.synchronize = device, synchronize
        self._operands: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._result = torch.zeros(1, 1, device=device)

    def launch(self, side: int) -> None:
        """Queue one product of square matrices of that side."""
        if side not in self._operands:
            matrix = torch.randn(side, side, device=self._device)
            self._operands[side] = (matrix, torch.empty_like(matrix))
        matrix, out = self._operands[side]
        torch.mm(matrix, matrix, out=out)
        self._result = out

    def read_back(self) -> None:
        """Copy one element to the host; waits for the result whatever synchronise does."""
        self._result[0, 0].item()


def run(probe: TorchProbe, *, clock: NanosecondClock = time.perf_counter_ns) -> Canary:
    """Run the canary. Never raises for a failure: see `passed` and `reason`."""
    side = _choose_side(probe, clock)
    best = dict.fromkeys(("small", "large", "readback", "copy"), 2**62)
    asked = (
        ("small", side, probe.synchronize),
        ("large", 2 * side, probe.synchronize),
        ("readback", 2 * side, probe.read_back),
    )
    for rounds in range(MIN_ROUNDS, MAX_ROUNDS + 1, MIN_ROUNDS):  # noqa: B007  the last is returned
        reason = None
        for _ in range(MIN_ROUNDS):
            for name, launched, end in asked:
                best[name] = min(best[name], _time_launches(probe, launched, end, clock))
            start = clock()
            probe.read_back()  # nothing is pending: the copy's own latency
            best["copy"] = min(best["copy"], clock() - start)
        growth, share = best["large"] / max(best["small"], 1), best["large"] / max(best["readback"], 1)
        if growth < GROWTH_REQUIRED:
            reason = f"8 times the work took only {growth:.2f} times as long: synchronise does not wait"
        elif best["large"] < (1 - RELATIVE_TOLERANCE) * best["readback"] - best["copy"]:
            reason = f"synchronise returned after {share:.0%} of the time it took to read the result back"
        else:
            break
    return Canary(
        passed=reason is None,
        side=side,
        launches=LAUNCHES,
        **{f"{name}_seconds": nanoseconds * NANO for name, nanoseconds in best.items()},
        growth=growth,
        sync_seconds=best["large"] * NANO,
        rounds=rounds,
        reason=reason,
    )


def _choose_side(probe: TorchProbe, clock: NanosecondClock) -> int:
    for side in SIDES[:-1]:
        for candidate in (side, 2 * side):
            probe.launch(candidate)
        probe.read_back()
        if min(_time_launches(probe, side, probe.read_back, clock) for _ in range(2)) >= MIN_SMALL_NS:
            return side
    return SIDES[-1]


def _time_launches(probe: TorchProbe, side: int, end: Callable[[], None], clock: NanosecondClock) -> int:
    probe.read_back()  # start from an idle device, whatever synchronise does
    start = clock()
    for _ in range(LAUNCHES):
        probe.launch(side)
    end()
    return clock() - start
