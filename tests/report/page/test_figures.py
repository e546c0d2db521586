"""Figures: what is drawn and said, that the page themes them, and that names stay names."""

from __future__ import annotations

import re
from xml.etree import ElementTree as Tree

import numpy as np
import pytest

from fewshot_i2v.report.page import figures
from fewshot_i2v.report.page.figures.style import PlotPoint
from fewshot_i2v.report.page.labels import RowLabel, make_labels
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import Interval, mean_interval
from fewshot_i2v.statistics.calibration import ReliabilityCurve
from tests.report.page.page_samples import HOSTILE


def label(adapter: str = "aim", **changes: object) -> RowLabel:
    row = RowSummary(adapter, "linear", 1, {0: 0.5}, **changes)  # type: ignore[arg-type]
    return make_labels([RowSummary("frozen", "linear", 1, {0: 0.5}), row])[1]


def interval(mean: float, half: float = 0.05) -> Interval:
    return Interval(mean, mean - half, mean + half, 0.95, 20, "Student t", "It covers this.")


def point(mean: float, shot: int | str = 1, adapter: str = "aim", **given: object) -> PlotPoint:
    return PlotPoint(label(adapter), shot, interval(mean), **given)  # type: ignore[arg-type]


def alt_of(drawn: str) -> str:
    return Tree.fromstring(drawn).attrib["aria-label"]  # noqa: S314


def texts(drawn: str | None) -> list[str]:
    assert drawn is not None
    return [element.text or "" for element in Tree.fromstring(drawn).iter("text")]  # noqa: S314


def curve() -> ReliabilityCurve:
    """Of 3 bins, the first empty; above the diagonal, then below it."""
    return ReliabilityCurve(
        lower=np.array([0, 1 / 3, 2 / 3]),
        upper=np.array([1 / 3, 2 / 3, 1]),
        count=np.array([0, 10, 90]),
        confidence=np.array([np.nan, 0.5, 0.875]),
        accuracy=np.array([np.nan, 0.6, 0.75]),
    )


EVERY = [
    lambda name: figures.draw_curves(
        [point(0.5, 1, name), point(0.6, 5, name)], key="k", chance=0.2
    ),
    lambda name: figures.draw_forest([point(0.5, 1, name, gain=interval(0.1))], key="k"),
    lambda name: figures.draw_forest([point(0.5, 1, name)], key="k", gains=False),
    lambda name: figures.draw_cost(
        [point(0.5, 1, name, parameters=0), point(0.6, 5, name, parameters=99_000)],
        key="k",
        kind="parameters",
    ),
    lambda name: figures.draw_classes({name: interval(0.5)}, {}, label(), key="k"),
    lambda name: figures.draw_confusion([name, "b"], np.array([[0.9, 0.1], [0.2, 0.8]]), key="k"),
    lambda name: figures.draw_reliability([(label(name), curve())], key="k"),
    lambda name: figures.draw_spread([(label(name), [0.2, 0.4, 0.6])], key="k", chance=0.2),
]


@pytest.mark.parametrize("draw", EVERY)
def test_a_drawing_has_no_style_no_foreign_id_and_no_fixed_colour(draw: object) -> None:
    drawn = draw("plain")  # type: ignore[operator]
    assert "style" not in drawn
    assert "font-family" not in drawn
    assert "metadata" not in drawn
    colours = re.findall(r'(?:fill|stroke)="(#[^"]+)"', drawn)
    assert not colours, "a colour that does not follow the page's theme"
    ids = re.findall(r'\bid="([^"]+)"', drawn)
    assert len(ids) == len(set(ids))
    assert all(name.startswith("k-") for name in ids)
    used = re.findall(r'href="#([^"]+)"', drawn) + re.findall(r"url\(#([^)]+)\)", drawn)
    assert set(used) == set(ids)


@pytest.mark.parametrize("draw", EVERY)
def test_hostile_names_are_only_names(draw: object) -> None:
    drawn = draw(HOSTILE)  # type: ignore[operator]
    root = Tree.fromstring(drawn)  # noqa: S314
    assert {element.tag for element in root.iter()} <= {
        "svg", "g", "path", "text", "use", "defs", "clipPath", "rect",
    }  # fmt: skip
    assert not any(name.startswith("on") for e in root.iter() for name in e.attrib)
    assert root.attrib["aria-label"]
    assert "<script" not in drawn


