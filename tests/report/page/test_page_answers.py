"""What a page says of its answers: of one episode, of other episodes, and what verdicts are for."""

from __future__ import annotations

import re

import pytest

from fewshot_i2v.report.page.page import render_page
from tests.report.page.page_samples import row, section
from tests.report.page.test_page import Outline


def test_one_episode_has_no_interval_and_no_extremes() -> None:
    page = render_page([section(row("aim", count=1))])
    outline = Outline(page)
    assert "Too few episodes: no interval." in outline.text["main"]
    assert not outline.all("article")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    words = "Accuracy of each row</strong></summary>Too few episodes: no interval."
    assert any(words in caption for caption in captions)
    assert not any("95 % intervals" in c or "Lines: " in c for c in captions)
    assert "In brackets" not in outline.text["main"]


@pytest.mark.usefixtures("undrawn")
def test_one_episode_is_compared_over_its_clips() -> None:
    rows = [
        row(name, skill, count=1, way=4, query=20)
        for name, skill in (("frozen", 0.3), ("aim", 0.9))
    ]
    page = render_page([section(*rows)])
    text = " ".join(Outline(page).text["main"].split())
    assert "With 1 clip per class: aim beats frozen with these support clips by " in text
    assert "Gain over frozen, clip by clipLines: 95 % intervals, paired Student t over" in text
    assert "over query clips. One episode, so it is over query clips: it covers other" in text
    assert "Over frozen, in brackets: 95 % intervals" in text
    (alt,) = re.findall(r"Forest plot of intervals: gain[^\"]*", page)
    assert re.search(r"aim, 1 shot: \+[\d.]+ \[\+[\d.]+, \+[\d.]+\]", alt)


@pytest.mark.usefixtures("undrawn")
def test_verdicts_say_what_they_are_adjusted_for() -> None:
    text = " ".join(Outline(render_page([section()])).text["main"].split())
    assert "adjusted for the 4 comparisons with it of this table (Holm)" in text
    assert "adjusted for the 3 pairs of rows with as many shots (Bonferroni)" in text
    assert "fewshot-i2v compare adjusts for all comparisons that it makes at once" in text
    alone = Outline(render_page([section(row("aim"))])).text["main"]
    assert "Verdicts against" not in alone
    assert "fewshot-i2v compare adjusts" not in alone


@pytest.mark.usefixtures("undrawn")
def test_rows_of_different_episodes_are_said_to_be() -> None:
    page = render_page([section(row("frozen", count=30), row("aim", 0.9))])
    assert "Rows have different episodes, the least 30 of 60" in page
    assert "different episodes" not in render_page([section(row("frozen"), row("aim"))])


@pytest.mark.usefixtures("undrawn")
def test_lopsided_intervals_show_both_sides_and_are_explained() -> None:
    page = render_page([section(row("frozen", 0.5), row("aim", 1.0, count=18))])
    text = " ".join(Outline(page).text["main"].split())
    assert "100.0 [80.2, 100.0]" in text
    said = "Where both sides differ the ends are shown"
    assert said in text
    assert said not in render_page([section(row("frozen", 0.5), row("aim", 0.6))])
