"""Pages in a real browser: Debian's Chromium under Playwright, everything it complains about or asks for written down.

Pictures of what it showed are kept where CNNBENCH_ARTIFACTS says. Without browser or driver the tests are skipped, except
where CNNBENCH_BROWSER is `required`, as in `.ci/run`: there they fail.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pages_records
import pytest
import report_builders

from cnnbench.report.model import Page
from cnnbench.report.render import html

CHROMIUM = shutil.which("chromium")
ARTIFACTS, NODE_MODULES = os.environ.get("CNNBENCH_ARTIFACTS"), os.environ.get("CNNBENCH_NODE_MODULES")
"""Read here, at import: no test sees settings from outside (`conftest`)."""
REQUIRED = os.environ.get("CNNBENCH_BROWSER") == "required"
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--font-render-hinting=none"),
]
KINDS = ("static", "interactive")
WIDTHS = (1280, 768, 390)
DRAWN_SECONDS = 60


def missing() -> str | None:
    """Why no browser can be started; None where one can."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "pages are opened in a real browser, which Playwright drives: pip install 'cnnbench[browser]'"
    if CHROMIUM is None:
        return "pages are opened in a real browser: apt install chromium (Debian, Ubuntu)"
    return None


def skip_unless(reason: str | None) -> None:
    """Skip for this reason, if there is one; where the browser is required, fail."""
    if reason is not None:
        pytest.fail(reason) if REQUIRED else pytest.skip(reason)


@dataclass
class Seen:
    """What a page did besides being shown: complaints, requests, dialogs."""

    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def nothing(self) -> bool:
        """Whether it was quiet; what it did is in the assertion's message."""
        found = {name: value for name, value in vars(self).items() if value}
        assert not found, found
        return True


def watch(page: Any, seen: Seen, own: str) -> None:
    """Write down every console message but plain logs, every error, every dialog, every request but for the page itself."""
    page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text[:300]}"))
    page.on("pageerror", lambda error: seen.errors.append(str(error)[:300]))
    page.on("request", lambda request: None if request.url == own else seen.requests.append(request.url[:300]))

    def dismissed(dialog: Any) -> None:
        seen.dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", dismissed)


@contextmanager
def started() -> Iterator[Any]:
    """The browser, with a profile of its own."""
    skip_unless(missing())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="cnnbench-pages-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def page_of(tree: str) -> Page:
    """The page of the records that `pages_records` has under this name, references included."""
    return report_builders.page(getattr(pages_records, tree)())


@cache
def file_of(tree: str, kind: str) -> Path:
    """That page as an HTML file, `static` or `interactive`; made once, for all tests."""
    path = _folder() / f"{tree}-{kind}.html"
    path.write_text(html.render(page_of(tree), static=kind == "static"), encoding="utf-8")
    return path


@contextmanager
def opened(browser: Any, file: Path, width: int = 1280, **context: Any) -> Iterator[tuple[Any, Seen]]:
    """The file shown in a window of that width, its charts drawn, with what it does meanwhile."""
    view = browser.new_context(
        viewport={"width": width, "height": 900}, offline=True, reduced_motion="reduce", **context
    )
    page = view.new_page()
    seen = Seen()
    watch(page, seen, file.as_uri())
    page.goto(file.as_uri())
    if context.get("java_script_enabled", True):
        page.wait_for_function(ALL_DRAWN, timeout=DRAWN_SECONDS * 1000)
    yield page, seen
    view.close()


ALL_DRAWN = "[...document.querySelectorAll('.vega')].every((place) => place.dataset.drawn)"

CLIPPED = """() => {
  const found = [];
  for (const element of document.querySelectorAll("th, td, h1, h2, p, li, caption, figcaption, summary, button, a, small")) {
    const style = getComputedStyle(element);
    if (element.clientWidth === 0 || style.display === "inline" || element.classList.contains("unseen")) continue;
    if (element.scrollWidth > element.clientWidth + 1)
      found.push(`${element.tagName} ${element.scrollWidth} > ${element.clientWidth}: ${element.textContent.slice(0, 80)}`);
  }
  return found;
}"""
"""Elements whose text is wider than themselves."""

