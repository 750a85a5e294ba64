"""What a document was made of: the options recorded in it or beside it, else those that its own marks tell.

A folder and an HTML page carry theirs. A Markdown page, CSV or JSON file by itself does not: there the ways in which it can
have been made are tried, and the one counts that gives it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cnnbench.verify import documents, learning
from cnnbench.verify.documents import unescape

Options = Mapping[str, Any]
VALUES, INDEX = "page.json", "index.html"
MARK = "cnnbench_page"
_RUN = re.compile(r"Ledger [^\n/]*/([^\s/]+) sha256:([0-9a-f]*)")
_RUN_NAMED = re.compile(r"; run \S+[;)]")
_REST = re.compile(r"\[the whole report\]\(([^()]+)\)\.")
_PICTURE = re.compile(r"!\[[^\n]*\]\(([^()]+)/[^()/]+\.svg\)")
_SAMPLE = re.compile(r"stops when ([\d,]+) random test images are all right")
_MARGIN = re.compile(r" a loss of ([\d.]+) pp allowed")
_NETWORK = re.compile(r"a network right on ([\d,]+) of 10,000, epoch after epoch")


_NEEDED = {"template", "title", "all_runs", "currency", "baseline", "prices", "runs", "problems"}


def find_runs(text: str) -> list[tuple[str, str]]:
    """The runs whose ledgers a text names, with the digests it names."""
    return list(dict.fromkeys(_RUN.findall(unescape(text))))


@lru_cache(maxsize=8)
def read_options(text: str) -> Options | None:
    """The options in a page's values; None where it has none."""
    try:
        values = json.loads(text)
        options: Options = values["options"] if MARK in values else {}
    except (ValueError, KeyError, TypeError):
        return None
    return options if options.keys() >= _NEEDED or options.get("template") == "compare" else None


def embedded_options(text: str) -> Options | None:
    """The options in an HTML page."""
    return read_options(documents.read_html(text).stored.get("page-values", ""))


def folder_options(folder: Path, read: Callable[[Path], str | None]) -> Options | None:
    """The options of a report's folder, from its values, else from its page."""
    values, page = read(folder / VALUES), read(folder / INDEX)
    return (read_options(values) if values else None) or (embedded_options(page) if page else None)


def first_screen_links(part: str) -> tuple[str, str] | None:
    """Where a page's first screen says that the whole report and its charts are."""
    rest, picture = _REST.search(part), _PICTURE.search(part)
    if rest is None:
        return None
    return (picture.group(1) if picture else rest.group(1).rpartition("/")[0] + "/charts"), rest.group(1)


def guess_options(
    path: Path, text: str, places: Sequence[str], problems: Sequence[str], runs: Sequence[Sequence[str]]
) -> Iterator[Options]:
    """Every way in which a file by itself can have been made, the likely ones first; of these runs in turn."""
    for each in runs:
        yield from _guess_of_runs(path, unescape(text), places, problems, list(each))


def _guess_of_runs(
    path: Path, plain: str, places: Sequence[str], problems: Sequence[str], runs: list[str]
) -> Iterator[Options]:
    common: dict[str, Any] = {
        "runs": runs,
        "all_runs": bool(_RUN_NAMED.search(plain)),
        "problems": None,
        "known_problems": list(problems),
    }
    common["baseline"] = next((key for key in places if f"time of {key} (" in plain), None)
    margin, network = _MARGIN.search(plain), _NETWORK.search(plain)
    sample = next((int(found.replace(",", "")) for found in _SAMPLE.findall(plain)), None)
    if network:
        right = int(network.group(1).replace(",", ""))
        lines = (
            plain.count("\n| ") - 2
            if path.suffix == ".md"
            else max(plain.count("epoch_text"), plain.count("\nstopping,"))
        )
        yield common | {
            "command": "stopping",
            "accuracy": right / learning.IMAGES,
            "epochs": lines,
            "sample": sample or 200,
        }
        return
    report = common | {"title": None, "currency": "", "prices": []}
    if plain.startswith("# "):
        report["title"] = plain[2:].partition("\n")[0]
    yield from (report | {"template": template} for template in ("full", "lecture"))
    yield from (common | {"command": "show", "published": published, "only": None} for published in (False, True))
    if sample:
        yield common | {"command": "stopping", "sample": sample}
    if "loss_allowed" in plain or "loss allowed" in plain:
        yield common | {"command": "convergence", "margin": float(margin.group(1)) / 100 if margin else None}
    yield from (common | {"command": "show", "published": False, "only": only} for only in _ONLY)


_ONLY = ("training", "resources", "tta", "seeds", "bounds", "ladder", "scaling", "copies", "gemm")


def find_currency(text: str) -> str:
    """What prices are in, as the heading of their column says."""
    found = re.search(r"\| price an hour \[(.*?)\] \|", unescape(text))
    return found.group(1) if found else ""
