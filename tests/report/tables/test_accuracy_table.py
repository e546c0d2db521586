"""The table with all its columns and notes: what stands in it, and that it is safe to print."""

from __future__ import annotations

import random
import re

import pytest

from fewshot_i2v.report.tables.accuracy_table import accuracy_table
from fewshot_i2v.runs.row_summary import RowSummary
from fewshot_i2v.statistics import bounded_interval, paired_difference
from fewshot_i2v.utils.text_table import escape_name


def accuracies(number: int, seed: int = 0, start: int = 0) -> dict[int, float]:
    generator = random.Random(seed)
    return {start + i: generator.randrange(5, 24) / 25 for i in range(number)}


def row(adapter: str = "frozen", head: str = "linear", **changes: object) -> RowSummary:
    given: dict[str, object] = {"shot": 1, "accuracies": accuracies(20), **changes}
    return RowSummary(adapter, head, **given)  # type: ignore[arg-type]


def render_table(rows: list[RowSummary], *, way: int, chance: float | None = None) -> str:
    """The full table as text, as pages and exports have it."""
    return accuracy_table(rows, way=way, chance=chance).to_text()


def cells(text: str) -> list[list[str]]:
    """Headings and rows of the table, without the rule and the legend."""
    lines = text.split("\n\n")[0].splitlines()
    return [re.split(r" {2,}", line.strip()) for line in (lines[0], *lines[2:])]


def test_a_row_says_everything() -> None:
    values = {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.6, 4: 0.6, 5: 0.6}
    full = RowSummary("aim:scale=1.0", "linear", 5, values, 2, 1_234_567, 0.01234, 2048.4)
    headings, only = cells(render_table([full], way=5))
    interval = bounded_interval(list(values.values()))
    assert interval.low is not None
    assert interval.high is not None
    assert dict(zip(headings, only, strict=True)) == {
        "adapter": "aim:scale=1.0",
        "head": "linear",
        "shot": "5",
        "accuracy % [95 %]": f"60.0 [{100 * interval.low:.1f}, {100 * interval.high:.1f}]",
        "ok/failed": "6/2",
        "parameters": "1,234,567",
        "s/episode": "0.0123",
        "peak MiB": "2,048",
    }


def test_the_gain_is_paired_with_frozen_of_the_same_head_and_shot() -> None:
    base, other = accuracies(30, 1), accuracies(25, 2, start=10)
    rows = [
        row("st-adapter", accuracies=other),
        row("frozen", accuracies=base),
        row("frozen", "prototype", accuracies=accuracies(30, 3)),
        row("aim", shot=5, accuracies=other),
    ]
    headings, *lines = cells(render_table(rows, way=5))
    gains = [line[headings.index("over frozen")] for line in lines]
    shared = range(10, 30)
    expected = paired_difference([other[i] for i in shared], [base[i] for i in shared])
    assert expected.half_width is not None
    assert gains == [f"{100 * expected.mean:+.1f} ± {100 * expected.half_width:.1f}", "-", "-", "-"]


def test_frozen_with_options_is_the_baseline_too() -> None:
    rows = [row("frozen:grid=true"), row("aim", accuracies=accuracies(20, 1))]
    assert "over frozen" in render_table(rows, way=5)


def test_without_a_pair_there_is_no_gain_column_and_no_word_of_it() -> None:
    apart = [row(), row("aim", accuracies=accuracies(5, start=100)), row("aim", "prototype")]
    assert "over frozen" not in render_table(apart, way=5)


def test_the_legend_says_what_the_interval_is_and_covers_and_what_chance_is() -> None:
    text = render_table([row(), row("aim", accuracies=accuracies(20, 1))], way=4)
    legend = " ".join(text.split("\n\n")[1].split())
    assert "± and [ ]: 95 %, Student t over episodes." in legend
    assert "does not cover new clips" in legend
    assert "paired Student t over the episodes that both have" in legend
    assert "Guessing among 4 classes gives 25.0 %." in legend
    assert "ailed" not in legend
    assert "Guessing among 4 classes gives 12.5 %." in render_table([row()], way=4, chance=0.125)


def test_each_sentence_of_the_legend_stands_once() -> None:
    rows = [
        row(),
        row("aim", accuracies={0: 0.4}),
        row("b", accuracies=dict.fromkeys(range(6), 1.0)),
    ]
    legend = " ".join(render_table(rows, way=5).split("\n\n")[1].split())
    sentences = re.split(r"(?<=\.) ", legend)
    assert len(sentences) == len(set(sentences))
    assert "One episode: no interval." in sentences
    assert any("Wilson bound for equal values" in sentence for sentence in sentences)


