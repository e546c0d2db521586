"""The page of a real run in a real browser: nothing is loaded, nothing fails, tables sort."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fewshot_i2v.cli._root import cli

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

pytestmark = pytest.mark.browser

SHOTS = "FEWSHOT_I2V_SCREENSHOTS"
"""Folder to keep the screenshots in, if it is set."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is driven over a port of this machine; nothing else may be reached."""
    real = socket.socket.connect

    def _connect(self: socket.socket, address: Any) -> None:  # noqa: ANN401 - any family's
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost")
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", _connect)


def fewshot(*args: str) -> None:
    done = CliRunner().invoke(cli, args, prog_name="fewshot-i2v")
    assert done.exit_code == 0, done.output


def made_page(folder: Path, **given: str) -> Path:
    """The page of two adapters at two numbers of shots, with film strips."""
    few = {"query": "2", "episodes": "4", "steps": "1", "workers": "1"}
    places = {"output": str(folder / "run"), "cache": str(folder / "cache")}
    settings = {**few, **given, **places}
    flags = [
        part for key, value in settings.items() for part in (f"--{key.replace('_', '-')}", value)
    ]
    several = ["--adapter", "frozen", "--adapter", "bitfit", "--shot", "1", "--shot", "2"]
    fewshot("evaluate", *flags, *several, "--head", "prototype", "--set", "video.frames=4")
    path = folder / "page.html"
    root = ["--root", given["root"]] if "root" in given else []
    fewshot("report", str(folder / "run"), "--out", str(path), "--cache", places["cache"], *root)
    assert path.stat().st_size < 5_000_000
    return path


