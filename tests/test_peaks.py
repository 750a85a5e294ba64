"""Theoretical peaks: cited values, a product's arithmetic, and no guess where a name is only similar."""

from __future__ import annotations

from typing import get_args

import pytest

from cnnbench.machine import peaks
from cnnbench.schema import Device, Machine, Precision


def gpu(name: str, **fields: object) -> Device:
    return Device.model_validate({"id": "cuda:0", "kind": "cuda", "name": name, **fields})


def machine(**fields: object) -> Machine:
    """A bare-metal EPYC 9654 (Zen 4), unless fields say otherwise."""
    standard: dict[str, object] = {
        "id": "m",
        "cpu_name": "AMD EPYC 9654",
        "cpu_vendor": "AuthenticAMD",
        "cpu_family": 25,
        "cpu_model": 17,
        "cpu_isa": ("avx", "fma", "avx2", "avx512f", "avx512_bf16"),
        "cpu_max_clock_hertz": 3.7e9,
        "cores_physical": 96,
        "cores_logical": 192,
        "cores_allowed": 192,
        "memory_bytes": 1 << 34,
        "os": "Linux",
        "kernel": "6",
    }
    return Machine.model_validate({**standard, **fields})


CPU = Device(id="cpu", kind="cpu", name="any")


@pytest.mark.parametrize(
    ("name", "precision", "gigaflops"),
    [
        ("GRID K520", "fp32", 2448),
        ("NVIDIA GeForce GTX 970", "fp32", 3494),
        ("GeForce GTX 1080", "fp32", 8873),
        ("NVIDIA H200", "fp32", 66_908),
        ("NVIDIA H200", "bf16", 989_430),
    ],
)
def test_the_specified_peaks_are_met(name: str, precision: str, gigaflops: float) -> None:
    """The lecture's GPUs and the H200, to the last digit of their GFLOP/s."""
    peak = peaks.theoretical_peak(gpu(name), machine(), precision)
    assert peak.flops_per_second is not None
    assert peak.flops_per_second / 1e9 == pytest.approx(gigaflops, abs=0.51)
    assert peak.source


@pytest.mark.parametrize(
    ("name", "precision", "teraflops"),
    [
        ("Tesla K80", "fp32", 8.73 / 2),
        ("GeForce GTX 980", "fp32", 4.612),
        ("Tesla P100-SXM2-16GB", "fp32", 10.6),
        ("Tesla V100-SXM2-16GB", "fp16", 125),
        ("Tesla T4", "fp16", 65),
        ("NVIDIA GeForce RTX 2080 Ti", "fp16", 53.8),
        ("NVIDIA TITAN RTX", "fp16", 130.5),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A100-SXM4-80GB", "tf32", 156),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312),
        ("NVIDIA A10", "bf16", 125),
        ("NVIDIA A30", "bf16", 165),
        ("NVIDIA A40", "bf16", 149.7),
        ("NVIDIA GeForce RTX 3090", "bf16", 71),
        ("NVIDIA GeForce RTX 3090", "tf32", 35.6),
        ("NVIDIA GeForce RTX 4090", "fp32", 82.6),
        ("NVIDIA GeForce RTX 4090", "bf16", 165.2),
        ("NVIDIA L4", "bf16", 121),
        ("NVIDIA L40", "bf16", 181.05),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.7),
        ("NVIDIA GeForce RTX 5090", "fp32", 104.8),
        ("NVIDIA GeForce RTX 5090", "bf16", 209.5),
        ("NVIDIA B200", "bf16", 2250),
        ("AMD Instinct MI210", "bf16", 181),
        ("AMD Instinct MI250X", "bf16", 383 / 2),
        ("AMD Instinct MI300X", "fp32", 163.4),
        ("AMD Instinct MI300X", "bf16", 1307.4),
    ],
)
def test_the_makers_printed_peaks_are_met(name: str, precision: str, teraflops: float) -> None:
    """The table's arithmetic gives the datasheet's or whitepaper's rounded TFLOP/s; one GPU of a board with two."""
    peak = peaks.theoretical_peak(gpu(name), machine(), precision)
    assert peak.flops_per_second == pytest.approx(teraflops * 1e12, rel=5e-3)


def test_the_physics_gate_stands_at_the_maximum_clock() -> None:
    """H200 bf16: 132 x 4096 x 1.98 GHz = 1,070,531 GFLOP/s, above the rated 1.83 GHz's."""
    bound = peaks.upper_bound(gpu("NVIDIA H200", max_clock_hertz=1.98e9), machine(), "bf16")
    assert bound == pytest.approx(1_070_531e9, abs=1e9)
    assert peaks.upper_bound(gpu("NVIDIA H200"), machine(), "bf16") is None


