"""Any text whatever, in any medium, is shown as the text it is."""

from __future__ import annotations

import csv
import html
import io
import json
import re

import pytest
from format_readers import STEERING, github, read_latex, seen
from hypothesis import example, given
from hypothesis import strategies as st

from cnnbench.plain_text import LONGEST
from cnnbench.report import escaping
from cnnbench.verify import documents

MARKS = st.sampled_from([*"\\`*_~<>|[]()!&#@$:./-+=\"'{}^%;,?ax1 \n\t", "http://", "www.", "é", "–", "…", "漢"])
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(MARKS, max_size=30).map("".join),
    st.text("\x1b[]\x9b\u202e\u2066\ud800 \n\r\x85\x1ca"),
)
"""Any text; words made of what means something somewhere; what steers."""


@given(TEXTS)
def test_a_plain_text_is_one_line_steers_nothing_and_stays_what_it_is(text: str) -> None:
    plain = escaping.plain(text)
    assert not STEERING.search(plain)
    assert len(plain.splitlines()) <= 1
    assert plain == " ".join(plain.split())
    assert escaping.plain(plain) == plain


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=LONGEST))
def test_a_decent_text_is_left_alone(text: str) -> None:
    assert escaping.plain(text) == text.replace("\u2028", " ")


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[2Jx", "�[2Jx"),
        ("\x9b31mred", "�31mred"),
        ("a\r\n\tb\x85c\u2029d\xa0e", "a b c d e"),
        ("\u202egnp.exe\u202c", "�gnp.exe�"),
        ("\u2066a\u2069", "�a�"),
        ("\ud83d", "�"),
        ("a\x1cb\x7f\x00", "a�b��"),
        ("   ", ""),
    ],
)
def test_what_steers_is_marked_and_what_spaces_is_one_blank(text: str, plain: str) -> None:
    assert escaping.plain(text) == plain


@given(st.integers(1, 2000), st.integers(2, 1000))
def test_a_long_text_is_cut_to_the_limit_and_says_so(length: int, longest: int) -> None:
    text = "x" * length
    plain = escaping.plain(text, longest)
    assert len(plain) == min(length, longest)
    assert plain == text or plain == text[: longest - 1] + "…"
    assert escaping.plain(text, None) == text


@given(TEXTS)
def test_a_printable_text_keeps_its_lines_and_length(text: str) -> None:
    printable = escaping.printable(text)
    assert not STEERING.search(printable)
    assert [len(line) for line in printable.split("\n")] == [len(line) for line in text.split("\n")]


