"""The study of rare bad seeds: its page and the documents follow from its counts, and its counts from the models."""

from __future__ import annotations

import math
from pathlib import Path

import noninferiority as study
import numpy as np
import pytest
from scipy.stats import t

DOCS = Path(__file__).parents[1] / "docs"
COUNTS, COMMAND = study.read_counts(DOCS / "studies" / "noninferiority.json")
BAD, NORMAL = study.MODELS[-1], study.MODELS[0]


def stored(model: study.SeedModel, seeds: int, paired: bool = True) -> study.PassCount:
    (found,) = [each for each in COUNTS if (each.model, each.seeds, each.paired) == (model.name, seeds, paired)]
    return found


def test_the_page_is_made_of_the_counts() -> None:
    assert (DOCS / "studies" / "noninferiority.md").read_text(encoding="utf-8") == study.render_page(COUNTS, COMMAND)


def test_the_table_of_the_documents_is_the_pages() -> None:
    words = (DOCS / "learning.md").read_text(encoding="utf-8")
    for model in (NORMAL, study.MODELS[2], BAD):
        shares = " | ".join(f"{100 * stored(model, seeds).share:.1f} %" for seeds in study.SEEDS)
        assert f"| {model.name} | {shares} |" in words


def test_the_words_of_the_rule_hold() -> None:
    """At most 5 % for normal seeds, within 4 standard errors of the counts; more than one in five where few seeds are bad."""
    for each in COUNTS:
        if each.model == NORMAL.name:
            assert each.share <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / each.tests)
    assert all(stored(BAD, seeds, paired).share > 0.2 for seeds in (5, 10) for paired in (True, False))


@pytest.mark.parametrize("model", study.MODELS, ids=lambda model: model.name)
def test_the_mode_is_worse_by_the_margin(model: study.SeedModel) -> None:
    """Both models have mean 0 before the margin is taken off, so the true difference is exactly the margin."""
    rng = study.random.Random(3)
    for draw in (model.plain, model.mode):
        values = [draw(rng) for _ in range(20_000)]
        assert abs(np.mean(values)) < 4.5 * np.std(values) / math.sqrt(len(values))


@pytest.mark.parametrize(("model", "seeds"), [(NORMAL, 5), (BAD, 10)], ids=["normal", "bad seeds"])
def test_an_independent_simulation_agrees(model: study.SeedModel, seeds: int) -> None:
    """Paired t on whole arrays, with draws of numpy's own; 4 standard errors of both counts."""
    rng, tests = np.random.default_rng(7), 20_000
    plain = rng.normal(0, study.SPREAD, (tests, seeds))
    mode = rng.normal(0, study.SPREAD, (tests, seeds)) - study.MARGIN
    if model is BAD:
        mode += study.MARGIN - 100 * (rng.random((tests, seeds)) < 0.1)
    apart = mode - plain
    low = apart.mean(1) - t.ppf(0.95, seeds - 1) * apart.std(1, ddof=1) / math.sqrt(seeds)
    share, known = np.mean(low > -study.MARGIN), stored(model, seeds)
    assert abs(share - known.share) < 4 * math.sqrt(share * (1 - share) * (1 / tests + 1 / known.tests))


def test_counts_are_those_of_the_seed() -> None:
    assert study.count_passes(BAD, 5, True, 200, seed=1) == study.count_passes(BAD, 5, True, 200, seed=1)