@pytest.mark.parametrize("precision", get_args(Precision))
def test_no_peak_is_above_its_bound(precision: str) -> None:
    """Whatever clock a device reports, the rated peak stays below the gate."""
    for chip in peaks.load_gpu_specs():
        for clock in (0.5e9, 3.5e9):
            device = gpu(chip.names[0], max_clock_hertz=clock, multiprocessors=chip.units or 148)
            rated = peaks.theoretical_peak(device, machine(), precision).flops_per_second
            bound = peaks.upper_bound(device, machine(), precision)
            assert (rated is None) == (bound is None)
            assert rated is None or bound is None or rated <= bound


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA H100",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "GeForce GTX 1060",
        "NVIDIA A100",
        "GTX 970",
        "NVIDIA GeForce GTX 1650",
    ],
)
def test_a_similar_name_is_not_the_product(name: str) -> None:
    """Unknown is None with the name in the reason."""
    peak = peaks.theoretical_peak(gpu(name), machine(), "fp32")
    assert peak.flops_per_second is None
    assert name in (peak.reason or "")


def test_one_name_two_cards_are_told_apart_by_multiprocessors() -> None:
    """RTX 3080: 68 multiprocessors with 10 GB, 70 with 12 GB; unknown is n/a, and so is any third count."""
    name = "NVIDIA GeForce RTX 3080"
    small, large, unknown, other = (
        peaks.theoretical_peak(gpu(name, multiprocessors=count), machine(), "fp32").flops_per_second
        for count in (68, 70, None, 60)
    )
    assert small is not None
    assert large is not None
    assert large / small == pytest.approx(70 / 68)
    assert unknown is None
    assert other is None


def test_a_mig_instance_has_no_whole_chips_peak() -> None:
    """A slice is not the chip."""
    assert "MIG" in (peaks.theoretical_peak(gpu("NVIDIA H200", mig=True), machine(), "bf16").reason or "")


def test_a_precision_a_chip_lacks_is_unknown_not_zero() -> None:
    """Pascal has no bf16, Kepler no tf32, no CPU tf32."""
    for device, precision in ((gpu("GeForce GTX 1080"), "bf16"), (gpu("GRID K520"), "tf32"), (CPU, "tf32")):
        peak = peaks.theoretical_peak(device, machine(), precision)
        assert peak.flops_per_second is None
        assert peak.reason


def test_every_entry_is_sourced_and_named_once() -> None:
    """No entry without a source; one name stands twice only where the multiprocessors tell the cards apart."""
    seen: set[tuple[str, int | None]] = set()
    for chip in peaks.load_gpu_specs():
        assert chip.source
        assert chip.rates["fp32"] > 0
        assert chip.published or chip.clock
        for name in chip.names:
            assert not name.startswith("NVIDIA")
            assert (name, chip.units) not in seen
            seen.add((name, chip.units))


def test_makers_figures_agree_with_the_multiprocessors() -> None:
    """A published rate asks for a clock between 0.9 and 2.2 GHz of the listed units, the same within 15 % at any precision."""
    for chip in peaks.load_gpu_specs():
        if chip.published and chip.units:
            clocks = [figure / (chip.units * chip.rates[precision]) for precision, figure in chip.published.items()]
            assert min(clocks) > 0.9e9
            assert max(clocks) < 2.2e9
            assert max(clocks) / min(clocks) < 1.16


@pytest.mark.parametrize(
    ("product", "gigaflops"),
    [("Intel i7-4790K", 512), ("AWS EC2 K520", 2448), ("GTX-970", 3494), ("GTX-1080", 8873), ("GTX-745", 793)],
)
def test_the_lectures_rows_have_peaks_by_name(product: str, gigaflops: float) -> None:
    """cores x FLOP/clk x clock for each row of the lecture's table."""
    host = machine(cpu_name=product, cpu_max_clock_hertz=None)
    device = CPU if product.startswith("Intel") else gpu(product)
    assert (peaks.theoretical_peak(device, host, "fp32").flops_per_second or 0) / 1e9 == pytest.approx(
        gigaflops, abs=0.51
    )


def test_a_cpu_peak_is_cores_times_rate_times_boost() -> None:
    """Zen 4: 96 cores x 32 x 3.7 GHz; two threads of a core share its pipes."""
    peak = peaks.theoretical_peak(CPU, machine(), "fp32")
    assert peak.flops_per_second == pytest.approx(96 * 32 * 3.7e9)
    assert "96 cores x 32" in peak.formula


def test_half_the_cores_is_half_the_peak() -> None:
    """The peak is of the cores allowed."""
    whole = peaks.theoretical_peak(CPU, machine(), "fp32").flops_per_second
    half = peaks.theoretical_peak(CPU, machine(cores_allowed=48), "fp32").flops_per_second
    assert whole is not None
    assert half == pytest.approx(whole / 2)