PLACES = {
    "a paragraph": "{}",
    "after words": "Clock: {}.",
    "in bold": "**{}**",
    "in a list": "- {}\n- next",
    "in a cell": "| head | head |\n| --- | ---: |\n| {} | 1 |",
    "in a heading": "| {} | head |\n| --- | ---: |\n| 1 | 1 |",
}
ASKED_FOR = {"p", "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "span"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@given(text=TEXTS)
@example(text="http://evil.com")
@example(text="www.evil.com me@evil.com @octocat")
@example(text="![a](http://evil.com/x.png) <script>alert(1)</script> [^1] &amp; $x$ `code` :tada: \\")
@example(text="1. a\n- b")
def test_githubs_own_parser_shows_the_text_and_nothing_else(place: str, text: str) -> None:
    """Its HTML without the tags is the text; and there is no tag in it that the page did not ask for."""
    plain = escaping.plain(text, None)
    page = github(place.format(escaping.markdown(text)))
    if plain:
        assert plain in seen(page)
        assert len(seen(page)) == len(seen(github(place.format("x")))) - 1 + len(plain)
        assert set(re.findall(r"<([a-z]+\d?)", page)) <= ASKED_FOR


@given(TEXTS)
def test_the_audits_reader_undoes_what_was_escaped(text: str) -> None:
    """It shares no code with the printer."""
    assert documents.unescape(escaping.markdown(text)) == escaping.plain(text, None)
    cells = f"| processor | n |\n| --- | ---: |\n| {escaping.markdown(text)} | {escaping.markdown(text)} |\n"
    _, (_, row) = documents.read_markdown(cells)
    assert row == [escaping.plain(text, None)] * 2


@given(text=TEXTS)
def test_what_github_does_after_parsing_finds_nothing_to_do(text: str) -> None:
    """Mentions, bare addresses, formulas and pictures by name are looked for in the text of each element."""
    page = github(escaping.markdown(text))
    for part in re.split(r"<[^>]*>", page):
        assert not re.search(r"@[A-Za-z0-9]|://|www\.|\$.|:[a-z_]+:", html.unescape(part)), page


@pytest.mark.parametrize(
    "text",
    [
        "AMD EPYC 9575F",
        "0:51:44–1:04:59; projected, n=3",
        "100 x 429 = 42,900 steps",
        "1.5 - 2 and x-y, a+b = c",
        "sha256: e50cf829b13471fb (cuda:0), Student's t; 95.2 %!",
    ],
)
def test_normal_text_is_readable_in_the_markdown_source(text: str) -> None:
    assert escaping.markdown(text) == text


@given(TEXTS)
@example("".join(map(chr, range(32, 127))))
@example(
    "-- --- ,, '' `` it's 'so' \"x\" [a] * \\\\* – — … × ± ≥ ≤ ≈ µ · ° ² ³ √ → − ‘x’ “y” ® ™ © ‑ \\input{/etc/passwd}"
)
@example("* a")
def test_latex_sets_the_text_and_nothing_else(text: str) -> None:
    """Read by the manual's commands: no special character is left, and every one that was there is set."""
    same = {"\ufffd": "?", "μ": "µ", "\u2011": "-"}
    wanted = "".join(same.get(character, character) for character in escaping.plain(text, None))
    source = escaping.latex(text)
    assert read_latex(source) == wanted
    bare = re.sub(r"\\[{}]", "", source)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert not re.match(r"[\[*]", source), "after \\\\ it would be an option"


@pytest.mark.parametrize("text", ["-- all-runs", "it's n/a", "0.98 x (n=3)"])
def test_normal_text_is_readable_in_the_latex_source(text: str) -> None:
    assert escaping.latex(text).replace("{}", "") == text


@pytest.mark.parametrize(
    "text",
    [
        *(
            '=HYPERLINK("http://evil","x")',
            "+1",
            "-1",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\tx",
            "  =1",
            "'=1",
            '"=1',
            " '\" =1",
        ),
        *("\n=1", "＝1", "\xa0=1", "\ufeff=1", "=", "-"),
    ],
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert escaping.csv(text) == "'" + escaping.plain(text)


@given(TEXTS)
def test_a_cell_comes_back_as_one_cell_that_is_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow([escaping.csv(text), "next"])
    ((cell, following),) = csv.reader(io.StringIO(out.getvalue()))
    assert following == "next"
    assert cell in (escaping.plain(text, None), "'" + escaping.plain(text, None))
    assert not re.match(r"[=+@-]", cell.strip(' "\ufeff'))


@pytest.mark.parametrize("text", ["AMD EPYC", "1.5x (0.98–2.1x; n=3)", "~0:57:59", "a=b", "n/a", ""])
def test_a_normal_cell_is_left_alone(text: str) -> None:
    assert escaping.csv(text) == text


@given(
    st.recursive(
        TEXTS | st.none() | st.booleans() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)
    )
)
def test_json_loses_nothing_and_steers_nothing(value: object) -> None:
    for written in (escaping.as_json(value), escaping.as_json(value, indent=2), escaping.json_in_html(value)):
        assert json.loads(written) == value
        assert not STEERING.search(written)


@given(TEXTS)
@example("</script><script>alert(1)//")
@example("<!--<script>")
def test_json_in_a_page_ends_no_element(text: str) -> None:
    assert not re.search(r"[<>&\u2028\u2029]", escaping.json_in_html({text: [text]}))


def test_json_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="not JSON"):
        escaping.json_in_html(float("nan"))
