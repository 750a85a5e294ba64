"""A suite that was renamed: what was recorded under its old name still counts, and the old name is answered with the new one."""

from __future__ import annotations

from pathlib import Path

import builders as b
import pytest
import run_builders as r

from cnnbench import store
from cnnbench.errors import SuiteError
from cnnbench.plan.suite import find_suite, suite_names
from cnnbench.regression.noise_profile import profile_path, stored_profile_path
from cnnbench.regression.screen import MetricStatus
from cnnbench.runner.run import find_unfinished
from cnnbench.schema import RENAMED_SUITES, current_suite_name
from cnnbench.store import Ledger

PAIRS = tuple(RENAMED_SUITES.items())


def test_each_old_name_leads_to_a_shipped_suite_and_is_none_itself() -> None:
    assert set(RENAMED_SUITES.values()) <= set(suite_names())
    assert not set(RENAMED_SUITES) & set(suite_names())
    assert current_suite_name("somebody's own") == "somebody's own"


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_who_types_the_old_name_is_told_the_new_one(old: str, new: str) -> None:
    with pytest.raises(SuiteError, match=f"no suite '{old}'; it has been renamed to '{new}'"):
        find_suite(old)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_calibration_made_under_the_old_name_is_found_until_there_is_a_new_one(
    old: str, new: str, tmp_path: Path
) -> None:
    before, after = profile_path(tmp_path, "box", old), profile_path(tmp_path, "box", new)
    assert stored_profile_path(tmp_path, "box", new) == after
    before.parent.mkdir(parents=True)
    before.write_text("{}")
    assert stored_profile_path(tmp_path, "box", new) == before
    assert stored_profile_path(tmp_path, "box", "quick") == profile_path(tmp_path, "box", "quick")
    after.write_text("{}")
    assert stored_profile_path(tmp_path, "box", new) == after


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_rows_saved_under_the_old_name_are_missed_in_a_run_under_the_new_one(old: str, new: str) -> None:
    def under(name: str, ledger: Ledger) -> Ledger:
        return Ledger(ledger.path, ledger.header.model_copy(update={"suites": {name: "0"}}), ledger.records)

    both = [
        under(old, b.ledger([*r.run(n, 0.01).records, b.record(b.gemm_job(), 0.002, index=3)], run_id=f"run-{n}"))
        for n in range(1, 10)
    ]
    judgement = r.held(r.saved(both), under(new, r.run(20, 0.01)))
    (found,) = [each for each in judgement.findings if each.job.workload == "gemm"]
    assert (found.metric, found.status) == ("records", MetricStatus.MISSING)


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_a_run_begun_under_the_old_name_can_be_resumed(old: str, new: str, tmp_path: Path) -> None:
    header = b.header(unstarted=[b.cnn_job()]).model_copy(update={"suites": {old: "0"}})
    with store.create(tmp_path, header) as writer:
        path = writer.path
    assert find_unfinished(tmp_path, header.machine.id, {new: "0"}).path == path
