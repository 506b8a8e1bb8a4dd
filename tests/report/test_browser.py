"""The report in a real browser: nothing asked of the network, every figure drawn, every name as text."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROGUE

for library in ("plotly", "jinja2"):
    pytest.importorskip(library, reason='needs Plotly and Jinja2: pip install "funrec-lab[report]"')

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason='needs Selenium: pip install "funrec-lab[dev]"')
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-component-update")
    options.add_argument("--window-size=1280,900")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        yield driver
        driver.quit()


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.get_log("performance")
    browser.get_log("browser")
    visit(browser, page)
    return browser


def visit(browser: Any, page: Path) -> None:
    """Open a page and wait until its figures are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(page.as_uri())
    WebDriverWait(browser, 20).until(lambda driver: driver.execute_script("return document.body.dataset.drawn"))


def test_it_opens_without_an_error_or_a_request(opened: Any) -> None:
    assert opened.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [entry["params"]["request"]["url"] for entry in sent if entry["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len([url for url in urls if url.startswith("file:")]) == 1


def test_a_click_on_a_heading_sorts(opened: Any) -> None:
    column = """
        const table = document.querySelector("table.sortable");
        const heads = [...table.tHead.rows[0].cells].map((head) => head.querySelector("button").textContent);
        const place = heads.indexOf(arguments[0]);
        if (arguments[1]) table.tHead.rows[0].cells[place].firstElementChild.click();
        return [...table.tBodies[0].rows].map((row) => row.cells[place].textContent.trim());
    """

    def values(name: str, click: bool = True) -> list[str]:
        return opened.execute_script(column, name, click)

    numbers = [float(text.split("±")[0]) for text in values("auc_click")]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 3
    assert [float(text.split("±")[0]) for text in values("auc_click")] == sorted(numbers)
    names = values("model")
    assert names == sorted(names, key=str.lower)
    assert values("model") == names[::-1]


CONTENT = """
    return [...document.querySelectorAll("figure")].map((figure) => ({
      title: figure.querySelector("h3").textContent,
      label: figure.querySelector("[role=img]").getAttribute("aria-label"),
      marks: figure.querySelectorAll(".scatterlayer path, .heatmaplayer image").length,
      wide: figure.getBoundingClientRect().width,
    }));
"""


def test_each_figure_of_each_choice_has_content_and_words(opened: Any) -> None:
    counts = {}
    for section in ("trade", "curves", "run"):
        select = f'document.querySelector("[data-choice={section}] select")'
        for place in range(opened.execute_script(f"return {select}.options.length")):
            opened.execute_script(f"{select}.value = '{place}'; {select}.dispatchEvent(new Event('change'));")
            figures = opened.execute_script(CONTENT)
            counts[section, place] = len(figures)
            for figure in figures:
                assert figure["marks"] > 0, figure
                assert figure["label"].startswith(figure["title"])
                assert len(figure["label"]) > len(figure["title"]) + 20
    assert len(counts) >= 1 + 3 + 6
    names = opened.execute_script(
        'return [...document.querySelectorAll("[data-choice=run] option")].map((o) => o.text)'
    )
    assert any(name.endswith(" (1 warning)") for name in names)
    assert opened.get_log("browser") == []


def test_a_rogue_name_is_shown_as_it_is(opened: Any) -> None:
    shown = opened.execute_script("return document.body.innerText")
    assert ROGUE in shown
    assert "%{x}" in shown
    assert opened.execute_script("return document.querySelectorAll('td b, th b, li b, option b').length") == 0
    ticks = opened.execute_script(
        "return [...document.querySelectorAll('.ytick text')].map((tick) => tick.textContent)"
    )
    assert any(ROGUE in tick for tick in ticks)


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_colours_follow_the_reader(browser: Any, page: Path, scheme: str, is_dark: bool) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    visit(browser, page)
    back, text, tick = browser.execute_script(
        """const of = (element, name) => getComputedStyle(element)[name];
        return [of(document.body, "backgroundColor"), of(document.querySelector("h2"), "color"),
                of(document.querySelector(".xtick text"), "fill")];"""
    )
    assert (luminance(back) < 0.2) == is_dark
    for colour in (text, tick):
        bright, dim = sorted((luminance(colour), luminance(back)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) > 7  # WCAG 2.2's enhanced contrast


def test_a_phone_shows_it_without_scrolling_sideways(browser: Any, page: Path) -> None:
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        visit(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        assert all(figure["wide"] <= 360 for figure in browser.execute_script(CONTENT))
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, as WCAG defines it."""
    red, green, blue = (int(value) / 255 for value in re.findall(r"\d+", colour)[:3])
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue)]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))