def test_names_with_dollar_signs_are_no_formulas() -> None:
    drawn = figures.draw_classes({"$x^2$": interval(0.5)}, {}, label(), key="k")
    assert "$x^2$" in texts(drawn)


def test_control_marks_in_names_do_not_break_the_drawing() -> None:
    drawn = figures.draw_classes({"a\x00b\u202ec\ud800": interval(0.5)}, {}, label(), key="k")
    assert r"a\x00b\u202ec\ud800" in texts(drawn)


def test_equal_drawings_are_equal_and_keys_keep_them_apart() -> None:
    one, same, other = (
        figures.draw_forest([point(0.5, gain=interval(0.1))], key=key) for key in ("a", "a", "b")
    )
    assert one == same
    assert one is not None
    assert other is not None
    assert one != other


def test_curves_need_two_numbers_of_shots_and_ranges_come_last() -> None:
    assert figures.draw_curves([point(0.5)], key="k") is None
    drawn = figures.draw_curves([point(0.5, "1-5"), point(0.6, 5), point(0.7, 16)], key="k")
    assert texts(drawn)[:3] == ["5", "16", "1-5"]
    assert drawn is not None
    assert "aim 60.0 at 5 shots, 70.0 at 16 shots, 50.0 at 1-5 shots" in alt_of(drawn)


def test_a_forest_names_every_row_and_says_every_interval() -> None:
    points = [
        point(0.5, 1, "aim", gain=interval(0.25)),
        point(0.5, 5, "aim", gain=interval(-0.031)),
        point(0.5, 5, "lora", gain=interval(0.0001)),
    ]
    drawn = figures.draw_forest(points, key="k")
    shown = texts(drawn)
    assert [t for t in shown if t in ("1 shot", "5 shots")] == ["1 shot", "5 shots"]
    assert shown.count("aim") == 2
    assert {"+25.0", "-3.1", "0.0"} <= set(shown)
    assert drawn is not None
    assert "aim, 1 shot: +25.0 [+20.0, +30.0]" in alt_of(drawn)


def test_a_forest_without_gains_is_none_and_one_value_has_no_line() -> None:
    assert figures.draw_forest([point(0.5)], key="k") is None
    single = PlotPoint(label(), 1, mean_interval([0.5]))
    drawn = figures.draw_forest([single], key="k", gains=False)
    assert drawn is not None
    assert alt_of(drawn).endswith("aim, 1 shot: 50.0.")


def test_cost_has_a_place_for_zero_and_round_numbers() -> None:
    points = [
        point(0.5, 1, "frozen", parameters=0),
        point(0.6, 1, parameters=99_456),
        point(0.6, 5, parameters=201_728),
    ]
    assert {"0", "100k", "200k"} <= set(
        texts(figures.draw_cost(points, key="k", kind="parameters"))
    )
    assert figures.draw_cost(points[:1], key="k", kind="parameters") is None
    assert figures.draw_cost(points, key="k", kind="seconds") is None, "no times are known"


def test_near_costs_have_more_than_one_round_number() -> None:
    points = [point(0.5, 1, "frozen", macs=177e6), point(0.6, 1, macs=252e6)]
    ticks = [t for t in texts(figures.draw_cost(points, key="k", kind="macs")) if t.endswith("M")]
    assert len(ticks) >= 3


def test_classes_of_a_confusion_matrix_are_written_once_and_numbered() -> None:
    name = "appears-bottom-then-top"
    drawn = figures.draw_confusion([name, "spirals-in"], np.eye(2), key="k")
    shown = [" ".join(text.split()) for text in texts(drawn)]
    assert shown.count(f"{name} 1") == 1
    assert {"spirals-in 2", "1", "2"} <= set(shown)
    assert not any("…" in text for text in shown)


def test_a_start_that_is_not_tuned_has_its_mark_and_name() -> None:
    start = {"start": "base-trained", "start_name": "b"}
    rows = [RowSummary("aim", "h", 1, {}, note=note, **start) for note in ("untuned", "")]
    untuned, tuned = make_labels(rows)
    assert (untuned.tuned, tuned.tuned) == (False, True)
    assert untuned.dash != tuned.dash
    assert figures.legend_marker(untuned, key="k") != figures.legend_marker(tuned, key="k")
    assert untuned.name == "base-trained aim (untuned)"


