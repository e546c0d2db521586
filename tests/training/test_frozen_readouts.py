"""Training of heads that read the frozen encoder beside the adapted one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.training.train import train
from tests.training.training_samples import train_config, training_folder

BOTH = "prototype:pooling=ordered,center=true,tokens=summary+frozen-motion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("training"))


@pytest.mark.parametrize("objective", ["episodic", "both"])
@pytest.mark.parametrize("where", ["head", "validation.head"])
def test_the_loss_or_the_validation_may_read_both(
    folder: Path, tmp_path: Path, objective: str, where: str
) -> None:
    validation = {"every": 3, "episodes": 6, "shot": 1, "query": 2}
    changes = {"head": BOTH} if where == "head" else {}
    if where != "head":
        validation |= {"head": BOTH}
    curves = [
        train(train_config(folder, tmp_path / name, objective=objective, **keys)).info.about[
            "start"
        ]["curve"]
        for name, keys in (
            ("plain", {}),
            ("both", {**changes, "validation": validation}),
        )
    ]
    assert [state["step"] for state in curves[1]] == [0, 3, 6]
    assert curves[1] != curves[0]


def test_a_loss_that_reads_nothing_of_the_adapter_is_refused(folder: Path, tmp_path: Path) -> None:
    head = "prototype:tokens=frozen-motion"
    with pytest.raises(ConfigError, match=r"frozen encoder alone, which temporal-embedding does"):
        train(train_config(folder, tmp_path / "start", head=head))
