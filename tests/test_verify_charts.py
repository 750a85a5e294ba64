"""Charts are audited: the figures of every mark from raw blocks, what is drawn and said from the marks."""

from __future__ import annotations

import json
import re
import struct
import zlib

import pytest
import report_builders
from audit_builders import FOLDER, Made, over_another, priced, put, resealed, with_another_digit

from cnnbench.report import chart_images

KEYS = sorted(chart.key for chart in report_builders.page().charts)
DATA = re.compile(r'(?<="rows":\[).*(?=\]\}</metadata>)')
SHORT = re.compile(r'(?<=":)\d[\d.]{0,8}')
"""A number's first digits: beyond nine the order of a sum decides."""
WORDS = re.compile(r'(?<=-wide-title">)[^<]*(?=</title>)|(?<=-wide-desc">)[^<]*(?=</desc>)')


@pytest.fixture(scope="module")
def made() -> Made:
    return priced()


def name(key: str) -> str:
    return f"{FOLDER}/charts/{key}.svg"


def missed(made: Made, file: str, text: str, within: re.Pattern[str], most: int) -> list[str]:
    return [where for each, where in with_another_digit(text, within, most) if not made.findings({file: each})]


def test_there_is_a_drawing_of_every_chart_and_they_agree(made: Made) -> None:
    drawings = {path.stem: text for path, text in made.files.items() if path.suffix == ".svg"}
    assert sorted(drawings) == KEYS
    assert made.findings({name(key): text for key, text in drawings.items()}) == []


@pytest.mark.parametrize("key", KEYS)
class TestEveryChart:
    """One changed digit, with the digest of the data put right."""

    def test_in_its_data_is_named(self, made: Made, key: str) -> None:
        text = made.text(name(key))
        data = DATA.search(text)
        assert data is not None
        before, after = text[: data.start()], text[data.end() :]
        changed = with_another_digit(data.group(), SHORT, 25)
        findings = ((made.findings({name(key): resealed(before + each + after)}), where) for each, where in changed)
        assert [where for found, where in findings if not found] == []

    def test_in_its_words_is_named(self, made: Made, key: str) -> None:
        assert missed(made, name(key), made.text(name(key)), WORDS, 25) == []

    def test_in_the_label_of_a_row_or_a_value_is_named(self, made: Made, key: str) -> None:
        """Not the numbers of an axis that has two of them: any two lie on a line."""
        text = made.text(name(key))
        labels = re.compile(r"<tspan[^>]*>[^<]*|mark-text role-mark.*?</g>", re.DOTALL)
        found = [m for m in labels.finditer(text) for m in re.finditer(r"(?<=>)[^<>]+", m.group())]
        drawn = re.compile("|".join(rf"(?<=>){re.escape(m.group())}(?=<)" for m in found) or r"(?!)")
        assert missed(made, name(key), text, drawn, 15) == []

    def test_data_that_were_changed_without_their_digest_are_named(self, made: Made, key: str) -> None:
        text = made.text(name(key)).replace('"rows":[{', '"rows":[{"more":1,', 1)
        found = made.findings({name(key): text})
        assert any("mark 1: more is 1, from the records it is None" in each for each in found)


def test_a_number_of_an_axis_that_does_not_fit_its_place_is_named(made: Made) -> None:
    for key in ("speedup", "roofline", "memory", "noise"):
        text = made.text(name(key))
        axis = re.search(r'role-axis-label"[^>]*>(?:<text[^>]*>[^<]*</text>){3,}', text)
        assert axis is not None, key
        ticks = re.compile(r"(?<=>)[^<>]*\d[^<>]*(?=</text>)")
        at = slice(axis.start(), axis.end())
        changed = [(text[: at.start] + each + text[at.stop :], where) for each, where in _ticks(text[at], ticks)]
        assert [where for each, where in changed if not made.findings({name(key): each})] == []


def _ticks(axis: str, ticks: re.Pattern[str]) -> list[tuple[str, str]]:
    """Its numbers with the first digit another."""
    found = []
    for tick in ticks.finditer(axis):
        first = re.search(r"[1-9]", tick.group())
        if first is not None:
            place = tick.start() + first.start()
            other = str(int(axis[place]) % 9 + 1)
            found.append((axis[:place] + other + axis[place + 1 :], tick.group()))
    return found


