"""A finished trial can always be written and read back."""

from __future__ import annotations

import math

import builders as b

from cnnbench.engine.outcome import finite_losses
from cnnbench.schema import Outcome


def test_a_diverged_trial_survives_the_ledger() -> None:
    """A loss that is no number would be written as null, and the line refused: the record would be lost."""
    losses = finite_losses([2.3, 2.1, math.nan, 1.0, math.inf])
    assert losses == (2.3, 2.1)
    job = b.cnn_job()
    outcome = Outcome(status="diverged", message="the loss is nan", trial=b.trial(job, first_losses=losses))
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