def test_near_an_end_the_interval_stays_inside_and_the_legend_says_how() -> None:
    values = dict(enumerate([1.0] * 8 + [0.8]))
    text = render_table([row(accuracies=values)], way=5)
    assert "Student t on the logit scale" in text
    assert "it is not the same on both sides" in " ".join(text.split())
    (low, high) = re.findall(r"\[([\d.]+), ([\d.]+)\]", text)[0]
    assert 80 < float(low) < 97.78 < float(high) < 100


def test_one_episode_has_a_mean_without_a_spread() -> None:
    headings, only = cells(render_table([row(accuracies={3: 0.4})], way=5))
    shown = dict(zip(headings, only, strict=True))
    assert shown["accuracy % [95 %]"] == "40.0"


@pytest.mark.parametrize(("count", "ends"), [(2, False), (5, False), (6, True)])
def test_few_episodes_have_no_interval(count: int, ends: bool) -> None:
    """Below six a sign-flip test can decide nothing, and the interval spans most of 0 to 100 %."""
    rows = [row(accuracies=accuracies(count)), row("aim", accuracies=accuracies(count, 1))]
    text = render_table(rows, way=5)
    assert ("[" in text.splitlines()[2]) is ends
    assert ("Fewer than 6 episodes: no interval." in text) is not ends


def test_failed_episodes_are_shown_even_where_all_failed() -> None:
    text = render_table([row(accuracies={}, failed=3), row("aim", failed=1)], way=5)
    headings, first, second = cells(text)
    assert first[headings.index("accuracy % [95 %]")] == "-"
    assert [line[headings.index("ok/failed")] for line in (first, second)] == ["0/3", "20/1"]
    assert "Failed episodes: 4;" in text


def test_all_failed_and_nothing_at_all_still_give_a_table() -> None:
    assert "0/3" in render_table([row(accuracies={}, failed=3)], way=5)
    assert render_table([], way=5).startswith("adapter")


def test_columns_are_aligned_also_with_wide_characters() -> None:
    rows = [row("frozen"), row("手手"), row("e\u0301" * 3), row("a-much-longer-name")]
    table = render_table(rows, way=5).split("\n\n")[0].splitlines()
    wide = {"手": 2, "\u0301": 0}
    widths = {sum(wide.get(c, 1) for c in line) for line in table}
    assert len(widths) == 1
    assert table[1].replace(" ", "").strip("-") == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("st-adapter", "st-adapter"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\u202eback", r"\u202eback"),
        ("\ud800", r"\ud800"),
        ("\x9b2J", r"\x9b2J"),
        ("手 é", "手 é"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 59 + "…"),
        ("\x00" * 5000, r"\x00" * 14 + r"\x0" + "…"),
    ],
)
def test_names_cannot_control_the_terminal(name: str, shown: str) -> None:
    assert escape_name(name) == shown
    text = render_table([row(name, name)], way=5)
    assert shown in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_it_is_never_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = render_table([row()], way=5)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in coloured
    assert render_table([row()], way=5) == coloured


def test_lines_of_the_legend_fit_and_nothing_trails() -> None:
    text = render_table([row(), row("aim", accuracies=accuracies(20, 1), failed=1)], way=5)
    assert all(len(line) <= 80 for line in text.split("\n\n")[1].splitlines())
    assert all(line == line.rstrip() for line in text.splitlines())


def test_rows_that_read_class_names_are_marked_and_notes_stand_beside_the_adapter() -> None:
    rows = [row("m-adapter", note="reconstruction"), row("frozen", "zero-shot", uses_names=True)]
    lines = render_table(rows, way=5).splitlines()
    assert lines[0].split()[:3] == ["adapter", "head", "names"]
    assert lines[2].startswith("m-adapter (reconstruction)  linear")
    assert lines[2].split()[3] == "-"
    assert lines[3].split()[2] == "read"
    assert "given the names of the classes" in "\n".join(lines)


def _started(rows: list[RowSummary]) -> tuple[list[str], str]:
    """The column of starts, and the legend."""
    text = render_table(rows, way=5)
    headings, *lines = cells(text)
    column = headings.index("start")
    assert headings[:2] == ["adapter", "start"]
    return [line[column] for line in lines], " ".join(text.split("\n\n")[1].split())


def test_what_adapters_began_as_is_a_column_where_any_had_a_start() -> None:
    rows = [
        row(),
        row("aim", accuracies=accuracies(20, 1)),
        row("aim", accuracies=accuracies(20, 2), start="base-trained", start_name="b"),
        row("aim", accuracies=accuracies(20, 3), start="meta-trained", start_name="m"),
    ]
    column, legend = _started(rows)
    assert column == ["-", "fresh", "base-trained", "meta-trained"]
    assert "start: what each episode's adapter begins as" in legend
    assert "seen:" not in legend
    plain = render_table(rows[:2], way=5)
    assert cells(plain)[0][:2] == ["adapter", "head"]
    assert "begins as" not in plain