def test_without_a_boost_clock_a_cpu_has_no_peak() -> None:
    """A virtual machine shows a nominal clock: n/a, with the reason."""
    peak = peaks.theoretical_peak(CPU, machine(cpu_max_clock_hertz=None), "fp32")
    assert peak.flops_per_second is None
    assert "boost clock" in (peak.reason or "")


def test_a_named_cpu_stands_in_with_its_rated_clock_but_not_as_a_bound() -> None:
    """i7-4790K without a readable clock: 4 x 32 x 4.0 GHz = 512 GFLOP/s; a base clock bounds nothing."""
    fields = {
        "cpu_name": "Intel(R) Core(TM) i7-4790K CPU @ 4.00GHz",
        "cpu_vendor": "GenuineIntel",
        "cpu_family": 6,
        "cpu_model": 60,
        "cpu_max_clock_hertz": None,
        "cores_physical": 4,
        "cores_allowed": 8,
    }
    assert peaks.theoretical_peak(CPU, machine(**fields), "fp32").flops_per_second == 512e9
    assert peaks.upper_bound(CPU, machine(**fields), "fp32") is None
    fields["cpu_max_clock_hertz"] = 4.4e9
    assert peaks.upper_bound(CPU, machine(**fields), "fp32") == pytest.approx(4 * 32 * 4.4e9)


@pytest.mark.parametrize(
    ("vendor", "family", "model", "name", "isa", "rate"),
    [
        ("AuthenticAMD", 0x17, 0x01, "EPYC 7601", ("fma",), 16),
        ("AuthenticAMD", 0x17, 0x31, "EPYC 7742", ("fma",), 32),
        ("AuthenticAMD", 0x19, 0x01, "EPYC 7763", ("fma",), 32),
        ("AuthenticAMD", 0x19, 0x61, "Ryzen 9 7950X", ("fma", "avx512f"), 32),
        ("AuthenticAMD", 0x1A, 0x44, "Ryzen 9 9950X", ("fma", "avx512f"), 64),
        ("AuthenticAMD", 0x1A, 0x24, "Ryzen AI 9 HX 370", ("fma", "avx512f"), None),
        ("GenuineIntel", 6, 0x3C, "i7-4790K", ("avx", "fma"), 32),
        ("GenuineIntel", 6, 0x3A, "i7-3770", ("avx",), 16),
        ("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz", ("fma", "avx512f"), 64),
        ("GenuineIntel", 6, 0x55, "Intel(R) Xeon(R) Silver 4114", ("fma", "avx512f"), None),
        ("GenuineIntel", 6, 0x6A, "Intel(R) Xeon(R) Platinum 8375C", ("fma", "avx512f"), 64),
        ("GenuineIntel", 6, 0x6A, "the same with AVX-512 masked", ("fma",), 32),
        ("GenuineIntel", 6, 0x97, "12th Gen Intel(R) Core(TM) i9-12900K", ("fma",), None),
        ("ARM", None, 0xD4F, "Neoverse-V2", ("neon", "sve"), 32),
        ("ARM", None, 0xD08, "Cortex-A72", ("neon",), None),
    ],
)
def test_float32_rates_by_family_and_model(
    vendor: str, family: int | None, model: int, name: str, isa: tuple[str, ...], rate: int | None
) -> None:
    """FLOPs a clock and core as the optimisation manuals give them; hybrids and unknown product lines are n/a."""
    fields = {"cpu_vendor": vendor, "cpu_family": family, "cpu_model": model, "cpu_name": name, "cpu_isa": isa}
    peak = peaks.theoretical_peak(CPU, machine(**fields, cores_physical=1, cpu_max_clock_hertz=1.0), "fp32")
    assert peak.flops_per_second == rate
    assert (rate is None) == (peak.reason is not None)


def test_amx_gives_a_bf16_peak_only_where_the_flag_is_shown() -> None:
    """A tile product of 16 x 16 x 32 multiply-accumulates in 16 clocks: 1024 FLOPs a clock and core."""
    fields = {"cpu_vendor": "GenuineIntel", "cpu_family": 6, "cpu_model": 0x8F, "cores_physical": 1, "cores_allowed": 1}
    with_flag = peaks.theoretical_peak(CPU, machine(**fields, cpu_isa=("fma", "avx512f", "amx_bf16")), "bf16")
    assert with_flag.flops_per_second == pytest.approx(16 * 16 * 32 * 2 / 16 * 3.7e9)
    assert peaks.theoretical_peak(CPU, machine(**fields, cpu_isa=("fma", "avx512f")), "bf16").flops_per_second is None
