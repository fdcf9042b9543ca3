"""The report's page in a browser: in both themes, on a wide and a narrow screen, and printed."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from support.browser import Page, browser
from test_report import EQUAL, SPEC, simulated

from cos_assets import report


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    folder = tmp_path_factory.mktemp("page")
    file = folder / "report.html"
    file.write_text(report.build(SPEC, simulated(**EQUAL)).html, encoding="utf-8")
    with browser(folder / "profile") as page:
        page.open(file.as_uri(), "document.querySelectorAll('svg').length == 4")
        yield page


def luminance(colour: str) -> float:
    """0 to 1, of rgb(r, g, b)."""
    red, green, blue = (int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(("theme", "width"), itertools.product(("light", "dark"), (1280, 400)))
def test_the_page_fits_the_window_and_has_contrast(page: Page, theme: str, width: int) -> None:
    page.size(width, 900, theme)
    assert page.run("document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.body)"
    paper, ink = (luminance(page.run(f"{style}.{name}")) for name in ("backgroundColor", "color"))
    assert (paper > 0.9 and ink < 0.2) if theme == "light" else (paper < 0.1 and ink > 0.8)
    # The text of the figures has the colours of the page: dark on light, or light on dark.
    words = page.run("[...document.querySelectorAll('svg text')].map(word => getComputedStyle(word).fill)")
    assert len(words) > 20
    assert all(abs(luminance(word) - paper) > 0.15 for word in words)
    named = page.run("[...document.querySelectorAll('figure [role=img]')].map(f => f.getAttribute('aria-label'))")
    assert len(named) == 4 and all(len(text) > 20 for text in named)


def test_the_copy_button_copies_the_table(page: Page) -> None:
    page.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    page.send("Page.bringToFront")
    page.run("document.querySelector('button.copy').click()")
    page.until("document.querySelector('button.copy').innerText == 'copied'")
    text = page.run("navigator.clipboard.readText()")
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["budget", "weak − strong", "difference", "interval", "better"]
    assert len(lines) > 3 and {len(line) for line in lines} == {5}


def test_a_printed_page_is_white(page: Page, tmp_path: Path) -> None:
    page.size(1280, 900, "dark")
    page.send("Emulation.setEmulatedMedia", media="print")
    assert json.loads(page.run("JSON.stringify(getComputedStyle(document.body).backgroundColor)")) == (
        "rgb(255, 255, 255)"
    )
    assert page.run("getComputedStyle(document.querySelector('button.copy')).display") == "none"
