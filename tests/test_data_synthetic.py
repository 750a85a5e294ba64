"""Procedural digits: the same bytes everywhere, MNIST's shapes, learnable, and none seen twice."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from cnnbench import data, workloads
from cnnbench.data import VALIDATION_IMAGES, synthetic
from cnnbench.engine.batches import TrainingSetup
from cnnbench.engine.training import Training
from cnnbench.schema import Job

SHA256 = {1: "874f4748e54372295d7ddd429b1b0f7861d86d297b957652da35dc616d8dae2f"}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, ...]:
    return synthetic.generate()


def test_every_machine_draws_the_same_bytes(digits):
    """SHA-256 over all four arrays of the default set, by version; a new digest needs a new VERSION."""
    found = hashlib.sha256(b"".join(array.tobytes() for array in digits)).hexdigest()
    assert found == SHA256[synthetic.VERSION]


def test_arrays_have_the_shapes_of_mnist(digits):
    assert [array.shape for array in digits] == [(60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,)]
    assert {array.dtype for array in digits} == {np.dtype(np.uint8)}


def test_each_class_has_a_tenth_of_the_images(digits):
    """Binomial, n = 60,000 and 10,000: five standard deviations are 367 and 150."""
    assert np.all(np.abs(np.bincount(digits[1], minlength=10) - 6_000) < 367)
    assert np.all(np.abs(np.bincount(digits[3], minlength=10) - 1_000) < 150)


def test_no_test_image_is_a_training_image_and_none_comes_twice(digits):
    seen = {image.tobytes() for array in (digits[0], digits[2]) for image in array}
    assert len(seen) == 70_000


def test_another_seed_draws_other_digits(digits):
    images, labels, *_ = synthetic.generate(seed=1, train=500, test=0)
    assert not np.array_equal(labels, digits[1][:500])
    assert not np.array_equal(images, digits[0][:500])


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251])
def test_fewer_digits_are_the_first_of_more(digits, count):
    images, labels, test_images, test_labels = synthetic.generate(train=count, test=count)
    for few, many in zip((images, labels, test_images, test_labels), digits, strict=True):
        assert np.array_equal(few, many[:count])


def test_ink_stays_in_the_picture(digits):
    """The outermost frame holds speckle alone: a digit that ran off the canvas would leave a bright edge."""
    frame = np.ones((28, 28), dtype=bool)
    frame[1:-1, 1:-1] = False
    border = digits[0][:, frame]
    assert border.mean() < 30  # speckle is uniform up to a level uniform in 0 to 90: mean 22.5
    assert np.mean(border > 90) < 0.003


def test_the_mean_images_of_the_classes_differ(digits):
    """A picture of each class: the mean of half of it is nearest to the mean of its own other half."""
    images, labels, test_images, test_labels = digits
    means = np.stack([images[labels == label].mean(axis=0).ravel() for label in range(10)])
    others = np.stack([test_images[test_labels == label].mean(axis=0).ravel() for label in range(10)])
    distance = np.square(means[:, None] - others[None]).sum(axis=2)
    assert distance.argmin(axis=1).tolist() == list(range(10))


def test_synthetic_digits_are_not_trivial(digits):
    """The nearest class mean must not do: a linear rule stays below 90 %, so the CNN has something to learn."""
    images, labels, test_images, test_labels = digits
    means = np.stack([images[labels == label].mean(axis=0).ravel() for label in range(10)])
    test = test_images[:2_000].reshape(2_000, -1).astype(np.float64)
    nearest = (np.square(means).sum(axis=1) - 2 * test @ means.T).argmin(axis=1)
    assert 0.4 < np.mean(nearest == test_labels[:2_000]) < 0.9


def test_loading_synthetic_digits_splits_them_as_mnist(digits):
    whole = data.load("synthetic", "train-60000", None)
    assert whole.kind == "synthetic"
    assert whole.source == f"procedural digits, version {synthetic.VERSION}, seed {synthetic.SEED}"
    assert np.array_equal(whole.train_images, digits[0])
    part = data.load("synthetic", "train-55000", None)
    assert np.array_equal(part.train_images, digits[0][VALIDATION_IMAGES:])
    assert np.array_equal(part.train_labels, digits[1][VALIDATION_IMAGES:])
    assert part.test_images.shape == (10_000, 28, 28)


def test_drawing_needs_numpy_alone():
    """A worker's and the command line's import of the room brings neither torch nor pandas nor scipy."""
    code = (
        "import sys; from cnnbench import data; from cnnbench.data import synthetic; synthetic.generate(train=1, test=1);"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow("whole trainings")
def test_the_lecture_cnn_learns_synthetic_digits():
    """At least 97 % of held-out digits right within 300 steps (38,400 images, 0.7 epochs) of the reference loop.

    RMSProp with epsilon 1e-10 swings by a point or two from step to step, hence the best of three looks.
    """
    whole = synthetic.generate(train=38_400, test=2_000)
    dataset = data.Dataset("synthetic", *whole, source="test")
    workload = workloads.get("mnist-cnn")
    job = Job(
        workload=workload.name,
        workload_version=workload.version,
        optimizer=workload.default_optimizer,
        init=workload.default_init,
        data="synthetic",
        split="train-60000",
    )
    training = Training(TrainingSetup(job, workload, dataset, torch.device("cpu")))
    shares = []
    for step in range(1, 301):
        training.step()
        if step in (250, 275, 300):
            correct, images = training.count_correct()
            shares.append(correct / images)
    assert max(shares) >= 0.97, shares
