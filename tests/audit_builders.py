"""A report of a tree that has everything, as files in memory, and what the audit finds once some of it was changed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import report_builders
import variant_records
from click.testing import CliRunner

from cnnbench import store
from cnnbench.cli.audit import Rendered
from cnnbench.cli.main import cli
from cnnbench.schema import digest
from cnnbench.store import Ledger
from cnnbench.verify.audit import CHARTS, KINDS, VALUES, Auditor, read_document

FOLDER = "report"
BASELINE = "gpubox-9f9f/cpu/8"
README = "# Ours\n\n**We have 7 machines.**\n\n<!-- table: ours -->\n<!-- table end -->\n"
OPEN, NEWLINE = "<!-- table: ", "\n"
_DATA = re.compile(r'\{"chart":"([^"]*)","sha256":"[0-9a-f]{64}","rows":(.*?)\}(?=</script>|</metadata>)')


class Made:
    """The files of reports of that tree by name, and what audits them."""

    def __init__(self, *options: str, outputs: Sequence[str], ledgers: Sequence[Ledger] | None = None) -> None:
        with TemporaryDirectory() as place:
            directory = Path(place)
            results = report_builders.write(directory / "results", ledgers)
            (directory / "README.md").write_text(README)
            for output in outputs:
                into = ["--into", str(directory / "README.md"), "--static"] if output == FOLDER else []
                arguments = ["report", str(results), "-o", str(directory / output), *into, *options]
                done = CliRunner().invoke(cli, arguments)
                assert done.exit_code == 0, done.output
            found = sorted(path for path in directory.rglob("*") if path.suffix in KINDS)
            self.files = {path.relative_to(directory): read_document(path) for path in found}
            self.auditor = Auditor(store.load_tree([results]).ledgers, report_builders.REFERENCES, Rendered)

    def text(self, name: str) -> str:
        """A file's text."""
        return self.files[Path(name)]

    def findings(self, changed: Mapping[str, str] | None = None) -> list[str]:
        """What does not hold in these files alone, all of them where none is given."""
        files = self.files
        if changed is not None:
            files = {Path(name): text for name, text in changed.items()}
        values = {path.parent.parent / VALUES for path in files if path.parent.name == CHARTS} & self.files.keys()
        files = {path: self.files[path] for path in values} | files
        return [f"{each.where}: {each.what}" for each in self.auditor.check(files.items()).disagreements]


@cache
def priced() -> Made:
    """A folder with prices, drawings as SVG, and its first screen in a README."""
    prices = ("--price-per-hour", "2.5", "--price-per-hour", "gpubox-9f9f=12.34567", "--currency", "USD")
    return Made(*prices, outputs=[FOLDER])


@cache
def over_another() -> Made:
    """Page, document and tables with speed-ups over another machine's CPU."""
    return Made("--relative-to", BASELINE, outputs=["page.html", "page.md", "page.csv", "page.json"])


@cache
def varied() -> Made:
    """A folder of rows computed and trained in every way: seeds to a target, pre-training, inference, a ladder."""
    return Made(outputs=[FOLDER], ledgers=[variant_records.targets(), variant_records.ladder()])


def resealed(text: str) -> str:
    """The text with the digests of its charts' data and its own put right, as whoever changed it on purpose would."""

    def right(found: re.Match[str]) -> str:
        key, rows = found.groups()
        return f'{{"chart":"{key}","sha256":"{digest(f"{key}{chr(10)}{rows}")}","rows":{rows}}}'

    text = _DATA.sub(right, text)
    page, seal, rest = text.rpartition("\n<!-- cnnbench page sha256:")
    before, mark, part = page.rpartition(OPEN)
    begun = f"{before}{mark}{part.partition(NEWLINE)[0]}{NEWLINE}" if mark else ""
    return f"{page}{seal}{digest(page.removeprefix(begun))}{rest[64:]}" if seal else text


def put(text: str, old: str, new: str) -> str:
    """The text with its first `old` replaced, and its digests put right."""
    assert old in text, old
    return resealed(text.replace(old, new, 1))


def with_another_digit(text: str, within: re.Pattern[str], most: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """The text with one digit changed within a match of the pattern, its digests put right, and where; `most` samples."""
    rng = random.Random(seed)
    digit = re.compile(r"(?<!&#)(?<!&#\d)\d")  # the digits of &#39; are none
    places = [d.start() for m in within.finditer(text) for d in digit.finditer(text, m.start(), m.end())]
    for place in sorted(rng.sample(places, min(most, len(places)))):
        other = str((int(text[place]) + rng.randint(1, 9)) % 10)
        around = f"{text[max(0, place - 40) : place]}[{text[place]} is now {other}]{text[place + 1 : place + 20]}"
        yield resealed(text[:place] + other + text[place + 1 :]), around


def without_drawings(text: str) -> str:
    """An HTML page without its drawings, which is read much faster."""
    return resealed(re.sub(r"<svg\b.*?</svg>", "", text, flags=re.DOTALL))