@pytest.fixture(scope="module")
def page(browser: WebDriver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of generated clips; asks for the browser first, to skip."""
    return made_page(tmp_path_factory.mktemp("page"), split="motions", way="3")


@pytest.fixture(scope="module")
def real_page(browser: WebDriver, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of real clips and a real pretrained encoder."""
    weights = shared / "weights"
    return made_page(
        tmp_path_factory.mktemp("real"),
        split="egogestar",
        root=str(shared / "clips" / "egogestar"),
        encoder="vit-ti",
        architecture=str(weights / "vit_tiny_16_in1k.json"),
        pretrained=str(weights / "vit_tiny_16_in1k_visual.safetensors"),
        image_size="112",
        mean="0.5",
        std="0.5",
    )


def show(browser: WebDriver, page: Path, width: int = 1100, *, dark: bool = False) -> None:
    """Opens the page; the logs then hold what it did."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())


def screenshot(browser: WebDriver, name: str) -> np.ndarray[Any, Any]:
    """The whole page as pixels, (H, W, 3)."""
    width, height = browser.execute_script(
        "const e = document.documentElement; return [e.clientWidth, e.scrollHeight];"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12_000), "scale": 1}
    data = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    raw = base64.b64decode(data["data"])
    if os.environ.get(SHOTS):
        Path(os.environ[SHOTS], f"{name}.png").write_bytes(raw)
    return np.asarray(Image.open(io.BytesIO(raw)).convert("RGB"), dtype=np.float64)


BOTH = pytest.mark.parametrize(
    ("which", "title"),
    [
        ("page", "motions (novel), 3-way"),
        pytest.param(
            "real_page", "egogestar (novel), 5-way", marks=[pytest.mark.shared, pytest.mark.slow]
        ),
    ],
)


@BOTH
def test_nothing_fails_and_nothing_is_asked_of_the_network(
    browser: WebDriver, which: str, title: str, request: pytest.FixtureRequest
) -> None:
    page: Path = request.getfixturevalue(which)
    show(browser, page)
    assert browser.execute_script("return document.querySelector('h1').textContent") == title
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in urls if not url.startswith("data:")] == [page.as_uri()]


@BOTH
def test_figures_and_film_strips_are_there(
    browser: WebDriver, which: str, title: str, request: pytest.FixtureRequest
) -> None:
    show(browser, request.getfixturevalue(which))
    found = browser.execute_script(
        """return {
          figures: [...document.querySelectorAll('figure svg')].map(
            s => [s.getBoundingClientRect().width, s.querySelectorAll('path').length]),
          images: [...document.images].map(i => [i.complete, i.naturalWidth, i.alt]),
          title: document.querySelector('h1').textContent,
          ink: getComputedStyle(document.querySelector('figure svg text')).fill,
        }"""
    )
    assert found["title"] == title
    assert len(found["figures"]) >= 6
    assert all(width > 250 and paths for width, paths in found["figures"])
    assert len(found["images"]) >= 12
    assert all(done and width > 100 and alt for done, width, alt in found["images"])
    assert found["ink"].startswith("rgb("), "variables of the page reach the drawings"


@BOTH
def test_tables_sort_by_their_headings_and_say_so(
    browser: WebDriver, which: str, title: str, request: pytest.FixtureRequest
) -> None:
    show(browser, request.getfixturevalue(which))
    assert browser.title.startswith(title)
    clicked = """
      const table = document.querySelector('table.results');
      const names = [...table.tHead.rows[0].cells].map(c => c.textContent.trim());
      const column = names.indexOf(arguments[0]);
      table.tHead.rows[0].cells[column].querySelector('button').click();
      return [
        [...table.tBodies[0].rows].map(r => r.cells[column].textContent.trim()),
        [...table.tHead.rows[0].cells].map(c => c.getAttribute('aria-sort')).filter(Boolean),
      ];"""
    values, states = browser.execute_script(clicked, "accuracy % [95 %]")
    numbers = [float(value.split()[0]) for value in values]
    assert len(numbers) == 4
    assert (numbers, states) == (sorted(numbers, reverse=True), ["descending"])
    values, states = browser.execute_script(clicked, "accuracy % [95 %]")
    assert [float(value.split()[0]) for value in values] == sorted(numbers)
    assert states == ["ascending"]
    values, states = browser.execute_script(clicked, "adapter")
    assert values == ["bitfit (spatial only)"] * 2 + ["frozen"] * 2
    assert states == ["ascending"]
    values, _ = browser.execute_script(clicked, "over frozen")
    assert values[-2:] == ["-", "-"], "cells without a value stay last"


def test_without_scripts_the_table_is_in_order(browser: WebDriver, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    read = """
      const table = document.querySelector('table.results');
      return [document.querySelectorAll('button').length,
              [...table.tBodies[0].rows].map(r => r.cells[0].textContent)];"""
    assert browser.execute_script(read) == [0, ["frozen"] * 2 + ["bitfit (spatial only)"] * 2]


def test_the_first_screen_has_the_answer_and_a_figure_and_no_table_is_cut(
    browser: WebDriver, page: Path
) -> None:
    show(browser, page, 1400)
    bottom, *overflows = browser.execute_script(
        """const figure = document.querySelector('.first figure svg');
           return [figure.getBoundingClientRect().bottom,
             ...[...document.querySelectorAll('.wide')].map(t => t.scrollWidth - t.clientWidth)];"""
    )
    assert bottom < 900, "of a screen of 1400 x 900"
    assert overflows
    assert max(overflows) <= 1
    aligned, text = browser.execute_script(
        """const edges = e => { const r = e.getBoundingClientRect(); return [r.left, r.right]; };
           return [[...document.querySelectorAll('.aligned > table')].map(edges),
                   edges(document.querySelector('h2'))];"""
    )
    assert aligned
    for left, right in aligned:
        assert abs(left - text[0]) <= 1 or (left < text[0] and right > text[1]), "a wider table"
    screenshot(browser, "light-1400")


@pytest.mark.parametrize("width", [1100, 375])
def test_the_page_is_as_wide_as_the_screen(browser: WebDriver, page: Path, width: int) -> None:
    show(browser, page, width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    small = browser.execute_script(
        """const sizes = [...document.querySelectorAll('figure svg')].map(s => {
             const scale = s.getBoundingClientRect().width / s.viewBox.baseVal.width;
             return Math.min(...[...s.querySelectorAll('text')].map(
               t => scale * parseFloat(getComputedStyle(t).fontSize)));
           });
           return Math.min(...sizes);"""
    )
    assert small > 8, "letters of figures, in pixels"
    pixels = screenshot(browser, f"light-{width}")
    assert pixels.mean() > 200
    assert pixels.std() > 15


def test_it_is_dark_where_the_reader_wants_it_and_light_on_paper(
    browser: WebDriver, page: Path
) -> None:
    show(browser, page, dark=True)
    pixels = screenshot(browser, "dark-1100")
    assert pixels.mean() < 60
    assert pixels.max() > 200, "letters are light"
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    media = {"media": "print", "features": [dark]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert colour == "rgb(255, 255, 255)"


def test_text_has_contrast_in_light_and_in_dark(browser: WebDriver, page: Path) -> None:
    measured = """
      const light = c => {
        const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
          .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2];
      };
      const paper = light(getComputedStyle(document.body).backgroundColor);
      const ratio = c => {
        const [a, b] = [light(c), paper].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
      };
      const seen = {};
      for (const e of document.querySelectorAll('p, th, td, li, figcaption, h1, h3, .aside'))
        seen[getComputedStyle(e).color] = 1;
      for (const e of document.querySelectorAll('svg text')) seen[getComputedStyle(e).fill] = 1;
      return Object.fromEntries(Object.keys(seen).map(c => [c, ratio(c)]));"""
    for dark in (False, True):
        show(browser, page, dark=dark)
        found = browser.execute_script(measured)
        assert found
        assert all(ratio >= 4.5 for ratio in found.values()), found
