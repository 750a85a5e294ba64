"""What docs/stability.md promises: ledgers of every schema are read, and its lists of names and numbers are the program's."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import builders as b
import pytest
import report_builders
import variant_records
from click.testing import CliRunner
from test_first_day import fitted
from test_zeros_left_out import run as run_tuned

from cnnbench import paired_protocol, store
from cnnbench.cli.main import cli
from cnnbench.cluster import state
from cnnbench.errors import ExitCode
from cnnbench.plan.suite import find_suite
from cnnbench.regression.check_record import CheckHeader
from cnnbench.regression.noise_profile import NoiseProfile
from cnnbench.schema import PROTOCOL, RENAMED_SUITES, SCHEMA, current_suite_name

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
FROZEN = ROOT / "tests" / "ledgers"
"""Made up, one of each schema that no run in results/ has; a change of schema adds one and edits none."""
MEASURED = sorted(path for folder in (ROOT / "results", FROZEN) for path in folder.glob("*/*.jsonl"))


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}")[2].partition("\n## ")[0]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def by_schema() -> dict[int, list[Path]]:
    found = defaultdict(list)
    for path in MEASURED:
        first = read_lines(path)[0]
        if first["kind"] == "run":
            found[first["schema_version"]].append(path)
    return found


def find_lost(before: Any, after: Any, place: str = "$") -> list[str]:
    """Where a value that was in the line is not in what was read."""
    if isinstance(before, dict):
        missing = [f"{place}.{name}" for name in before if name not in after]
        both = (name for name in before if name in after)
        return missing + [lost for name in both for lost in find_lost(before[name], after[name], f"{place}.{name}")]
    if isinstance(before, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [lost for n, (old, new) in pairs for lost in find_lost(old, new, f"{place}[{n}]")]
    return [] if before == after else [place]


def test_there_is_a_ledger_of_every_schema_so_far() -> None:
    """Where this fails after a change of schema, freeze a small ledger of the schema before it in tests/ledgers."""
    assert sorted(by_schema()) == list(range(1, SCHEMA + 1))


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_ledgers_of_each_schema_are_read_whole(schema: int) -> None:
    """Every line is a record, and every value of the line is in it."""
    for path in by_schema()[schema]:
        ledger, lines = store.load_tree([path]).ledgers[0], read_lines(path)
        assert ledger.problems == ()
        assert len(ledger.records) == len(lines) - 1 > 0
        for line, read in zip(lines, (ledger.header, *ledger.records), strict=True):
            assert find_lost(line, read.model_dump(mode="json")) == [], path


def test_a_lost_value_would_be_found() -> None:
    old = {"a": {"b": [1, {"c": 2.5}], "d": None}}
    assert find_lost(old, {"a": {"b": [1, {"c": 2.5}], "d": None, "new": 0}}) == []
    assert find_lost(old, {"a": {"b": [1, {"c": 2.0}]}}) == ["$.a.d", "$.a.b[1].c"]


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_rows_of_each_schema_are_shown_with_their_figures(schema: int) -> None:
    path = by_schema()[schema][0]
    done = CliRunner().invoke(
        cli, ["show", str(path), "--only", "training", "--format", "json"], catch_exceptions=False
    )
    assert done.exit_code == ExitCode.DONE
    (table,) = json.loads(done.stdout)["tables"]
    assert table["rows"]
    assert all(row["achieved_flops_per_second"] > 0 for row in table["rows"] if row["processes_ok"])


def test_the_frozen_ledger_still_gives_the_figures_it_gave() -> None:
    """42,900 steps at the geometric mean of 80, 81 and 79 ms."""
    done = CliRunner().invoke(cli, ["show", str(FROZEN), "--only", "training", "--format", "json"])
    ((row,),) = ([*table["rows"]] for table in json.loads(done.stdout)["tables"])
    assert row["job_seconds"] == pytest.approx(42_900 * (0.080 * 0.081 * 0.079) ** (1 / 3), rel=1e-12)
    assert (row["job_seconds_n"], row["job_kind"]) == (3, "projected")


def test_suites_that_ledgers_name_are_found_by_today_s_name() -> None:
    named = {name for path in MEASURED for name in read_lines(path)[0].get("suites", ())}
    assert {"quick", "lecture", "ladder"} <= named
    for name in (*named, *RENAMED_SUITES):
        assert find_suite(current_suite_name(name)).is_file()
    for old, new in RENAMED_SUITES.items():
        assert f"`{old}` is `{new}` now" in " ".join(section("What compares").split())


def test_the_numbers_of_schemas_protocol_and_files_are_the_program_s() -> None:
    readable = section("Ledgers stay readable")
    assert [int(each) for each in re.findall(r"^\| (\d+) \|", readable, re.MULTILINE)] == list(range(1, SCHEMA + 1))
    listed = {name: int(n) for name, n in re.findall(r"\| `(\w+)` \| (\d+) \|$", readable, re.MULTILINE)}
    assert listed == {
        "schema_version": SCHEMA,
        "record_version": CheckHeader.model_fields["record_version"].default,
        "profile_version": NoiseProfile.model_fields["profile_version"].default,
        "version": state.VERSION,
    }
    assert f"the protocol: {PROTOCOL} today" in " ".join(section("What compares").split())
    assert paired_protocol.PROTOCOL_VERSION == 1  # spoken between the processes of one check, and stored nowhere


def test_the_json_names_listed_are_those_of_a_row_and_of_what_is_around_it(tmp_path: Path) -> None:
    """Of rows computed in every way, so that none is left out."""
    variants = (variant_records.targets(), variant_records.ladder())
    native = b.ledger(run_tuned("native").records, run_id="20260304T120000Z-0001")
    line = b.ledger(fitted((0.05,)), run_id="20260305T120000Z-0001")
    results = report_builders.write(tmp_path / "results", [*report_builders.everything(), *variants, native, line])
    done = CliRunner().invoke(cli, ["show", str(results), "--format", "json"], catch_exceptions=False)
    document = json.loads(done.stdout)
    table = next(each for each in document["tables"] if each["key"] == "training")
    page = section("JSON names stay")
    around, values = page.partition("The values of a row of training:")[::2]
    assert list(document) == re.findall(r"`(cnnbench|options|tables|notes)`", around)[:4]
    assert {*table, "group", "kind", "notes"} <= {*re.findall(r"`(\w+)`", around)}
    ends = re.compile(r"(_low|_high|_n)$")
    there = {ends.sub("", name) for row in table["rows"] for name in row if not name.endswith("_text")}
    listed = re.findall(r"`(\w+)`", values.partition("\n\nNames are added")[0])
    assert len(listed) == len(set(listed))
    assert set(listed) == there - {"group", "kind", "notes"}


def test_the_exit_codes_listed_are_the_program_s() -> None:
    first = section("Exit codes stay").strip().partition(" mean ")[0]
    assert [int(each) for each in re.findall(r"\d+", first)] == sorted(ExitCode)