def test_starts_are_compared_with_frozen_as_fresh_rows_are() -> None:
    base, other = accuracies(30, 1), accuracies(30, 2)
    rows = [row(accuracies=base), row("aim", accuracies=other, start="base-trained")]
    headings, _, line = cells(render_table(rows, way=5))
    expected = paired_difference(list(other.values()), list(base.values()))
    assert line[headings.index("over frozen")].startswith(f"{100 * expected.mean:+.1f} ")


def test_names_of_starts_are_shown_where_there_are_several_of_a_kind() -> None:
    given = (("base-trained", "one"), ("base-trained", "t\x1bwo"), ("meta-trained", "m"))
    rows = [row("aim", start=kind, start_name=name) for kind, name in given]
    assert _started(rows)[0] == [
        "base-trained (one)",
        r"base-trained (t\x1bwo)",
        "meta-trained",
    ]


def test_rows_of_seen_classes_are_marked_and_the_legend_says_what_it_means() -> None:
    rows = [row("aim"), row("aim", start="base-trained", start_name="b", seen=True)]
    column, legend = _started(rows)
    assert column == ["fresh", "base-trained, seen"]
    assert "trained on classes or clips of this evaluation, or its state was chosen on" in legend
    assert "Neither its training nor the choice of its state" in legend


def test_without_such_rows_there_is_no_column_of_names() -> None:
    assert "names" not in render_table([row("aim")], way=5)


def test_a_loss_of_nothing_is_not_minus_nothing() -> None:
    rows = [
        row("frozen", accuracies=dict.fromkeys(range(12), 0.3) | {0: 0.2, 1: 0.4}),
        row("aim", accuracies=dict.fromkeys(range(12), 0.3) | {0: 0.1 + 0.2 - 0.1, 1: 0.4 - 1e-9}),
    ]
    text = render_table(rows, way=5)
    assert "  0.0 (few differ)  " in text
    assert "-0.0" not in text


def test_intervals_show_both_ends_with_one_decimal() -> None:
    rows = [
        row("perfect", accuracies=dict.fromkeys(range(18), 1.0)),
        row("near", accuracies=dict(enumerate([1.0] * 17 + [0.8]))),
        row("plain", accuracies=dict(enumerate([0.5, 0.6] * 9))),
    ]
    text = render_table(rows, way=5)
    mean = bounded_interval(list(rows[1].accuracies.values()))
    assert mean.low is not None
    assert mean.high is not None
    for line, said in zip(
        text.splitlines()[2:5],
        (
            " 100.0 [80.2, 100.0] ",
            f" {100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}] ",
            " 55.0 [52.4, 57.6] ",
        ),
        strict=True,
    ):
        assert said in line
    assert "Where both sides differ the ends are shown" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict.fromkeys(range(20), 0.1), "0.0 (all equal)"),
        ({i: 0.3 * (i < 11) for i in range(20)}, "(few differ)"),
        ({0: 0.1}, "(1 episode)"),
        ({i: 0.1 * i for i in range(4)}, "(4 episodes)"),
        ({i: 0.02 * i for i in range(20)}, " ± "),
    ],
)
def test_a_gain_has_an_interval_or_says_why_not(changes: dict[int, float], said: str) -> None:
    frozen = dict.fromkeys(changes, 0.1)
    aim = {i: 0.1 + change for i, change in changes.items()}
    if said.startswith("0.0"):
        aim = frozen
    text = render_table([row(accuracies=frozen), row("aim", accuracies=aim)], way=5)
    assert said in text.splitlines()[3]


def test_rows_of_different_episodes_are_said_to_be() -> None:
    rows = [row(), row("aim", accuracies=accuracies(15, 1))]
    legend = " ".join(render_table(rows, way=5).split("\n\n")[1].split())
    assert "Rows have different episodes, the least 15 of 20" in legend
    assert "use the column over frozen or fewshot-i2v compare --common" in legend
    other = render_table([row("lora"), row("aim", accuracies=accuracies(15, 1))], way=5)
    assert "use fewshot-i2v compare --common" in " ".join(other.split())
    same = [row(), row("aim"), row("none", accuracies={}), row(shot=5, accuracies=accuracies(3))]
    assert "different episodes" not in render_table(same, way=5)


def test_what_no_episode_took_is_not_known() -> None:
    given: dict[str, object] = {"seconds_per_episode": 0.0, "peak_memory_mb": 0.0}
    headings, first = cells(
        render_table([row("aim", "linear", accuracies={}, failed=3, **given)], way=5)
    )
    shown = dict(zip(headings, first, strict=True))
    assert (shown["s/episode"], shown["peak MiB"]) == ("-", "-")
