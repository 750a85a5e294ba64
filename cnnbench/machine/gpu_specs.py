"""GPUs by exact product name: multiprocessors, FLOPs a clock, rated clocks, each with its source.

A table and nothing else; `peaks` does the arithmetic. Rates are dense (never sparse) FLOPs a clock and multiprocessor
(compute unit on AMD), a multiply-accumulate being 2, with float32 accumulation. The capability alone does not settle
them: GeForce cards (and the L40) accumulate in float32 at half the rate of their data-centre sisters. A precision that
is not in a rate is absent from the chip or from a source we trust. Left out for that reason: RTX PRO Blackwell, A10G,
Titan V's and V100-SXM3's tensor rates (NVIDIA's own figures disagree), GTX 1650 (two clocks under one name), mobile
GPUs (clocks set by the maker). Mobile GTX 10 and RTX 20 may share a desktop card's name; then the desktop's rating
is shown, unless the multiprocessors differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FlopsPerClock = Mapping[str, int]

KEPLER: FlopsPerClock = {"fp32": 384}
MAXWELL: FlopsPerClock = {"fp32": 256}
PASCAL: FlopsPerClock = {"fp32": 256}
PASCAL_P100: FlopsPerClock = {"fp32": 128}
VOLTA: FlopsPerClock = {"fp32": 128, "fp16": 1024}
TURING_NO_TENSOR: FlopsPerClock = {"fp32": 128}
TURING_GEFORCE: FlopsPerClock = {"fp32": 128, "fp16": 512}
TURING_PRO: FlopsPerClock = {"fp32": 128, "fp16": 1024}
AMPERE_100: FlopsPerClock = {"fp32": 128, "tf32": 1024, "bf16": 2048, "fp16": 2048}
GEFORCE_30_TO_50: FlopsPerClock = {"fp32": 256, "tf32": 256, "bf16": 512, "fp16": 512}
AMPERE_ADA_PRO: FlopsPerClock = {"fp32": 256, "tf32": 512, "bf16": 1024, "fp16": 1024}
HOPPER: FlopsPerClock = {"fp32": 256, "tf32": 2048, "bf16": 4096, "fp16": 4096}
BLACKWELL_100: FlopsPerClock = {"fp32": 256, "tf32": 4096, "bf16": 8192, "fp16": 8192}
"""Twice Hopper's: the datasheet's 2.25 PFLOP/s over 148 SMs needs more than 4096 a clock at any clock below 3.7 GHz."""
CDNA2: FlopsPerClock = {"fp32": 256, "bf16": 1024, "fp16": 1024}
CDNA3: FlopsPerClock = {"fp32": 256, "tf32": 1024, "bf16": 2048, "fp16": 2048}


@dataclass(frozen=True)
class GpuSpec:
    """One product. `clock` (GHz) is the `clock_kind` its maker rates it with, `tensor_clock` the one for tf32 and below.

    Where a maker publishes a rate and no clock, `published` holds FLOP/s by precision and the clock is None. A board
    with two GPUs is listed as one of them, as the driver shows it. `units` None: not the same in every unit sold.
    """

    names: tuple[str, ...]
    units: int | None
    rates: FlopsPerClock
    clock: float | None
    clock_kind: str
    source: str
    tensor_clock: float | None = None
    published: Mapping[str, float] = field(default_factory=dict)


def _base(source: str, rates: FlopsPerClock, *rows: tuple[str, int, float]) -> tuple[GpuSpec, ...]:
    return tuple(GpuSpec(tuple(names.split("|")), units, rates, clock, "base", source) for names, units, clock in rows)


def _boost(source: str, rates: FlopsPerClock, *rows: tuple[str, int, float]) -> tuple[GpuSpec, ...]:
    return tuple(GpuSpec(tuple(names.split("|")), units, rates, clock, "boost", source) for names, units, clock in rows)


def _published(source: str, rates: FlopsPerClock, names: str, units: int | None, **teraflops: float) -> GpuSpec:
    figures = {precision: value * 1e12 for precision, value in teraflops.items()}
    return GpuSpec(tuple(names.split("|")), units, rates, None, "published", source, published=figures)


_KEPLER_BASE = (
    "NVIDIA GeForce product specifications; base clock, as NVIDIA's GTX 680 whitepaper computes its 3090 GFLOP/s"
)
_MAXWELL_BASE = (
    "NVIDIA GeForce product specifications; base clock, as NVIDIA's GTX 980 whitepaper computes its 4612 GFLOP/s"
)
_TURING = "NVIDIA Turing GPU architecture whitepaper (WP-09183) and product specifications; reference cards"
_GA102 = "NVIDIA Ampere GA102 whitepaper, appendix A (FP16 tensor rate with FP32 accumulate), product specifications"
_ADA = "NVIDIA Ada GPU architecture whitepaper, appendix A (FP16 tensor rate with FP32 accumulate), specifications"
_BLACKWELL = "NVIDIA RTX Blackwell GPU architecture whitepaper, appendix A (FP32 accumulate), product specifications"
_HOPPER = "NVIDIA H100 whitepaper (v1.04), table of H100 GPUs, boost clocks for FP32 and for tensor operations"

GPU_SPECS: tuple[GpuSpec, ...] = (
    # Kepler: 192 cores x 2
    *_base("NVIDIA GRID K520 board specification; one of two GPUs", KEPLER, ("GRID K520|AWS EC2 K520", 8, 0.797)),
    *_boost(
        "NVIDIA Tesla K80 board specification (BD-07317), one of two GPUs; 8.73 TFLOP/s a board at boost",
        KEPLER, ("Tesla K80", 13, 0.875),
    ),
    *_base(
        "NVIDIA Tesla K40 and K20 board specifications (4.29, 3.95 and 3.52 TFLOP/s)", KEPLER,
        ("Tesla K40m|Tesla K40c|Tesla K40s", 15, 0.745), ("Tesla K20Xm|Tesla K20X", 14, 0.732),
        ("Tesla K20m|Tesla K20c", 13, 0.706),
    ),
    *_base(
        _KEPLER_BASE, KEPLER,
        ("GeForce GTX 680", 8, 1.006), ("GeForce GTX 670", 7, 0.915), ("GeForce GTX 760", 6, 0.980),
        ("GeForce GTX 770", 8, 1.046), ("GeForce GTX 780", 12, 0.863), ("GeForce GTX 780 Ti", 15, 0.875),
        ("GeForce GTX TITAN", 14, 0.837), ("GeForce GTX TITAN Black", 15, 0.889),
    ),
    # Maxwell: 128 cores x 2
    *_base(
        _MAXWELL_BASE, MAXWELL,
        ("GeForce GTX 745|GTX-745", 3, 1.033), ("GeForce GTX 750", 4, 1.020), ("GeForce GTX 750 Ti", 5, 1.020),
        ("GeForce GTX 950", 6, 1.024), ("GeForce GTX 960", 8, 1.127), ("GeForce GTX 970|GTX-970", 13, 1.050),
        ("GeForce GTX 980", 16, 1.126), ("GeForce GTX 980 Ti", 22, 1.000), ("GeForce GTX TITAN X", 24, 1.000),
    ),
    # Pascal: 128 cores x 2; P100: 64 x 2
    *_boost(
        "NVIDIA GTX 1080 whitepaper (8873 GFLOP/s at boost) and GeForce 10 product specifications; desktop cards", PASCAL,
        ("GeForce GTX 1050", 5, 1.455), ("GeForce GTX 1050 Ti", 6, 1.392), ("GeForce GTX 1060 3GB", 9, 1.708),
        ("GeForce GTX 1060 6GB", 10, 1.708), ("GeForce GTX 1070", 15, 1.683), ("GeForce GTX 1070 Ti", 19, 1.683),
        ("GeForce GTX 1080|GTX-1080", 20, 1.733), ("GeForce GTX 1080 Ti", 28, 1.582), ("TITAN X (Pascal)", 28, 1.531),
        ("TITAN Xp", 30, 1.582),
    ),
    *_boost("NVIDIA Tesla P40 product brief", PASCAL, ("Tesla P40", 30, 1.531)),
    _published("NVIDIA Tesla P4 datasheet (two digits; no clock given)", PASCAL, "Tesla P4", 20, fp32=5.5),
    *_boost("NVIDIA Tesla P100 whitepaper (WP-08019)", PASCAL_P100, ("Tesla P100-SXM2-16GB", 56, 1.480)),
    _published(
        "NVIDIA Tesla P100 PCIe datasheet (two digits; no clock given)", PASCAL_P100,
        "Tesla P100-PCIE-16GB|Tesla P100-PCIE-12GB", 56, fp32=9.3,
    ),
    # Volta: 64 cores x 2; 8 tensor cores x 64 x 2
    *_boost(
        "NVIDIA Tesla V100 whitepaper (WP-08608) and datasheet", VOLTA,
        ("Tesla V100-SXM2-16GB|Tesla V100-SXM2-32GB", 80, 1.530),
        ("Tesla V100-PCIE-16GB|Tesla V100-PCIE-32GB", 80, 1.380),
        ("Tesla V100S-PCIE-32GB", 80, 1.597),
    ),
    # Turing: 64 cores x 2; 8 tensor cores x 64 x 2, GeForce half of it with float32 accumulation
    *_boost(
        _TURING, TURING_NO_TENSOR,
        ("GeForce GTX 1650 SUPER", 20, 1.725), ("GeForce GTX 1660", 22, 1.785), ("GeForce GTX 1660 SUPER", 22, 1.785),
        ("GeForce GTX 1660 Ti", 24, 1.770),
    ),
    *_boost(
        _TURING, TURING_GEFORCE,
        ("GeForce RTX 2060", 30, 1.680), ("GeForce RTX 2060 SUPER", 34, 1.650), ("GeForce RTX 2070", 36, 1.620),
        ("GeForce RTX 2070 SUPER", 40, 1.770), ("GeForce RTX 2080", 46, 1.710), ("GeForce RTX 2080 SUPER", 48, 1.815),
        ("GeForce RTX 2080 Ti", 68, 1.545),
    ),
    *_boost(
        _TURING, TURING_PRO,
        ("TITAN RTX", 72, 1.770), ("Quadro RTX 8000", 72, 1.770), ("Quadro RTX 6000", 72, 1.770),
        ("Quadro RTX 5000", 48, 1.815), ("Quadro RTX 4000", 36, 1.545), ("Tesla T4", 40, 1.590),
    ),
    # Ampere
    *_boost(
        "NVIDIA A100 whitepaper, table of A100 GPUs (19.5, 156 and 312 TFLOP/s)", AMPERE_100,
        ("A100-SXM4-40GB|A100-SXM4-80GB|A100-PCIE-40GB|A100 80GB PCIe|A100-SXM-80GB|A100-PCIE-80GB", 108, 1.410),
    ),
    *_boost("NVIDIA A30 datasheet (10.3, 82 and 165 TFLOP/s)", AMPERE_100, ("A30", 56, 1.440)),
    *_boost(
        "NVIDIA datasheets (A10 31.2 and 125, A40 37.4 and 149.7, A2 4.5 and 18 TFLOP/s)", AMPERE_ADA_PRO,
        ("A10", 72, 1.695), ("A40", 84, 1.740), ("A2", 10, 1.770),
    ),
    *_boost(_GA102, AMPERE_ADA_PRO, ("RTX A6000", 84, 1.800), ("RTX A5000", 64, 1.695), ("RTX A4000", 48, 1.560)),
    *_boost(
        _GA102, GEFORCE_30_TO_50,
        ("GeForce RTX 3050", 20, 1.777), ("GeForce RTX 3060", 28, 1.777), ("GeForce RTX 3060 Ti", 38, 1.665),
        ("GeForce RTX 3070", 46, 1.725), ("GeForce RTX 3070 Ti", 48, 1.770), ("GeForce RTX 3080", 68, 1.710),
        ("GeForce RTX 3080", 70, 1.710), ("GeForce RTX 3080 Ti", 80, 1.665), ("GeForce RTX 3090", 82, 1.695),
        ("GeForce RTX 3090 Ti", 84, 1.860),
    ),
    # Ada
    *_boost(
        _ADA, GEFORCE_30_TO_50,
        ("GeForce RTX 4060", 24, 2.460), ("GeForce RTX 4060 Ti", 34, 2.535), ("GeForce RTX 4070", 46, 2.475),
        ("GeForce RTX 4070 SUPER", 56, 2.475), ("GeForce RTX 4070 Ti", 60, 2.610),
        ("GeForce RTX 4070 Ti SUPER", 66, 2.610), ("GeForce RTX 4080", 76, 2.505), ("GeForce RTX 4080 SUPER", 80, 2.550),
        ("GeForce RTX 4090", 128, 2.520), ("GeForce RTX 4090 D", 114, 2.520),
    ),
    *_boost("NVIDIA L40 datasheet (90.5, 90.5 and 181 TFLOP/s dense)", GEFORCE_30_TO_50, ("L40", 142, 2.490)),
    *_boost(
        "NVIDIA L4, L40S and RTX 6000 Ada datasheets (sparse figures halved: L4 121, L40S 366, RTX 6000 Ada 364 TFLOP/s)",
        AMPERE_ADA_PRO, ("L4", 58, 2.040), ("L40S", 142, 2.520), ("RTX 6000 Ada Generation", 142, 2.505),
    ),
    # Hopper: 128 cores x 2; 4 tensor cores x 512 x 2
    GpuSpec(
        ("H100 80GB HBM3", "H200", "GH200 480GB", "GH200 120GB", "GH200 144G HBM3e"), 132, HOPPER, 1.980, "boost",
        f"{_HOPPER}; H200 and GH200 datasheets (67, 494 and 989 TFLOP/s)", tensor_clock=1.830,
    ),
    GpuSpec(("H100 PCIe",), 114, HOPPER, 1.755, "boost", _HOPPER, tensor_clock=1.620),
    _published(
        "NVIDIA H100 NVL and H200 NVL datasheets (sparse figures halved; no clock given)", HOPPER,
        "H100 NVL|H200 NVL", 132, fp32=60, tf32=417.5, bf16=835.5, fp16=835.5,
    ),
    # Blackwell
    _published(
        "NVIDIA HGX B200 datasheet, one GPU (sparse figures halved; no clock given)", BLACKWELL_100,
        "B200", 148, fp32=75, tf32=1100, bf16=2250, fp16=2250,
    ),
    _published(
        "NVIDIA GB200 NVL72 datasheet, one GPU (sparse figures halved; no clock given)", BLACKWELL_100,
        "GB200", None, fp32=80, tf32=1250, bf16=2500, fp16=2500,
    ),
    *_boost(
        _BLACKWELL, GEFORCE_30_TO_50,
        ("GeForce RTX 5060", 30, 2.497), ("GeForce RTX 5060 Ti", 36, 2.572), ("GeForce RTX 5070", 48, 2.512),
        ("GeForce RTX 5070 Ti", 70, 2.452), ("GeForce RTX 5080", 84, 2.617), ("GeForce RTX 5090", 170, 2.407),
    ),
    # CDNA 2 and 3; float32 by matrix cores or packed instructions
    *_boost(
        "AMD Instinct MI200 datasheets (MI210 45.3 matrix and 181, MI250X 95.7 and 383, MI250 362.1 TFLOP/s); one die",
        CDNA2,
        ("AMD Instinct MI210", 104, 1.700), ("AMD Instinct MI250X", 110, 1.700), ("AMD Instinct MI250", 104, 1.700),
        ("AMD Instinct MI250X / MI250", 110, 1.700), ("AMD Instinct MI250X / MI250", 104, 1.700),
    ),
    *_boost(
        "AMD Instinct MI300A, MI300X and MI325X datasheets (163.4, 653.7 and 1307.4 TFLOP/s with 304 compute units)",
        CDNA3,
        ("AMD Instinct MI300A", 228, 2.100), ("AMD Instinct MI300X", 304, 2.100), ("AMD Instinct MI325X", 304, 2.100),
    ),
)  # fmt: skip
