"""Draw the pictures of the main README: a table in a terminal, and the top of a page.

    fewshot-i2v evaluate
    python scripts/readme_pictures.py runs/quickstart

The table is what `fewshot-i2v show RUN` writes, the page what `fewshot-i2v report RUN` writes. Both
are drawn by Chromium without a window, into `scripts/benchmarks/results/`.
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

RESULTS = Path(__file__).parent / "benchmarks" / "results"
TABLE_PICTURE = RESULTS / "quickstart-table.png"
PAGE_PICTURE = RESULTS / "quickstart-page.png"
_TERMINAL = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #1d1f21 }}
pre {{ margin: 0; padding: 16px; color: #e8e8e8; font: 15px/20px monospace }}
b {{ color: #8fd18f }}
</style><pre><b>$ {command}</b>
{output}</pre>"""
_LINE_HEIGHT, _PADDING = 20, 32
_TABLE_WIDTH, _PAGE_SIZE = 780, (1200, 1000)


def fewshot(*arguments: str) -> str:
    """Run a command of the package and return what it writes to standard output."""
    command = [sys.executable, "-m", "fewshot_i2v", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def draw(page: Path, picture: Path, size: tuple[int, int]) -> None:
    """Draw the top of a page.

    Args:
        page: an HTML file.
        picture: the PNG file that is written.
        size: width and height in pixels.

    Raises:
        SystemExit: when there is no Chromium.
    """
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        raise SystemExit("no chromium: apt-get install chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    flags += [f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}"]
    subprocess.run([browser, *flags, page.as_uri()], check=True, stderr=subprocess.DEVNULL)


@click.command(help=__doc__)
@click.argument("run")
def main(run: str) -> None:
    """Draw both pictures of an evaluation, by its folder."""
    with tempfile.TemporaryDirectory() as folder:
        terminal, page = Path(folder) / "terminal.html", Path(folder) / "page.html"
        output = fewshot("show", run)
        command = html.escape(f"fewshot-i2v show {run}")
        text = _TERMINAL.format(command=command, output=html.escape(output))
        terminal.write_text(text, encoding="utf-8")
        height = _LINE_HEIGHT * (output.count("\n") + 1) + _PADDING
        draw(terminal, TABLE_PICTURE, (_TABLE_WIDTH, height))
        fewshot("report", run, "--out", str(page))
        draw(page, PAGE_PICTURE, _PAGE_SIZE)


if __name__ == "__main__":
    main()
