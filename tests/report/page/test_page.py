"""The page: what it says, that it holds everything itself, and that names stay names."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from fewshot_i2v.report.analysis.frame_order import frame_order_losses
from fewshot_i2v.report.analysis.report_data import LEVEL, merge_rows, sort_rows
from fewshot_i2v.report.page.page import bind_words, render_page, shown_clips
from fewshot_i2v.report.page.row_settings import common_and_differing
from fewshot_i2v.report.tables.accuracy_table import accuracy_table
from fewshot_i2v.report.tables.interval_text import format_interval
from tests.report.page.page_samples import HOSTILE, orders, row, section, with_seed

VOID = {"meta", "img", "wbr", "br", "link", "input", "hr"}


class Outline(HTMLParser):
    """Elements with their attributes, the text of the page, and whether all tags are closed."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self._open):
            self.text[tag] = self.text.get(tag, "") + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return render_page([section()], version="1.2.3")


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_the_answer_stands_first(outline: Outline) -> None:
    text = outline.text["body"].replace("\u00a0", " ")
    assert "With 1 clip per class: aim beats frozen on these clips" in text
    assert "No gain over frozen is shown for st-adapter." in text
    assert text.index("Use aim: it beats frozen by") < text.index("With 1 clip per class")
    assert text.index("beats frozen") < text.index("Accuracy of every row")
    assert "In brackets: 95 % intervals, Student t over episodes. It covers the mean" in text


def test_one_figure_stands_beside_the_answer_and_notes_are_folded(page: str) -> None:
    first = page[page.index('<div class="first">') : page.index("<h3")]
    assert first.count("<figure") == 1
    assert "Gain over frozen, 1 shot" in first
    assert first.index("<figure") < first.index("<details>\n<summary>Each number of shots")
    folded = "".join(re.findall(r"<details>.*?</details>", page, re.DOTALL))
    for said in ("In brackets: 95 %", "It covers the mean accuracy", 'class="notes"'):
        assert said not in page.replace(folded, "") or said in folded
    assert page.count('<ul class="notes">') == folded.count('<ul class="notes">') > 0


@pytest.mark.usefixtures("undrawn")
def test_a_single_number_of_shots_has_its_figure_once() -> None:
    page = render_page([section(row("frozen"), row("aim", 0.9))])
    assert page.count("Forest plot of intervals") == 1
    assert page.index("Forest plot") < page.index("Accuracy of every row")


@pytest.mark.usefixtures("undrawn")
def test_sections_that_say_nothing_are_left_out() -> None:
    few = render_page([section(row("frozen", count=1), row("aim", 0.9, count=1))])
    assert "How far it reaches" not in few, "no question has an answer"
    assert "Reliability diagram:" not in few, "lines of few episodes are chance"
    many = render_page([section()])
    assert "How far it reaches" in many
    assert "Reliability diagram:" in many


def test_the_table_is_that_of_the_terminal(outline: Outline) -> None:
    made = section()
    table = accuracy_table(made.summaries, way=made.way, chance=made.chance).to_text()
    text = " ".join(outline.text["main"].split())
    for line in table.split("\n\n")[0].splitlines()[2:]:
        for cell in re.split(r" {2,}", line.strip()):
            assert cell in text
    assert table.splitlines()[-1] in text, "what guessing gives"


def test_nothing_is_loaded_from_elsewhere(page: str, outline: Outline) -> None:
    assert not re.search(r"https?://(?!www\.w3\.org/)", page)
    for _, attributes in outline.elements:
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert {tag for tag, _ in outline.elements} & {"link", "iframe", "object", "embed"} == set()


def test_the_policy_allows_this_style_and_this_script_alone(page: str, outline: Outline) -> None:
    (policy,) = [m["content"] for m in outline.all("meta") if "http-equiv" in m]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert "eval" not in content
    assert not any("style" in attributes for _, attributes in outline.elements)
    assert not any(n.startswith("on") for _, a in outline.elements for n in a)


