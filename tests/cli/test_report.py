"""`fewshot-i2v report`: which rows share a table, what is written, and what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fewshot_i2v.runs.run_folder import RunFolder
from fewshot_i2v.utils.bibtex import parse_entries
from tests.cli.conftest import Invoke
from tests.cli.test_show import record, write


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    write(folder, "aim:scale=0.5", [1.0, 1.0, 0.75, None])
    write(folder, "frozen", [0.5, 0.75, 0.25, 0.5])
    return folder


def tables(invoke: Invoke, out: Path, *args: str) -> list[dict[str, object]]:
    done = invoke("report", *args, "--out", str(out))
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(out.read_text())["tables"]
    return found


def rows(table: dict[str, object]) -> list[tuple[str, object, str]]:
    found = table["rows"]
    assert isinstance(found, list)
    return [(row["adapter"], row["shot"], row["note"]) for row in found]


def test_a_page_is_written_and_its_size_is_said(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "new" / "page.html"
    done = invoke("report", str(runs), "--out", str(out), "--title", "My <title>", "--no-clips")
    assert done.exit_code == 0, done.output
    first, _, recommended = done.stdout.partition("\n\n")
    assert re.fullmatch(rf"{out}: [\d.]+ (MB|kB)", first)
    assert recommended.startswith("Use frozen at 1 shot, for now: so few episodes allow no verdict")
    page = out.read_text(encoding="utf-8")
    assert "<h1>My &lt;title&gt;</h1>" in page
    assert "aim:scale=0.5" in page
    assert page.count("<figure") >= 4
    assert "Frames" not in page


def test_references_are_written_and_what_has_none_is_said(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "new" / "refs.BIB"
    done = invoke("report", str(runs), "--out", str(out), "--title", "My table")
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert [entry.key for entry in parse_entries(text)] == ["yang2023aim", "chen2019closer"]
    size, _, comment = done.stdout.partition("\n\n")
    assert re.fullmatch(rf"{out}: \d+ B", size)
    assert comment.startswith("References of what these rows used: My table. Written by ")
    assert comment.endswith(
        "\nno publication: adapter frozen, encoder demo\n"
        "split motions: its file is not there; give it with --split\n"
    )
    top = "".join(f"% {line}\n" for line in comment.splitlines())
    assert text.startswith(f"{top}\n% adapter aim\n@inproceedings{{yang2023aim,\n")


def test_references_find_the_split_that_is_given(invoke: Invoke, runs: Path) -> None:
    args = ("report", str(runs), "--out", str(runs.parent / "refs.bib"), "--split", "egogestar")
    assert invoke(*args).exit_code == 0
    assert "@inproceedings{garg2018drawinair" in (runs.parent / "refs.bib").read_text()


def test_after_a_table_in_latex_the_references_are_next(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "table.tex"
    done = invoke("report", str(runs), "--out", str(out))
    assert f"next: fewshot-i2v report {runs} --out {out.with_suffix('.bib')}\n" in done.stderr


def test_a_file_that_is_replaced_is_said_to_be(invoke: Invoke, runs: Path) -> None:
    args = ("report", str(runs), "--out", str(runs.parent / "table.md"))
    first, again = (invoke(*args).stdout.splitlines()[0] for _ in range(2))
    assert again == f"{first}; the file that was there is replaced"


@pytest.mark.usefixtures("undrawn")
def test_without_out_it_is_report_html_here(
    invoke: Invoke, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs.parent)
    assert invoke("report", "runs").exit_code == 0
    assert Path("report.html").is_file()


@pytest.mark.usefixtures("undrawn")
def test_frames_that_are_gone_are_said_to_be(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "page.html"
    assert invoke("report", str(runs), "--out", str(out)).exit_code == 0
    assert "Frames are not shown: motions: another list of clips" in out.read_text(
        encoding="utf-8"
    ).replace("&#39;", "'")
    done = invoke("report", str(runs), "--out", str(out), "--split", "motions")
    assert done.exit_code == 2
    assert "another list of clips than the run's" in done.stderr


@pytest.mark.usefixtures("undrawn")
def test_the_same_rows_give_the_same_page(invoke: Invoke, runs: Path) -> None:
    pages = [runs.parent / "one.html", runs.parent / "two.html"]
    for page in pages:
        assert invoke("report", str(runs), "--out", str(page)).exit_code == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_rows_asked_the_same_share_a_table_whatever_their_folder(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path / "a", "frozen", [0.5, 0.75])
    write(tmp_path / "b", "aim", [1.0, 1.0])
    write(tmp_path / "c", "aim", [0.5, 0.5], way=2)
    found = tables(invoke, tmp_path / "t.json", *(str(tmp_path / name) for name in "abc"))
    assert [rows(table) for table in found] == [
        [("frozen", 1, ""), ("aim", 1, "")],
        [("aim", 1, "")],
    ]


@pytest.mark.usefixtures("undrawn")
def test_orders_of_frames_have_tables_of_their_own_and_are_compared(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path / "natural", "aim", [1.0, 0.75, 1.0])
    (natural,) = (tmp_path / "natural").iterdir()
    identity = json.loads((natural / "run.json").read_text())["identity"]
    identity["config"]["frame_order"] = "single"
    about = {"parameters": 325, "marks": {"note": "frames single"}}
    with RunFolder.open(tmp_path / "single" / natural.name, about, identity=identity) as folder:
        folder.append([record(i, accuracy) for i, accuracy in enumerate((0.5, 0.5, 0.75))])
    first, second = tables(invoke, tmp_path / "t.json", str(tmp_path))
    assert first["title"] == "motions (novel), 5-way"
    assert second["title"] == "motions (novel), 5-way, frames single"
    assert str(second["setting"]).endswith("8 frames, frames single")
    assert isinstance(first["rows"], list)
    assert first["rows"][0]["lost_single"] == pytest.approx(1 / 3)
    page = tmp_path / "page.html"
    assert invoke("report", str(tmp_path), "--out", str(page), "--no-clips").exit_code == 0
    assert page.read_text(encoding="utf-8").count("lost with one frame") == 1


def test_folders_that_are_named_twice_are_read_once(invoke: Invoke, runs: Path) -> None:
    once = tables(invoke, runs.parent / "t.json", str(runs))
    place = str(runs / "frozen-linear-1shot")
    assert tables(invoke, runs.parent / "t.json", str(runs), place, str(runs)) == once


def test_rows_that_differ_in_their_folder_alone_are_told_apart(
    invoke: Invoke, tmp_path: Path
) -> None:
    write(tmp_path / "one", "aim", [0.5])
    write(tmp_path / "two", "aim", [1.0])
    (table,) = tables(invoke, tmp_path / "t.json", str(tmp_path))
    assert rows(table) == [("aim", 1, "one"), ("aim", 1, "two")]


@pytest.mark.parametrize("kind", ["md", "tex", "csv", "json"])
def test_other_kinds_of_file_hold_the_table(invoke: Invoke, runs: Path, kind: str) -> None:
    out = runs.parent / f"table.{kind.upper()}"
    assert invoke("report", str(runs), "--out", str(out)).exit_code == 0
    assert "aim:scale=0.5" in out.read_text()


@pytest.mark.usefixtures("undrawn")
def test_the_row_in_detail_is_named_by_its_folder(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "page.html"
    done = invoke("report", str(runs), "--out", str(out), "--detail", "frozen-linear-1shot")
    assert done.exit_code == 0
    assert "In detail: frozen, 1 shot" in out.read_text(encoding="utf-8")
    wrong = invoke("report", str(runs), "--out", str(out), "--detail", "frozen-linear-5shot")
    assert wrong.exit_code == 2
    assert "did you mean 'frozen-linear-1shot'" in wrong.stderr


@pytest.mark.usefixtures("undrawn")
def test_how_to_run_it_again_is_checked_against_the_rows(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "page.html"
    assert invoke("report", str(runs), "--out", str(out)).exit_code == 0
    page = out.read_text(encoding="utf-8")
    assert "It gives exactly these rows." in page
    assert "episodes: 4" in page


def test_wrong_use_is_refused_before_anything_is_written(invoke: Invoke, runs: Path) -> None:
    out = runs.parent / "page.pdf"
    done = invoke("report", str(runs), "--out", str(out))
    assert done.exit_code == 2
    assert "expected a file that ends in .html, .htm, .md, .tex, .csv, .json, .bib" in done.stderr
    empty = runs.parent / "empty"
    empty.mkdir()
    assert (
        "no run.json" in invoke("report", str(empty), "--out", str(out.with_suffix(".md"))).stderr
    )
    assert invoke("report").exit_code == 2
    assert not list(runs.parent.glob("page.*"))


def test_a_damaged_journal_names_its_line(invoke: Invoke, runs: Path) -> None:
    path = runs / "frozen-linear-1shot" / "episodes.jsonl"
    path.write_bytes(b"{}\n" + path.read_bytes())
    done = invoke("report", str(runs), "--out", str(runs.parent / "page.html"))
    assert done.exit_code == 2
    assert f"{path}:1" in done.stderr


def test_a_run_without_records_is_reported(invoke: Invoke, tmp_path: Path) -> None:
    write(tmp_path, "frozen", [])
    out = tmp_path / "page.html"
    assert invoke("report", str(tmp_path), "--out", str(out)).exit_code == 0
    assert "No episode has succeeded so far." in out.read_text(encoding="utf-8")


def test_reporting_needs_no_torch_and_tables_no_matplotlib(runs: Path) -> None:
    program = (
        "import sys\nfrom fewshot_i2v.cli import cli\n"
        "for out in sys.argv[2:]:\n"
        "    cli(['report', sys.argv[1], '--out', out], standalone_mode=False)\n"
        "    print(sorted({'torch', 'matplotlib', 'jinja2'} & sys.modules.keys()))\n"
    )
    outs = [str(runs.parent / name) for name in ("out.md", "out.html")]  # the lighter one first
    done = subprocess.run(
        [sys.executable, "-c", program, str(runs), *outs], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = [line for line in done.stdout.splitlines() if line.startswith("[")]
    assert loaded == ["[]", "['jinja2', 'matplotlib']"]


def test_several_thousand_episodes_take_seconds(tmp_path: Path, invoke: Invoke) -> None:
    write(tmp_path, "frozen", [])
    (place,) = tmp_path.iterdir()
    header = json.loads((place / "run.json").read_text())
    with RunFolder.open(place, header, identity=header["identity"]) as folder:
        folder.append([record(i, (i % 5) / 4) for i in range(3000)])
    (table,) = tables(invoke, tmp_path / "t.json", str(tmp_path))
    assert isinstance(table["rows"], list)
    assert table["rows"][0]["episodes"] == 3000
    assert table["rows"][0]["accuracy"] == pytest.approx(0.5)
