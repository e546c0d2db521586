"""Adding an adapter, a head, a split or a configuration is adding one file."""

from __future__ import annotations

import os
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from fewshot_i2v import plugins
from fewshot_i2v.errors import UnknownNameError, UsageError
from fewshot_i2v.heads._contract import Head

HEAD = '''"""A head for a test.

More about it.
"""
from fewshot_i2v.heads.prototype import {base}


class Mine({base}):
    source = "a test"
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one head, named in the environment."""
    (tmp_path / "more" / "heads").mkdir(parents=True)
    base = plugins.load("heads", "prototype").__name__
    (tmp_path / "more" / "heads" / "my_head.py").write_text(HEAD.format(base=base))
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path / "more"))
    return tmp_path / "more" / "heads"


def test_shipped_adapters_and_heads_are_found_with_a_summary() -> None:
    for kind in ("adapters", "heads"):
        rows = plugins.found(kind)
        assert rows == sorted(rows, key=lambda row: row.name)
        assert all(row.summary for row in rows)
        assert not any(row.name.startswith(("_", "-")) for row in rows)
    assert {"frozen", "st-adapter"} <= set(plugins.names("adapters"))
    assert {"linear", "prototype"} <= set(plugins.names("heads"))


@pytest.mark.parametrize("kind", ["adapters", "heads"])
def test_every_shipped_one_loads_as_a_subclass_of_its_contract(kind: plugins.Kind) -> None:
    base = {"adapters": "Adapter", "heads": "Head"}[kind]
    for name in plugins.names(kind):
        assert base in [c.__name__ for c in plugins.load(kind, name).__mro__]


def test_a_file_in_an_added_folder_is_a_head(folder: Path) -> None:
    row = next(row for row in plugins.found("heads") if row.name == "my-head")
    assert row.summary == "A head for a test"
    assert row.origin == str(folder / "my_head.py")
    assert issubclass(plugins.load("heads", "my-head"), Head)
    assert "my-head" not in plugins.names("adapters")


def test_add_folder_does_the_same_from_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEWSHOT_I2V_PLUGINS")
    monkeypatch.setattr(plugins, "_extra_folders", {"adapters": [], "heads": []})
    assert "my-head" not in plugins.names("heads")
    plugins.add_folder("heads", folder)
    assert "my-head" in plugins.names("heads")


def test_a_missing_folder_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", os.pathsep.join(["", "/no/such/folder"]))
    with pytest.raises(UsageError, match="/no/such/folder: not a folder; FEWSHOT_I2V_PLUGINS"):
        plugins.names("heads")
    with pytest.raises(UsageError, match="not a folder"):
        plugins.add_folder("heads", Path("/no/such/folder"))


def test_two_of_one_name_are_refused(folder: Path) -> None:
    (folder / "linear.py").write_text('"""Another one."""\n')
    with pytest.raises(UsageError, match=r"two heads are called 'linear': .*linear\.py and .*"):
        plugins.load("heads", "linear")


def test_a_file_without_its_class_is_refused(folder: Path) -> None:
    (folder / "empty.py").write_text('"""Nothing here."""\n')
    with pytest.raises(UsageError, match="exactly one subclass of Head, found none"):
        plugins.load("heads", "empty")


def test_a_file_that_is_not_python_is_listed_with_its_line(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\ndef (\n")
    row = next(row for row in plugins.found("heads") if row.name == "broken")
    assert row.summary == "cannot be used: line 2 is not valid Python"


def test_unknown_adapter_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown adapter 'frozn'; did you mean 'frozen'\?"):
        plugins.load("adapters", "frozn")


def test_entry_points_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    target = "fewshot_i2v.heads._contract:Head"
    point = EntryPoint("theirs", target, "fewshot_i2v.heads")
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [point] if group == point.group else []
    )
    assert plugins.load("heads", "theirs") is Head
    row = next(row for row in plugins.found("heads") if row.name == "theirs")
    assert row.origin == target


def test_shipped_data_is_found_by_name() -> None:
    assert "quickstart" in plugins.data_names("configs")
    path = plugins.data_file("episodes", "motions")
    assert path.is_file()
    assert path.name == "motions.yaml"


def test_unknown_data_names_what_exists() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown split 'motion'; did you mean 'motions'\?"):
        plugins.data_file("episodes", "motion")
    with pytest.raises(UnknownNameError, match="A path to a YAML file works too"):
        plugins.data_file("configs", "../configs/quickstart")
