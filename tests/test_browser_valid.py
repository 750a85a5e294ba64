"""Pages by the rules: HTML that a validator passes, SVG that is XML, and nothing that axe calls a barrier.

The tools come from npm (`npm install html-validate@9 axe-core@4` in any folder, which CNNBENCH_NODE_MODULES then names with
its `node_modules`); no test asks the network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pages_browser as browsers
import pytest

from cnnbench.report import chart_images

pytestmark = pytest.mark.slow("browser")
TREES = ("everything", "modes", "many_machines", "one_record", "only_failures", "nothing_measured", "hostile")
RULES = {"root": True, "extends": ["html-validate:standard"], "rules": {"long-title": "off"}}
"""The WHATWG's rules and accessibility's; a title is as long as the reader wants it."""
BARRIERS = """() => axe.run(document, { resultTypes: ["violations"] }).then((found) => found.violations.map((each) =>
  `${each.impact}: ${each.id}: ${each.help}: ${each.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join()}`))"""
UNFOLD = """() => { const found = [...document.querySelectorAll("details")];
  for (const each of found) each.open = true; return found.length; }"""


@pytest.fixture(scope="module")
def modules():
    """The folder of npm's packages."""
    folder = browsers.NODE_MODULES and Path(browsers.NODE_MODULES)
    wanted = ("html-validate", "axe-core")
    if shutil.which("node") is None:
        browsers.skip_unless("html-validate runs on Node: apt install npm")
    if not folder or not all((folder / name / "package.json").is_file() for name in wanted):
        browsers.skip_unless(f"CNNBENCH_NODE_MODULES names no folder with {' and '.join(wanted)} (npm install)")
    return folder


@pytest.fixture(scope="module")
def browser():
    with browsers.started() as started:
        yield started


def validate(modules, files, tmp_path):
    """What the validator says about each file, a line a message."""
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    said = tmp_path / "said.json"
    program = modules / "html-validate" / "bin" / "html-validate.mjs"
    command = ["node", program, "--config", tmp_path / "rules.json", "--formatter", f"json={said}", *files]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert said.is_file(), done.stderr
    return [
        f"{Path(each['filePath']).name}:{message['line']}: {message['ruleId']}: {message['message']}"
        for each in json.loads(said.read_text())
        for message in each["messages"]
    ]


def test_pages_are_valid_html(modules, tmp_path):
    files = [browsers.file_of(tree, kind) for tree in TREES for kind in browsers.KINDS]
    assert validate(modules, files, tmp_path) == []


def test_a_mistake_would_be_found(modules, tmp_path):
    """The check itself: a tag that is not closed, an id twice."""
    page = browsers.file_of("one_record", "static").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.html"
    wrong.write_text(page.replace("</nav>", "", 1).replace('id="machines"', 'id="doubts"'), encoding="utf-8")
    found = " ".join(validate(modules, [wrong], tmp_path))
    assert "close-order" in found
    assert "no-dup-id" in found


def test_pictures_are_well_formed():
    for chart in browsers.page_of("hostile").charts:
        root = ET.fromstring(chart_images.svg(chart))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        names = [each.get("id") for each in root.iter() if each.get("id")]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("kind", "scheme", "width"),
    [(kind, *view) for kind in browsers.KINDS for view in (("light", 1280), ("dark", 1280), ("light", 390))],
)
def test_nobody_is_kept_out(browser, modules, kind, scheme, width):
    """axe, every rule it has, with all that is folded opened: no violation, of whatever impact."""
    source = (modules / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    with browsers.opened(
        browser, browsers.file_of("everything", kind), width=width, color_scheme=scheme, bypass_csp=True
    ) as (page, seen):
        assert page.evaluate(UNFOLD) > 0
        page.evaluate(source)
        assert page.evaluate(BARRIERS) == []
        assert seen.nothing()
