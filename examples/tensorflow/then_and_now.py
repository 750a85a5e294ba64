"""Train the lecture's CNN by today's TensorFlow and by cnnbench's torch in turns, to tell software from hardware.

    python examples/tensorflow/then_and_now.py --rounds 6 --torch-python .venv/bin/python -o then-and-now.json

The published times of 2017 are of other hardware and of other software. On one machine this script times the same network,
batch, update rule, initialisation and dropout under both libraries of today: what they differ by here is software, the rest of
the ratio to the published time is hardware and what TensorFlow itself gained since 2017. Each round starts two fresh processes,
one after the other, in an order drawn by a coin; a process times blocks of steps after a warm-up and reports the median block.

The script needs TensorFlow (`pip install tensorflow-cpu`) in the Python that runs it, and cnnbench with torch in the one given
as `--torch-python` (by default the same). Neither belongs to cnnbench's own installation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
SIDE, CLASSES, BATCH, IMAGES = 28, 10, 128, 55_000
CHANNELS, HIDDEN = (32, 64, 128), 625
RATE, DECAY, EPSILON = 1e-3, 0.9, 1e-10
KEEP_POOL, KEEP_DENSE = 0.8, 0.5
STEPS_OF_THE_JOB = 42_900
"""100 epochs of 429 batches: the job that the published times are assumed to be of."""
LIBRARIES = ("tensorflow", "torch")


def weight_shapes() -> list[tuple[int, ...]]:
    """List the shapes of all weights: 3x3 filters `(side, side, in, out)`, then dense `(in, out)`; there are no biases."""
    channels = (1, *CHANNELS)
    shapes: list[tuple[int, ...]] = [(3, 3, *pair) for pair in itertools.pairwise(channels)]
    side = SIDE
    for _ in CHANNELS:
        side = math.ceil(side / 2)
    return [*shapes, (side * side * CHANNELS[-1], HIDDEN), (HIDDEN, CLASSES)]


def count_parameters() -> int:
    """Count the trainable values."""
    return sum(map(math.prod, weight_shapes()))


def count_flops() -> int:
    """Count the FLOPs of one image's training step: three forwards less the first layer's gradient to its input."""
    side, layers = SIDE, []
    for shape in weight_shapes():
        places = side * side if len(shape) == 4 else 1
        layers.append(2 * places * math.prod(shape))
        side = math.ceil(side / 2)
    return 3 * sum(layers) - layers[0]


@dataclass(frozen=True)
class Timing:
    """What one process measured."""

    library: str
    version: str
    median_step_seconds: float
    parameters: int
    first_loss: float
    last_loss: float
    threads: int


def read_digits(seed: int) -> tuple[Any, Any]:
    """Read the first 55,000 training digits as `(images, 28, 28)` in 0..1 with their labels, in their order.

    Without MNIST in $CNNBENCH_DATA they are random pixels, a fifth of them not black, with a bright row for each label.
    """
    import numpy as np

    folder = os.environ.get("CNNBENCH_DATA")
    if folder is not None:
        import gzip

        def read(name: str, skip: int) -> Any:
            path = Path(folder) / name
            raw = path.read_bytes() if path.exists() else gzip.decompress((Path(folder) / f"{name}.gz").read_bytes())
            return np.frombuffer(raw, np.uint8, offset=skip)

        images = read("train-images-idx3-ubyte", 16).reshape(-1, SIDE, SIDE)[:IMAGES].astype(np.float32) / 255.0
        return images, read("train-labels-idx1-ubyte", 8)[:IMAGES].astype(np.int64)
    random_state = np.random.default_rng(seed)
    labels = random_state.integers(0, CLASSES, IMAGES)
    images = random_state.random((IMAGES, SIDE, SIDE), np.float32) * (random_state.random((IMAGES, SIDE, SIDE)) < 0.2)
    images[np.arange(IMAGES), 2 * labels + 4] = 1.0
    return images.astype(np.float32), labels


def build_tensorflow_step(seed: int, threads: int) -> tuple[Callable[[], Any], str, int]:
    """Build one TensorFlow training step as a graph over batches in order; return it with the version and the parameters."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.random.set_seed(seed)
    images, labels = (tf.constant(each) for each in read_digits(seed))
    # Normal within two standard deviations, 0.1 before the cut, as TensorFlow 1's truncated_normal.
    weights = [tf.Variable(tf.random.truncated_normal(shape, stddev=0.1)) for shape in weight_shapes()]
    squares = [tf.Variable(tf.zeros_like(each)) for each in weights]
    position = tf.Variable(0, dtype=tf.int64)

    def compute_logits(batch: Any) -> Any:
        given = batch[..., tf.newaxis]
        for number, filters in enumerate(weights[:3]):
            given = tf.nn.relu(tf.nn.conv2d(given, filters, strides=1, padding="SAME"))
            given = tf.nn.max_pool2d(given, 2, 2, padding="SAME")
            given = tf.reshape(given, (BATCH, -1)) if number == len(CHANNELS) - 1 else given
            given = tf.nn.dropout(given, 1 - KEEP_POOL)
        given = tf.nn.dropout(tf.nn.relu(given @ weights[3]), 1 - KEEP_DENSE)
        return given @ weights[4]

    @tf.function(reduce_retracing=True)
    def step() -> Any:
        begin = position * BATCH
        batch, truth = images[begin : begin + BATCH], labels[begin : begin + BATCH]
        batch = tf.ensure_shape(batch, (BATCH, SIDE, SIDE))
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(truth, compute_logits(batch)))
        for weight, square, gradient in zip(weights, squares, tape.gradient(loss, weights), strict=True):
            # torch's rule: the mean square starts at 0, epsilon is outside the root. Keras has it inside.
            square.assign(DECAY * square + (1 - DECAY) * gradient * gradient)
            weight.assign_sub(RATE * gradient / (tf.sqrt(square) + EPSILON))
        position.assign((position + 1) % (IMAGES // BATCH))
        return loss

    return lambda: float(step().numpy()), tf.__version__, sum(int(tf.size(each)) for each in weights)


def build_torch_step(seed: int, threads: int) -> tuple[Callable[[], Any], str, int]:
    """Build cnnbench's plain reference step in float32; return it with torch's version and the number of parameters."""
    import torch
    from torch.nn.functional import cross_entropy

    from cnnbench import workloads
    from cnnbench.engine.optim import make_optimizer

    torch.set_num_threads(threads)
    network = workloads.get("mnist-cnn").build("truncated-0.1", seed).train()
    torch.manual_seed(seed)
    optimizer = make_optimizer("rmsprop", network.parameters())
    images, labels = (torch.from_numpy(each.copy()) for each in read_digits(seed))
    position = 0

    def step() -> float:
        nonlocal position
        begin = position * BATCH
        optimizer.zero_grad(set_to_none=True)
        loss = cross_entropy(network(images[begin : begin + BATCH, None]), labels[begin : begin + BATCH])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        position = (position + 1) % (IMAGES // BATCH)
        return float(loss.detach())

    return step, torch.__version__, sum(each.numel() for each in network.parameters())


def time_library(library: str, *, seed: int, threads: int, warmup: int, blocks: int, steps: int) -> Timing:
    """Time blocks of steps in this process; reading the loss ends each step."""
    build = {"tensorflow": build_tensorflow_step, "torch": build_torch_step}[library]
    step, version, parameters = build(seed, threads)
    losses = [step() for _ in range(warmup)]
    seconds = []
    for _ in range(blocks):
        begun = time.perf_counter()
        losses += [step() for _ in range(steps)]
        seconds.append((time.perf_counter() - begun) / steps)
    some = max(1, min(10, len(losses) // 2))
    first, last = statistics.fmean(losses[:some]), statistics.fmean(losses[-some:])
    return Timing(library, version, statistics.median(seconds), parameters, first, last, threads)


def order_rounds(rounds: int, seed: int) -> list[tuple[str, str]]:
    """Draw by a coin which library goes first in each round."""
    rng = random.Random(seed)
    return [LIBRARIES if rng.random() < 0.5 else (LIBRARIES[1], LIBRARIES[0]) for _ in range(rounds)]


def summarise(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """Summarise the median steps of each round: medians over rounds, and the median ratio TensorFlow / torch of a round."""
    medians = {f"{name}_step_seconds": statistics.median(each[name] for each in rounds) for name in LIBRARIES}
    return {
        **medians,
        **{f"{name}_job_seconds": STEPS_OF_THE_JOB * medians[f"{name}_step_seconds"] for name in LIBRARIES},
        "tensorflow_over_torch": statistics.median(each["tensorflow"] / each["torch"] for each in rounds),
    }


def run_worker(python: str, library: str, arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Time one library in a fresh process. Raises SystemExit with its last line if it fails."""
    options = {name: getattr(arguments, name) for name in ("threads", "warmup", "blocks", "steps")}
    command = [python, __file__, "--worker", library, "--seed", str(seed)]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"error: {library} did not run in {python}: {(done.stderr.strip() or '?').splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def positive(text: str) -> int:
    """Parse a whole number of at least 1."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def parse_arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=positive, default=6, help="pairs of processes (default: 6)")
    parser.add_argument(
        "--threads", type=positive, default=len(os.sched_getaffinity(0)), help="threads of each library"
    )
    parser.add_argument("--warmup", type=positive, default=20, help="steps before the timed ones (default: 20)")
    parser.add_argument("--blocks", type=positive, default=15, help="timed blocks of a process (default: 15)")
    parser.add_argument("--steps", type=positive, default=10, help="steps of a block (default: 10)")
    parser.add_argument("--seed", type=int, default=1, help="seed for weights, dropout and order (default: 1)")
    parser.add_argument("--torch-python", default=sys.executable, help="the Python that has cnnbench and torch")
    parser.add_argument("-o", "--output", type=Path, help="write the result there as JSON; else it is printed")
    parser.add_argument("--worker", choices=LIBRARIES, help=argparse.SUPPRESS)
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Time both libraries in turns and write the result, or be one of the processes that do."""
    arguments = parse_arguments(given)
    timing = {name: getattr(arguments, name) for name in ("seed", "threads", "warmup", "blocks", "steps")}
    if arguments.worker:
        sys.stdout.write(json.dumps(vars(time_library(arguments.worker, **timing))) + "\n")
        return 0
    pythons = {"tensorflow": sys.executable, "torch": arguments.torch_python}
    rounds = [
        {name: run_worker(pythons[name], name, arguments, arguments.seed + number) for name in order}
        for number, order in enumerate(order_rounds(arguments.rounds, arguments.seed))
    ]
    found = {
        "format": FORMAT,
        "batch_size": BATCH,
        "parameters": count_parameters(),
        "flops_per_image": count_flops(),
        **{name: value for name, value in timing.items() if name != "seed"},
        "seed": arguments.seed,
        "rounds": rounds,
        "summary": summarise([{name: each[name]["median_step_seconds"] for name in LIBRARIES} for each in rounds]),
    }
    text = json.dumps(found, indent=1) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        arguments.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