WIDER_THAN_THEIR_FRAME = """() => [...document.querySelectorAll(".scroll")]
  .filter((frame) => frame.scrollWidth > frame.clientWidth)
  .map((frame) => `${frame.ariaLabel}: ${frame.scrollWidth} > ${frame.clientWidth}`)"""
"""Tables that must be scrolled sideways."""

CHART_TEXTS = """() => {
  const charts = [];
  for (const svg of document.querySelectorAll(".chart svg, body > svg, svg:root")) {
    const frame = svg.getBoundingClientRect();
    if (frame.width === 0) continue;
    const texts = [...svg.querySelectorAll("text")].map((text) => {
      const style = getComputedStyle(text), box = text.getBoundingClientRect();
      return {
        text: text.textContent, fill: style.fill, opacity: Number(style.opacity) * Number(style.fillOpacity),
        size: parseFloat(style.fontSize) * frame.width / svg.viewBox.baseVal.width,
        left: box.left - frame.left, right: box.right - frame.left, top: box.top - frame.top, bottom: box.bottom - frame.top,
      };
    }).filter((text) => text.text.trim() && text.opacity > 0 && text.right > text.left);
    const figure = svg.closest("figure");
    charts.push({ name: figure ? figure.id : "svg", width: frame.width, height: frame.height, texts });
  }
  return charts;
}"""
"""The visible charts: size, and each text with its box, colour and size in pixels as shown."""


def overlaps(chart: dict[str, Any], slack: float = 2.0) -> list[str]:
    """Pairs of texts that lie on one another by more than the slack in both directions, and texts outside the picture."""
    found = []
    texts = chart["texts"]
    for n, a in enumerate(texts):
        if a["left"] < -1 or a["top"] < -1 or a["right"] > chart["width"] + 1 or a["bottom"] > chart["height"] + 1:
            found.append(f"{chart['name']}: {a['text']!r} is outside the picture")
        for b in texts[n + 1 :]:
            across = min(a["right"], b["right"]) - max(a["left"], b["left"])
            down = min(a["bottom"], b["bottom"]) - max(a["top"], b["top"])
            if across > slack and down > slack:
                found.append(f"{chart['name']}: {a['text']!r} on {b['text']!r} by {across:.0f} x {down:.0f}")
    return found


MARK = """([x, y]) => {
  const item = document.elementFromPoint(x, y)?.__data__;
  return item?.tooltip ? item.datum : null;
}"""
"""What the mark at a place stands for, where it has a tooltip."""


def hovered(page: Any, key: str, most: int) -> list[tuple[dict[str, Any], dict[str, str]]]:
    """Up to so many marks of a chart hovered: what the mark stands for, and its tooltip's lines."""
    page.locator(f"#chart-{key}").scroll_into_view_if_needed()
    boxes = page.evaluate(
        """(key) => [...document.querySelectorAll(`#chart-${key} svg .role-mark path`)].map((path) => {
        const box = path.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })""",
        key,
    )
    found = []
    for x, y in boxes:
        if not 0 < y < 900 or (datum := page.evaluate(MARK, [x, y])) is None or len(found) >= most:
            continue
        page.mouse.move(x, y)
        page.wait_for_selector("#vg-tooltip-element.visible")
        lines = page.evaluate(
            "[...document.querySelectorAll('#vg-tooltip-element tr')].map((row) => [...row.cells].map((c) => c.textContent))"
        )
        found.append((datum, {name.removesuffix(":"): value for name, value in lines}))
        page.mouse.move(1, 1)
    return found


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def artefact(name: str, folder: Path) -> Path:
    """Where to keep a picture: among the artefacts, else in the test's own folder."""
    target = (Path(ARTIFACTS) if ARTIFACTS else folder) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target
