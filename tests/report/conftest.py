"""A browser for the tests marked with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

REQUIRE = "FEWSHOT_I2V_REQUIRE_BROWSER"
"""Set where a browser must be there: the skips become failures."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def _missing(what: str) -> NoReturn:
    message = f"no {what} (apt-get install chromium chromium-driver; pip install selenium)"
    if os.environ.get(REQUIRE):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def browser() -> Iterator[WebDriver]:
    """A headless Chromium that notes what the page logs and asks of the network."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        _missing("chromium or chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        _missing("selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    # a renderer that hangs is an error, not a test run without an end
    opened.set_page_load_timeout(120)
    opened.set_script_timeout(120)
    opened.command_executor.client_config.timeout = 180
    yield opened
    opened.quit()
