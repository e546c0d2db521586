"""`config show`: all values of a configuration as YAML that can be read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.training_recipes import take_recipe
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.utils.resources import data_names
from tests.cli.pilots import some, write

Invoke = Callable[..., Result]


def test_the_output_is_the_same_configuration(invoke: Invoke, tmp_path: Path) -> None:
    result = invoke("config", "show", "--set", "tuning.steps=3")
    assert result.exit_code == 0, result.output
    path = tmp_path / "again.yaml"
    path.write_text(result.stdout)
    again = load_config(str(path))
    assert again == load_config("quickstart", {"tuning.steps": 3})
    assert again.tuning.steps == 3
    comments = [line for line in result.stdout.splitlines() if line.startswith("#")]
    assert "# episodes 12: from quickstart" in comments
    assert "# tuning.steps 3: from --set" in comments
    last = result.stderr.splitlines()[-1]
    assert last == "next: fewshot-i2v evaluate quickstart --set tuning.steps=3 --dry-run"


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("of_file", [True, False])
def test_texts_of_classes_are_shown_as_they_were_given(
    invoke: Invoke, tmp_path: Path, form: list[str], *, of_file: bool
) -> None:
    file, run, again = (tmp_path / name for name in ("texts.json", "run.yaml", "again.yaml"))
    file.write_text('{"moves-up": "rises"}', encoding="utf-8")
    texts = "texts.json" if of_file else "{moves-up: rises}"
    run.write_text(f"split: motions\nhead: tip\nclass_texts: {texts}\n", encoding="utf-8")
    result = invoke("config", "show", str(run), *form)
    assert result.exit_code == 0, result.output
    again.write_text(result.stdout, encoding="utf-8")
    shown, expected = load_config(str(again)), load_config(str(run))
    assert shown.class_texts == expected.class_texts
    assert shown.class_texts is not None
    assert shown.class_texts.file == (file if of_file else None)
    if not form:
        origin = str(file) if of_file else "of 1 class"
        assert f"# class_texts {origin}: from {run}" in result.stdout.splitlines()


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("name", ["quickstart", "motions-tuned", "motions-starts"])
def test_rows_keep_their_recipes_when_the_output_is_read_again(
    invoke: Invoke, tmp_path: Path, name: str, form: list[str]
) -> None:
    """A key that is written would win over that of a row's recipe."""
    path = tmp_path / f"{name}.yaml"
    path.write_text(invoke("config", "show", name, *form).stdout)
    again, expected = (expand_rows(load_config(source)) for source in (str(path), name))
    assert [row.tuning for row in again] == [row.tuning for row in expected]
    shown = invoke("config", "show", name).stdout
    is_said = "# keys of tuning that are not here: those of each row's recipe, auto" in shown
    assert is_said == (load_config(name).tuning.recipe == "auto")


def test_a_training_is_shown_by_its_short_name_and_from_a_file(
    invoke: Invoke, tmp_path: Path
) -> None:
    result = invoke("config", "show", "motions", "--json")
    values = json.loads(result.stdout)
    assert values["objective"] == "both"
    path = tmp_path / "mine.yaml"
    path.write_text("split: motions\nadapter: aim\nobjective: maml\n")
    mine = invoke("config", "show", str(path))
    assert mine.stderr.splitlines()[-1] == f"next: fewshot-i2v train {path} --dry-run"
    path.write_text(mine.stdout)
    assert load_train_config(str(path)).objective == "maml"


def test_a_training_is_shown_with_the_recipe_that_it_takes(invoke: Invoke, tmp_path: Path) -> None:
    shown = invoke("config", "show", "motions", "--set", "adapter=zeroi2v").stdout
    comments = [line for line in shown.splitlines() if line.startswith("#")]
    assert "# lr 0.0005: from the recipe" in comments
    assert "# way 10: from motions" in comments
    assert "# adapter zeroi2v: from --set" in comments
    path = tmp_path / "motions.yaml"
    path.write_text(shown)
    again = take_recipe(load_train_config(str(path)))
    assert not again.taken, "all keys are written"
    taken = take_recipe(load_train_config("motions", {"adapter": "zeroi2v"}))
    assert again.config.identity() == taken.config.identity()


@pytest.mark.parametrize("name", data_names("configs"))
def test_every_shipped_configuration_is_shown(invoke: Invoke, name: str) -> None:
    result = invoke("config", "show", name)
    assert result.exit_code == 0, result.output
    expected = "train" if name.startswith("train/") else "evaluate"
    assert result.stderr.splitlines()[-1].split()[2] == expected


def test_what_is_wrong_is_named(invoke: Invoke) -> None:
    result = invoke("config", "show", "quickstrat")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown config 'quickstrat'" in result.stderr
    result = invoke("config", "show", "--set", "tuning.steps=x")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "tuning.steps" in result.stderr


def test_the_configuration_of_a_run_gives_its_rows(invoke: Invoke, tmp_path: Path) -> None:
    for adapter in ("frozen", "aim"):
        write(tmp_path / "run", adapter, some(3, 0.6, episodes=4), shot=1)
    result = invoke("config", "show", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "It gives exactly these rows." in result.stdout
    path = tmp_path / "again.yaml"
    path.write_text(result.stdout)
    again = load_config(str(path))
    assert ([spec.name for spec in again.adapter], again.episodes) == (["frozen", "aim"], 4)
    as_json = json.loads(invoke("config", "show", str(tmp_path / "run"), "--json").stdout)
    assert as_json["episodes"] == 4


def test_a_folder_of_several_evaluations_is_refused(invoke: Invoke, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name, "frozen", some(3, 0.6, episodes=4), shot=1)
    result = invoke("config", "show", str(tmp_path))
    assert result.exit_code == 2
    assert "2 evaluations; expected one" in result.stderr