def test_many_classes_are_cut_to_the_highest_and_the_lowest() -> None:
    values = {f"class {i:03d}": interval(i / 200, 0.001) for i in range(150)}
    shown = [t for t in texts(figures.draw_classes(values, {}, label(), key="k")) if "class" in t]
    assert len(shown) == 40
    assert (shown[0], shown[-1]) == ("class 149", "class 000")


def test_a_large_confusion_matrix_stays_small() -> None:
    rates = np.random.default_rng(0).random((120, 120))
    drawn = figures.draw_confusion([f"c{i}" for i in range(120)], rates, key="k")
    assert drawn is not None
    assert len(drawn) < 600_000


def test_cells_of_classes_that_never_met_are_empty() -> None:
    rates = np.array([[1.0, np.nan], [0.0, 1.0]])
    drawn = figures.draw_confusion(["a", "b"], rates, key="k")
    assert drawn is not None
    assert drawn.count("<use") + drawn.count("fill-opacity") <= 4


def test_the_spread_says_its_quantiles() -> None:
    values = [i / 20 for i in range(21)]
    drawn = figures.draw_spread([(label(), values)], key="k")
    assert drawn is not None
    assert "median 50 %, nine of ten between 5 and 95 %" in alt_of(drawn)
    assert figures.draw_spread([(label(), [0.5])], key="k") is None
    assert figures.draw_spread([(label(), [0.5, 0.5, 0.5])], key="k") is not None


def test_reliability_says_its_points_and_leaves_empty_bins_out() -> None:
    drawn = figures.draw_reliability([(label(), curve()), (label("lora"), curve())], key="k")
    assert drawn is not None
    assert "aim: 60 at 50, 75 at 88; lora: 60 at 50, 75 at 88." in alt_of(drawn)
    assert "on the diagonal both are equal" in alt_of(drawn)
    assert {"as often right as sure", "confidence in %"} <= set(texts(drawn))
    assert "nan" not in drawn
    assert figures.draw_reliability([], key="k") is None


def test_marks_of_bins_are_as_large_as_their_share() -> None:
    drawn = figures.draw_reliability([(label(), curve())], key="k")
    assert drawn is not None
    paths = [e.attrib["d"] for e in Tree.fromstring(drawn).iter("path") if e.get("id")]  # noqa: S314
    # those of the axes are open lines
    small, large = sorted(
        max(map(float, re.findall(r"-?[\d.]+", path))) for path in paths if path.endswith("z")
    )
    assert large / small == pytest.approx((90 / 10) ** 0.5, rel=0.02)


def test_labels_tell_rows_apart_in_colour_mark_and_line() -> None:
    rows = [
        RowSummary("frozen", "h", 1, {}),
        RowSummary("aim", "h", 1, {}),
        RowSummary("aim", "h", 1, {}, start="base-trained", start_name="b"),
        RowSummary("lora", "h", 1, {}, start="meta-trained", start_name="m", seen=True),
    ]
    labels = make_labels(rows)
    names = [one.name for one in labels]
    assert names == ["frozen", "fresh aim", "base-trained aim", "meta-trained lora (seen)"]
    assert [one.series for one in labels] == [0, 1, 1, 2]
    assert [one.filled for one in labels] == [True, False, True, True]
    assert len({str(one.dash) for one in labels}) == 3
    assert len({one.marker for one in labels}) == 3


def test_labels_are_as_long_as_it_takes_to_tell_rows_apart() -> None:
    assert [one.full for one in make_labels([RowSummary("aim", "h", 1, {}, note="n")])] == ["aim"]
    rows = [RowSummary("aim", head, 1, {}, note=note) for head, note in (("a", "x, y"), ("b", "x"))]
    assert [one.full for one in make_labels(rows)] == ["aim (y) with a", "aim with b"]
    long = "text-prototype:templates=a video of a person who is doing it,weight="
    heads = [one.head for one in make_labels([RowSummary("aim", long + w, 1, {}) for w in "12"])]
    assert len(set(heads)) == 2


def test_characters_that_the_font_lacks_stay_text_and_warn_of_nothing() -> None:
    values = {name: interval(0.5) for name in ("\U0001f642 smile", "手を振る", "wave")}
    drawn = figures.draw_classes(values, {}, label(), key="k")
    assert {"\U0001f642 smile", "手を振る"} <= set(texts(drawn))