def test_a_reader_of_the_screen_finds_headings_captions_and_descriptions(outline: Outline) -> None:
    levels = [int(tag[1]) for tag, _ in outline.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(drawing["aria-label"] for drawing in outline.all("svg") if "role" in drawing)
    assert all("aria-hidden" in d or d.get("role") == "img" for d in outline.all("svg"))
    tables = [t for t in outline.all("table") if "sortable" in t.get("class", "")]
    assert len(tables) == len(outline.all("caption"))
    assert all(th.get("scope") in ("col", "row") for th in outline.all("th"))
    regions = [a for _, a in outline.elements if a.get("role") == "region"]
    assert regions
    assert all(region["tabindex"] == "0" for region in regions)
    assert outline.all("html")[0]["lang"] == "en"


def test_ids_are_unique_and_every_reference_has_its_target(outline: Outline) -> None:
    ids = [a["id"] for _, a in outline.elements if "id" in a]
    assert len(ids) == len(set(ids))
    wanted = {a["href"][1:] for _, a in outline.elements if a.get("href", "").startswith("#")}
    wanted |= {a["aria-labelledby"] for _, a in outline.elements if "aria-labelledby" in a}
    assert wanted <= set(ids)


def test_every_figure_says_what_its_intervals_are(outline: Outline, page: str) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert len(captions) == len(outline.all("figure"))
    for caption in captions:
        assert "interval" in caption
    for title in ("Accuracy over shots", "Gain over frozen", "Classes", "Confusions", "Episodes"):
        assert any(title in caption for caption in captions), title


def test_calibration_stands_in_a_table_a_figure_and_numbers(outline: Outline, page: str) -> None:
    text = " ".join(outline.text["main"].split())
    measures = section().rows[0].metrics
    assert measures is not None
    assert f"{100 * measures.balanced:.2f}{100 * measures.ece.mean:.2f}[" in text.replace(" ", "")
    for said in (
        "Beyond accuracy",
        "says whether a row is as often right as it is sure",
        "ECE is too high with few of them",
        "bootstrap over episodes. It covers the binned calibration error",
        "Guessing gives 1.099 and 0.667.",
        "Confidence and truth, 1 shot",
        "Confidence and truth, 5 shots",
    ):
        assert said in text
    assert page.count("Reliability diagram:") == 2
    curve = measures.curve
    (place,) = [b for b in range(15) if curve.lower[b] < 0.7 <= curve.upper[b]]
    number = f'<td class="number">{curve.count[place]}</td>'
    assert (
        f'<td class="number">70.0</td><td class="number">{{}}</td>{number}'.format(
            f"{100 * curve.accuracy[place]:.1f}"
        )
        in page
    )


def test_what_the_accuracies_say_of_other_clips_stands_in_a_table(outline: Outline) -> None:
    text = " ".join(outline.text["main"].split())
    reach = section().rows[0].generalization
    assert reach is not None
    ends = reach.intervals["other clips"]
    assert ends.low is not None
    assert ends.high is not None
    assert f"[{100 * ends.low:.1f}, {100 * ends.high:.1f}]" in text
    assert "How far it reaches" in text
    assert "It covers other clips of these classes, drawn as these were" in text
    assert "It covers other classes" in text


@pytest.mark.usefixtures("undrawn")
def test_many_heads_have_a_table_and_some_figures() -> None:
    rows = [row("frozen", 0.5, head=f"head-{i}") for i in range(9)]
    page = render_page([section(*rows)])
    assert page.count("Reliability diagram:") == 6
    assert "3 more are in the table." in page


@pytest.mark.usefixtures("undrawn")
def test_labels_of_no_probability_make_the_log_loss_a_bound() -> None:
    made = row("frozen", 0.5)
    odd = replace(made, analysis=replace(made.analysis, unresolved=7))
    assert "up to 7 labels of a row have one of 0" in render_page([section(odd)])


@pytest.mark.usefixtures("undrawn")
def test_what_rows_lose_in_other_orders_stands_with_the_natural_one() -> None:
    made = orders({"natural": 0.9, "shuffled": 0.5, "reversed": 0.9, "single": 0.4})
    outline = Outline(render_page(made))
    text = " ".join(outline.text["main"].split())
    assert text.count("Order of frames") == 1
    assert text.index("Order of frames") < text.index("of shuffled")
    found = frame_order_losses(made, LEVEL)[made[0].rows[0]]
    for order, heading in (
        ("shuffled", "lost when shuffled"),
        ("reversed", "lost when reversed"),
        ("single", "lost with one frame"),
    ):
        assert heading in outline.text["thead"]
        lost = found[order]
        assert format_interval(lost, "{:+z.1f}") in text
    assert "not adjusted for the number of rows" in text
    assert "Order of frames" not in render_page(made[1:3])


def test_hostile_names_are_only_names() -> None:
    names = (HOSTILE, "b", "c", "</style></script><img src=x onerror=alert(1)>")
    made = section(
        row(f"frozen:{HOSTILE}", 0.4, classes=names),
        row(HOSTILE, 0.8, classes=names, head=HOSTILE, note=HOSTILE),
        title=HOSTILE,
        setting=HOSTILE,
        clips_note=HOSTILE,
    )
    rows = (replace(r, summary=replace(r.summary, folder=Path(HOSTILE))) for r in made.rows)
    other = replace(made, rows=tuple(rows))
    page = render_page([made, other], title=HOSTILE, version=HOSTILE)
    outline = Outline(page)
    assert len(outline.all("script")) == len(outline.all("style")) == 1
    assert not outline.all("img")
    assert not any(n.startswith("on") for _, a in outline.elements for n in a)
    assert "alert('x')" in outline.text["h1"]
    assert "alert('x')" in outline.text["th"]


@pytest.mark.usefixtures("undrawn")
def test_control_and_direction_marks_are_shown_as_escapes() -> None:
    names = ("a\u202eb", "c\x00d", "e\ud800f", "g")
    page = render_page([section(row("frozen", 0.5, classes=names))])
    page.encode()
    assert not re.search(r"[\x00\u202e\ud800]", page)
    assert r"a\u202eb" in page


@pytest.mark.usefixtures("undrawn")
def test_film_strips_are_shown_where_there_are_some() -> None:
    made = section(row("frozen", 0.4), row("aim", 0.8))
    names = shown_clips(made)
    assert names
    assert len(names) == len(set(names))
    bare = Outline(render_page([made]))
    assert not bare.all("img")
    assert names[0] in bare.text["main"]
    some = replace(made, clips={names[0]: "data:image/jpeg;base64,AAAA"}, clips_note="A note.")
    shown = Outline(render_page([some]))
    assert shown.all("img")
    assert all(i["alt"].startswith("Frames of a") for i in shown.all("img"))
    assert "A note." in shown.text["main"]


@pytest.mark.usefixtures("undrawn")
def test_the_row_in_detail_can_be_chosen(outline: Outline) -> None:
    assert "In detail: aim, 1 shot" in outline.text["h3"]
    assert "flatters" in outline.text["main"]
    rows = row("frozen"), row("st-adapter", shot=5)
    chosen = Outline(render_page([section(*rows, detail="st-adapter-linear-5shot")]))
    assert "In detail: st-adapter, 5 shots" in chosen.text["h3"]
    assert "flatters" not in chosen.text["main"]


@pytest.mark.usefixtures("undrawn")
def test_several_evaluations_have_sections_and_a_list(outline: Outline) -> None:
    assert not outline.all("nav")
    made = section(row("frozen"))
    several = Outline(render_page([made, replace(made, title="other, 2-way")]))
    assert len(several.all("section")) == 2
    links = [a["href"] for a in several.all("a")]
    assert links == ["#s1", "#s2"]
    assert several.text["h1"] == "2 evaluations"


def test_how_to_run_it_again_and_all_settings_are_there(outline: Outline) -> None:
    assert "fewshot-i2v evaluate run.yaml" in outline.text["code"]
    assert "split: motions" in outline.text["code"]
    assert "adapter.name" in outline.text["th"], "in what the rows differ"
    assert "1.2.3" in outline.text["footer"]


def test_equal_sections_give_equal_pages(page: str) -> None:
    assert render_page([section()], version="1.2.3") == page


def test_without_any_episode_the_page_says_so() -> None:
    empty = row("aim", count=0)
    outline = Outline(render_page([section(empty)]))
    assert "No episode has succeeded so far." in outline.text["main"]
    assert not outline.all("figure")


def test_ten_rows_stay_far_below_five_megabytes() -> None:
    rows = [row(f"adapter-{i}", i / 10, shot=shot) for i in range(10) for shot in (1, 5)]
    assert len(render_page([section(*rows)])) < 1_000_000


def test_rows_stand_by_adapter_start_head_and_shots() -> None:
    given = [
        row("aim", shot=5, start="meta-trained", start_name="m"),
        row("aim", shot=1),
        row("lora", shot=1, head="otam"),
        row("lora", shot=1),
        row("frozen", shot=5),
        row("aim", shot="1-5"),
        row("frozen", shot=1),
        row("aim", shot=5),
    ]
    found = [
        (r.adapter, r.start, r.head, r.shot) for r in (row.summary for row in sort_rows(given))
    ]
    assert found == [
        ("frozen", "fresh", "linear", 1),
        ("frozen", "fresh", "linear", 5),
        ("aim", "fresh", "linear", 1),
        ("aim", "fresh", "linear", 5),
        ("aim", "fresh", "linear", "1-5"),
        ("aim", "meta-trained", "linear", 5),
        ("lora", "fresh", "linear", 1),
        ("lora", "fresh", "otam", 1),
    ]


@pytest.mark.usefixtures("undrawn")
def test_training_seeds_are_one_row_with_all_their_seeds() -> None:
    seeds = [with_seed(row("aim", skill), seed) for seed, skill in ((0, 1.0), (3, 0.0))]
    one, two = merge_rows([seeds[0], row("frozen"), seeds[1]])
    assert one.summary.config["training_seed"] == "0, 3"
    assert set(one.summary.accuracies.values()) == {0.5}
    assert one.summary.seed_means == (1.0, 0.0)
    assert two.summary.adapter == "frozen"
    page = render_page([section(two, one)])
    assert "over seeds" in page
    assert "ECE, its interval and by chance are means over the seeds" in page


@pytest.mark.usefixtures("undrawn")
def test_computation_has_a_column_and_a_figure_where_it_is_known() -> None:
    known = [row("frozen", 0.4, macs_per_clip=1.5e9), row("aim", 0.8, macs_per_clip=2.25e9)]
    page = render_page([section(*known)], version="1")
    assert "GMACs/clip" in page
    assert ">2.25<" in page
    assert "Accuracy and computation" in page
    assert "10^9 multiply-accumulates of the adapted encoder for one clip" in page
    unknown = render_page([section(row("frozen", 0.4), row("aim", 0.8))], version="1")
    assert "GMACs/clip" not in unknown
    assert "Accuracy and computation" not in unknown


def test_the_settings_of_rows_do_not_list_the_contents_of_clips() -> None:
    headers = [{"name": "a", "clips": {"x/1.mp4": "aa"}}, {"name": "b", "clips": {"x/2.mp4": "bb"}}]
    shared, others = common_and_differing(headers)
    assert shared == []
    assert others == [[("name", "a")], [("name", "b")]]


def test_no_line_breaks_within_a_flag_or_before_a_unit() -> None:
    assert bind_words("42 clips (--episodes 42) of <b>") == (
        '42\u00a0clips (<span class="flag">--episodes</span> 42) of &lt;b&gt;'
    )
