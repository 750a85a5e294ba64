"""The bare product of two square matrices of random values: the arithmetic ceiling of a device.

2 x side^3 FLOPs per product. Operands are standard normal, never identity or zeros: those switch fewer transistors and
run faster on a chip at its power limit.
"""

from __future__ import annotations

from cnnbench.workloads.base import Workload

WORKLOAD = Workload(
    name="gemm",
    version=1,
    title="square matrix product of random operands, the arithmetic ceiling",
    kind="gemm",
)