def test_an_axis_whose_numbers_are_nowhere_is_named(made: Made) -> None:
    """A place beyond every number makes the others no numbers, which fit nowhere."""
    text = made.text(name("speedup"))
    axis = re.search(r'role-axis-label"[^>]*>(?:<text[^>]*>[^<]*</text>){3,}', text)
    assert axis is not None
    first, *others = axis.group().split("translate(")[1:]
    away = (re.sub(r"^[\d.]+", "1e999", each) for each in others)
    changed = axis.group().split("translate(")[0] + "".join(f"translate({each}" for each in (first, *away))
    found = made.findings({name("speedup"): text.replace(axis.group(), changed)})
    assert any("do not fit their places" in each for each in found)


def test_a_chart_without_rules_and_a_mark_without_a_row_are_named(made: Made) -> None:
    text = made.text(name("memory"))
    other = resealed(text.replace('"chart":"memory"', '"chart":"memories"'))
    assert any("not a chart of this report" in each for each in made.findings({name("memories"): other}))
    moved = re.sub(r'"row":"[0-9a-f]{12}"', '"row":"000000000000"', text, count=1)
    assert any("000000000000" in each for each in made.findings({name("memory"): resealed(moved)}))


def test_a_mark_that_lacks_a_field_is_named_and_not_a_crash(made: Made) -> None:
    for key in KEYS:
        text = made.text(name(key))
        for field in set(re.findall(r'"(\w+)":', text)) - {"chart", "sha256", "rows"}:
            assert made.findings({name(key): put(text, f'"{field}":', f'"{field}s":')}), (key, field)


def test_the_charts_of_a_page_are_audited(made: Made) -> None:
    """Their data, and in both drawings the values; what is said of them in words."""
    page = f"{FOLDER}/index.html"
    text = made.text(page)
    whole = re.search(r'<figure class="chart" id="chart-speedup">.*?</figure>', text, re.DOTALL)
    assert whole is not None
    for old, new in (
        ('"speedup_over_reference":1.0,', '"speedup_over_reference":1.1,'),
        (">19.36x<", ">19.37x<"),
        ("2017 4.78x; GTX-970", "2017 4.79x; GTX-970"),
    ):
        assert old in whole.group()
        figure = whole.group().replace(old, new)
        assert made.findings({page: resealed(text.replace(whole.group(), figure))}), old


def test_a_document_describes_a_picture_as_it_does_itself(made: Made) -> None:
    document, picture = f"{FOLDER}/report.md", name("speedup")
    text = put(made.text(document), "2017 4.78x; GTX-970", "2017 4.79x; GTX-970")
    found = made.findings({document: text, picture: made.text(picture)})
    assert any(document in each and "is not what these ledgers give" in each for each in found)


def test_charts_over_another_baseline_are_audited() -> None:
    made = over_another()
    text = made.text("page.html")
    assert made.findings({"page.html": text}) == []
    page = re.search(r'"speedup":(0\.\d{4})', text)
    assert page is not None
    assert made.findings({"page.html": put(text, page.group(), f'"speedup":0.9{page.group(1)[3:]}')})


def test_pictures_as_png_and_specifications_are_audited(made: Made) -> None:
    chart = next(chart for chart in report_builders.page().charts if chart.key == "energy")
    png, vega = chart_images.png(chart).decode("latin-1"), chart_images.specification(chart)
    folder = f"{FOLDER}/charts/energy"
    assert made.findings({f"{folder}.png": png, f"{folder}.vl.json": vega, "x.png": png[:40], "x.vl.json": "{}"}) == []
    watts = f'"watts":{report_builders.WATTS}'
    assert watts in png
    assert made.findings({f"{folder}.png": png.replace(watts, watts.replace("25", "26"))})
    rows = json.loads(vega)
    rows["datasets"]["rows"][0]["watts"] = 260.0
    assert made.findings({f"{folder}.vl.json": json.dumps(rows)})


def test_a_picture_of_somebody_else_is_none_of_our_business(made: Made) -> None:
    empty = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    assert made.findings({"x.png": empty.decode("latin-1"), "x.svg": "<svg><text>1</text></svg>"}) == []


def test_the_labels_of_two_rows_that_change_places_are_named(made: Made) -> None:
    """In the drawing alone: its data and its description stay as they are."""
    text = made.text(name("speedup"))
    first, second = re.findall(r"<tspan[^>]*>(GTX-970|GTX-1080)<", text)
    swapped = re.sub(
        r"(<tspan[^>]*>)(GTX-970|GTX-1080)<",
        lambda found: f"{found.group(1)}{second if found.group(2) == first else first}<",
        text,
    )
    assert swapped != text
    assert any("labels the rows" in each for each in made.findings({name("speedup"): swapped}))
