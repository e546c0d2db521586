"""Texts of classes: the heads read them, runs record them, and wrong ones are refused early."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import fewshot_i2v
from fewshot_i2v.cli._dry_run import evaluation_lines
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.synthetic.generate import class_names
from fewshot_i2v.errors import ConfigError, RecordError, UnknownNameError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.engines.jobs import WorkerPool
from fewshot_i2v.evaluation.engines.pools import start_workers
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.reproduce import continuation_commands, reproduction_recipes
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.report.comparison.baselines import (
    all_pairs,
    names_by_row,
    pairs_with_frozen,
    read_compared_rows,
)
from fewshot_i2v.report.comparison.compare import compare_rows
from fewshot_i2v.runs.repeated_rows import merge_repeated_frozen
from fewshot_i2v.runs.row_summary import baseline_of
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.run_index import table_key
from fewshot_i2v.utils.resources import CLIPS_FOLDER
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml
from tests.evaluation.engines.test_processes import PoolOfThisProcess
from tests.tiny import tiny_folder, tiny_run
from tests.tiny_clip import CONTEXT_LENGTH, TinyClip

READERS = ["zero-shot", "tip", "text-prototype"]
NAMES = list(class_names("shapes")[:4])
TEXTS: dict[str, Any] = {
    NAMES[0]: "a round thing",
    NAMES[1]: ["four corners", "box"],
    NAMES[2]: {"prompts": ["It has three corners.", "Three lines meet."]},
    NAMES[3]: {"names": "a_star", "prompts": "A shape of five points."},
}
TEMPLATES = ("a video of {}", "{} moves")
HEAD = f"zero-shot:templates={json.dumps(TEMPLATES)}"
PROMPTS = [
    ["a video of a round thing", "a round thing moves"],
    ["a video of four corners", "four corners moves", "a video of box", "box moves"],
    ["It has three corners.", "Three lines meet."],
    ["a video of a_star", "a_star moves", "A shape of five points."],
]


class Runs:
    """Evaluations of one tiny split and a tiny encoder with a text tower."""

    def __init__(self, folder: Path) -> None:
        self.folder = tiny_folder(folder)
        self.clip = TinyClip(folder)
        split = (folder / "tiny.yaml").read_text(encoding="utf-8")
        base = ", ".join(class_names("shapes")[4:7])
        (folder / "tiny.yaml").write_text(f"{split}  base: [{base}]\n", encoding="utf-8")

    def config(self, output: Path, **changes: Any) -> EvaluationConfig:
        settings = {"encoder": self.clip.keys, "head": READERS, "episodes": 4, "at_once": 2}
        settings |= {"shot": 1, "tuning": {"steps": 0}, **changes}
        return tiny_run(self.folder, output, **settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("class-texts"))


def _write(folder: Path, texts: object, name: str = "texts.yaml") -> Path:
    path = folder / name
    path.write_text(dump_yaml(texts), encoding="utf-8")
    return path


def _probabilities(row: Path) -> list[Any]:
    return [record.probabilities for _, record in sorted(read_run(row).records.items())]


def _header(row: Path) -> dict[str, Any]:
    return dict(read_run(row).header)


@pytest.mark.parametrize("head", READERS)
def test_heads_read_the_mean_embedding_of_the_texts(head: str, runs: Runs, tmp_path: Path) -> None:
    named = HEAD.replace("zero-shot", head)
    config = runs.config(tmp_path, head=named, class_texts=TEXTS, way=4)
    runner = evaluate.build_row_runners(EvaluationContext.of(config))[0]
    by_hand = {n: runs.clip.embed(prompts) for n, prompts in zip(NAMES, PROMPTS, strict=True)}
    texts = runner.build_head([0, 1]).texts
    assert texts is not None
    for e in (0, 1):
        expected = torch.stack([by_hand[name] for name in runner.episodes[e].classes])
        torch.testing.assert_close(texts.embeddings[e], expected, atol=1e-6, rtol=1e-5)


def test_names_as_texts_change_no_bit_and_other_texts_change_predictions(
    runs: Runs, tmp_path: Path
) -> None:
    plain, same, other = (
        [
            _probabilities(row.folder)
            for row in evaluate.run(runs.config(tmp_path / name, class_texts=texts)).rows
        ]
        for name, texts in (
            ("plain", None),
            ("same", {name: name.replace("_", " ") for name in NAMES}),
            ("other", TEXTS),
        )
    )
    assert plain == same
    for before, after in zip(plain, other, strict=True):
        assert before != after


def test_rows_are_marked_and_headers_record_the_texts(runs: Runs, tmp_path: Path) -> None:
    texts = {**TEXTS, class_names("shapes")[4]: "of a class of another subset"}
    file = _write(tmp_path, texts)
    config = runs.config(tmp_path / "run", head=["tip", "prototype"], class_texts=str(file))
    result = evaluate.run(config)
    reader, other = result.rows
    assert (reader.note, other.note) == ("class texts", "")
    assert (reader.uses_names, other.uses_names) == (True, False)
    assert "frozen (class texts)" in result.table()
    assert "read texts of the user in place of the class names" in result.table(notes=True)
    recorded = _header(reader.folder)["identity"]["config"]["class_texts"]
    assert recorded == {
        **{
            NAMES[0]: ["a round thing"],
            NAMES[1]: ["four corners", "box"],
            NAMES[2]: TEXTS[NAMES[2]],
        },
        NAMES[3]: {"names": ["a_star"], "prompts": ["A shape of five points."]},
    }
    plain = evaluate.run(runs.config(tmp_path / "plain", head="prototype")).rows[0]
    assert _header(other.folder)["identity"] == _header(plain.folder)["identity"]
    assert "class_texts" not in json.dumps(_header(plain.folder))


def test_a_run_continues_with_the_same_texts_from_wherever_and_with_no_others(
    runs: Runs, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    evaluate.run(runs.config(out, head="tip", class_texts=str(_write(tmp_path, TEXTS))))
    moved = _write(tmp_path, {**TEXTS, class_names("shapes")[5]: "not used"}, "moved.yaml")
    longer = runs.config(out, head="tip", episodes=6, class_texts=str(moved))
    assert evaluate.run(longer).rows[0].episodes == 6
    changed = {**TEXTS, NAMES[1]: "four corners"}
    for texts, message in (
        (changed, rf"config.class_texts.{NAMES[1]}: \[\"four corners\", \"box\"\] in the folder"),
        (None, r"config.class_texts: \{.* in the folder, .* requested"),
    ):
        with pytest.raises(RecordError, match=message) as caught:
            evaluate.run(runs.config(out, head="tip", class_texts=texts))
        assert f"`fewshot-i2v config show {out}` prints" in str(caught.value)


def test_the_folder_gives_the_configuration_without_the_file(runs: Runs, tmp_path: Path) -> None:
    file = _write(tmp_path, TEXTS)
    config = runs.config(tmp_path / "run", head=["prototype", "tip"], class_texts=str(file))
    rows = evaluate.run(config).rows
    file.unlink()
    headers = [_header(row.folder) for row in rows]
    (recipe,) = reproduction_recipes("run", headers, episodes=4)
    assert "exactly these rows" in recipe.remarks[0]
    again = parse_yaml(recipe.config, "again")
    again |= {"cache": str(runs.folder / "cache"), "workers": 1, "output": str(tmp_path / "again")}
    repeated = evaluate.run(load_config(again)).rows
    assert [_probabilities(row.folder) for row in repeated] == [
        _probabilities(row.folder) for row in rows
    ]
    commands = continuation_commands(tmp_path / "run", headers, ["--episodes", "9"])
    assert commands[0].startswith(f"fewshot-i2v config show {tmp_path / 'run'} > ")


def test_rows_of_other_texts_are_no_part_of_one_configuration(runs: Runs, tmp_path: Path) -> None:
    headers = [
        _header(evaluate.run(runs.config(tmp_path, head=head, class_texts=texts)).rows[0].folder)
        for head, texts in (("tip", TEXTS), ("zero-shot", {**TEXTS, NAMES[0]: "a ball"}))
    ]
    (recipe,) = reproduction_recipes("run", headers, episodes=4)
    assert (
        "gives 1 of 2. It does not give: frozen, zero-shot, 1-shot, other class texts."
        in (recipe.remarks[0])
    )


def test_rows_with_and_without_texts_can_be_compared(runs: Runs, tmp_path: Path) -> None:
    for name, texts in (("plain", None), ("texts", TEXTS)):
        evaluate.run(runs.config(tmp_path / name, head="tip", class_texts=texts))
    rows = read_compared_rows([tmp_path / "plain", tmp_path / "texts"])
    names = names_by_row(rows)
    assert sorted(names.values()) == ["frozen", "frozen (class texts)"]
    (comparison,) = compare_rows(all_pairs(rows), names)
    assert comparison.name == "frozen (class texts)"


def test_rows_are_compared_with_the_frozen_row_of_the_same_texts(
    runs: Runs, tmp_path: Path
) -> None:
    for name, texts in (("plain", None), ("texts", TEXTS)):
        both = {"adapter": ["frozen", "lora"], "head": "tip", "tuning": {"steps": 1, "lr": 0.1}}
        evaluate.run(runs.config(tmp_path / name, class_texts=texts, **both))
    rows = read_compared_rows([tmp_path / "plain", tmp_path / "texts"])
    pairs, unpaired = pairs_with_frozen(rows)
    folders = [[row.summary.folder.parent.name for row in pair] for pair in pairs]
    assert (folders, unpaired) == ([["plain", "plain"], ["texts", "texts"]], [])
    summaries = [row.summary for row in rows]
    assert len(set(map(table_key, summaries))) == 1
    for row in summaries:
        baseline = baseline_of(row, summaries)
        assert baseline is not None
        assert baseline.folder.parent == row.folder.parent


def test_equal_frozen_rows_of_other_texts_are_no_repeats(runs: Runs, tmp_path: Path) -> None:
    same = {name: name.replace("_", " ") for name in NAMES}
    for name, texts in (("plain", None), ("again", None), ("same", same)):
        evaluate.run(runs.config(tmp_path / name, head="tip", class_texts=texts))
    rows = read_compared_rows([tmp_path / name for name in ("plain", "again", "same")])
    predictions = [row.predictions for row in rows]
    merged = merge_repeated_frozen([row.summary for row in rows], predictions)
    assert [row.folder.parent.name for row in merged.values()] == ["plain", "same"]


def test_an_export_has_the_embeddings_of_the_recorded_texts(runs: Runs, tmp_path: Path) -> None:
    file = _write(tmp_path, TEXTS)
    config = runs.config(tmp_path / "run", head=HEAD, class_texts=str(file))
    row = evaluate.run(config).rows[0].folder
    file.unlink()
    export_episode(row, 1, tmp_path / "out", cache=runs.folder / "cache", merge=False)
    encoder = fewshot_i2v.load_encoder(**runs.clip.keys)
    loaded = fewshot_i2v.load_adapter(tmp_path / "out", encoder)
    prompts = dict(zip(NAMES, PROMPTS, strict=True))
    expected = torch.stack([runs.clip.embed(prompts[n]) for n in loaded.metadata.classes])
    assert loaded.head is not None
    assert loaded.head.texts is not None
    torch.testing.assert_close(loaded.head.texts.embeddings[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("engine", ["pickled", pytest.param("processes", marks=pytest.mark.slow)])
def test_workers_need_no_file(engine: str, runs: Runs, tmp_path: Path) -> None:
    config = runs.config(tmp_path / "one", head="tip", class_texts=TEXTS)
    alone = _probabilities(evaluate.run(config).rows[0].folder)
    file = _write(tmp_path, TEXTS)
    config = runs.config(tmp_path / "several", head="tip", class_texts=str(file))
    file.unlink()
    pool: WorkerPool = (
        PoolOfThisProcess(pickle.loads(pickle.dumps(config)))  # noqa: S301 - our own
        if engine == "pickled"
        else start_workers("processes", config, processes=1)
    )
    (row,) = evaluate.run(config, pool=pool).rows
    assert _probabilities(row.folder) == alone


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (
            {NAMES[0].upper(): "x", **TEXTS},
            UnknownNameError,
            rf"'{NAMES[0].upper()}'; did you mean '{NAMES[0]}'.*text in .*texts\.yaml",
        ),
        (
            {NAMES[0]: "x"},
            ConfigError,
            rf"texts\.yaml: no text for 3 of the 4 classes of the subset novel: {NAMES[1]}",
        ),
        (
            {**TEXTS, NAMES[2]: ["very " * CONTEXT_LENGTH, "fine"], NAMES[3]: "so " * 30},
            ConfigError,
            rf"texts\.yaml: class '{NAMES[2]}': the prompt 'a video of very.*' has 23 tokens; "
            rf"expected at most 18.*In all 2 prompts are too long, of {NAMES[2]}, {NAMES[3]}\.",
        ),
    ],
)
def test_texts_that_do_not_fit_are_refused_before_any_clip_is_touched(
    texts: dict[str, Any], error: type[Exception], message: str, runs: Runs, tmp_path: Path
) -> None:
    places = {"class_texts": str(_write(tmp_path, texts)), "cache": str(tmp_path / "cache")}
    config = runs.config(tmp_path / "out", head="tip", **places)
    for call in (evaluate.run, evaluate.dry_run):
        with pytest.raises(error, match=message):
            call(config)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "cache" / CLIPS_FOLDER).exists()


def test_a_dry_run_counts_the_texts_of_the_subset(runs: Runs, tmp_path: Path) -> None:
    texts = {**TEXTS, class_names("shapes")[6]: ["of another", "subset"]}
    plan = evaluate.dry_run(runs.config(tmp_path, head="tip", class_texts=texts))
    assert plan["class_texts"] == {"classes": 4, "names": 4, "prompts": 3}
    json.dumps(plan)
    shown = " ".join("\n".join(evaluation_lines(plan)).split())
    assert "texts of 4 classes in their place: 4 names in each template, 3 complete" in shown
    plain = evaluate.dry_run(runs.config(tmp_path, head="tip"))
    assert plain["class_texts"] is None
    assert "in each template" not in "\n".join(evaluation_lines(plain))


def test_python_takes_a_mapping(runs: Runs, tmp_path: Path) -> None:
    config = runs.config(tmp_path / "one", head="tip").model_dump(exclude_unset=True)
    result = fewshot_i2v.evaluate(config, class_texts=TEXTS, output=tmp_path / "two")
    assert result.rows[0].note == "class texts"
