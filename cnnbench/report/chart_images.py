"""Charts drawn as SVG and PNG, each with its data inside, so that a picture itself shows whether it is current.

An SVG stores its data as JSON in `<metadata>`, a PNG in a text chunk named `cnnbench`, both with the data's SHA-256. The
drawing depends on fonts and on the version of the renderer, the data does not: a picture is current if it stores the digest
of the data it should show. Colours are the light ones; a style sheet inside the SVG switches to the dark ones if the
reader's system is dark.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from functools import lru_cache
from html import escape

from cnnbench.report.charts.theme import DARK
from cnnbench.report.model import Chart
from cnnbench.schema import digest

_PNG_KEY = b"cnnbench\0"
_PAYLOAD = re.compile('<metadata id="cnnbench-data">|tEXtcnnbench\0')
"""The text before the payload in an SVG and in a PNG."""
_TAG, _DIGITS = re.compile(r"<[^>]*>"), re.compile(r"\d+\.\d{4,}")
_LABEL = re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
"""Roles and labels of single marks, which are removed: the picture is one image, described as a whole."""


def data_text(chart: Chart) -> str:
    """Write the chart's data as JSON: the same bytes for the same data, and safe inside HTML and XML."""
    rows = list(map(dict, chart.data))
    body = json.dumps(rows, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return body.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def data_digest(chart: Chart) -> str:
    """Compute the SHA-256 of the data, which a current picture stores."""
    return digest(f"{chart.key}\n{data_text(chart)}")


def payload(chart: Chart) -> str:
    """Write what is stored in a picture or beside it: the chart's key, the digest of its data, the data."""
    return f'{{"chart":{json.dumps(chart.key)},"sha256":"{data_digest(chart)}","rows":{data_text(chart)}}}'


def svg(chart: Chart) -> str:
    """Draw a picture for an SVG file, with title, description, data and dark colours."""
    body = inline_svg(chart)
    start = body.index(">") + 1
    dark = " ".join(dark_rules("svg"))
    style = f"<style>@media (prefers-color-scheme: dark) {{ {dark} }}</style>"
    return f'{body[:start]}<metadata id="cnnbench-data">{payload(chart)}</metadata>{style}{body[start:]}\n'


def inline_svg(chart: Chart, *, narrow: bool = False) -> str:
    """Draw the SVG to be put into a page: one image with a name and a description, in the theme's colours."""
    drawn = _draw(json.dumps(chart.narrow if narrow else chart.wide))
    drawn = _TAG.sub(lambda tag: _DIGITS.sub(_round_coordinate, tag.group()), drawn)
    head, _, body = drawn.partition(">")
    name = f"{chart.key}-{'narrow' if narrow else 'wide'}"
    title, words = (escape(text, quote=False) for text in (chart.title, chart.alt))
    return (
        f'{head} role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{title}</title><desc id="{name}-desc">{words}</desc>{_LABEL.sub("", body)}'
    )


@lru_cache(maxsize=128)
def _draw(specification: str) -> str:
    """Draw a Vega-Lite specification as SVG, once, since a folder's file and its page show the same drawing."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(specification))


def _round_coordinate(found: re.Match[str]) -> str:
    """Round a coordinate to a thousandth of a pixel. Words keep their digits: a tick of 0.0005 must not become 0.001."""
    return f"{float(found.group()):.3f}".rstrip("0").rstrip(".")


def dark_rules(scope: str) -> list[str]:
    """List style rules that put each dark colour in place of its light one, on drawings below the scope."""
    return [
        f"{scope} [{attribute}='{light}'] {{ {attribute}: {dark}; }}"
        for light, dark in DARK.items()
        for attribute in ("fill", "stroke")
    ]


def png(chart: Chart) -> bytes:
    """Draw the picture as PNG on white, with its data in a text chunk."""
    import vl_convert

    spec = {**chart.wide, "config": {**chart.wide["config"], "background": "white"}}
    drawn: bytes = vl_convert.vegalite_to_png(spec, scale=2)  # pixels per unit: sharp on a dense screen and on paper
    content = _PNG_KEY + payload(chart).encode("ascii")
    chunk = b"tEXt" + content
    header_end = 8 + 4 + 4 + 13 + 4  # signature, then the IHDR chunk: length, type, 13 bytes, checksum
    packed = struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return drawn[:header_end] + packed + drawn[header_end:]


def stored_digest(picture: str | bytes) -> str | None:
    """Read the digest of the data that an SVG (text) or a PNG (bytes) stores; None if it stores none."""
    text = picture if isinstance(picture, str) else picture.decode("latin-1")
    found = _PAYLOAD.search(text)
    try:
        stored, _ = json.JSONDecoder().raw_decode(text, found.end() if found else len(text))
    except ValueError:
        return None
    known = stored.get("sha256") if isinstance(stored, dict) else None
    return known if isinstance(known, str) else None


def specification(chart: Chart) -> str:
    """Write the Vega-Lite specification of the wide drawing with its data as JSON: the same bytes for the same data."""
    return json.dumps(chart.wide, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
