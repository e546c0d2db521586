"""What a terminal shows fits 80 columns, however long the names of methods are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewshot_i2v.cli._settings import settings_lines
from fewshot_i2v.evaluation.row_expansion import load_config
from fewshot_i2v.utils.text_table import WIDTH, display_width
from tests.cli.conftest import Invoke
from tests.cli.pilots import some, write

HEAD = "prototype:center=true,pooling=ordered,tokens=summary+grid4+motion"
ADAPTER = "adaptformer:layernorm=in,scale=0.25"


@pytest.fixture(scope="module")
def long_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of adapters and heads with long options."""
    output = tmp_path_factory.mktemp("runs")
    for i, head in enumerate((HEAD, "linear")):
        write(output, "frozen", some(i, 0.5), head=head, shot=1)
        for hidden in (64, 128):
            answers = some(i + hidden, 0.7 + hidden / 1000)
            write(output, f"{ADAPTER},hidden={hidden}", answers, head=head, shot=1)
    return output


@pytest.mark.parametrize(
    "command",
    [
        "show {}",
        "show {} --intervals",
        "compare {} --all-pairs",
        "compare {} --baseline frozen",
        "plan {}",
        "recommend {}",
    ],
)
def test_tables_with_long_names_fit(invoke: Invoke, long_names: Path, command: str) -> None:
    done = invoke(*command.format(long_names).split())
    assert done.exit_code == 0, done.output
    wide = [line for line in done.stdout.splitlines() if display_width(line) > WIDTH]
    assert wide == []


def test_the_settings_of_an_evaluation_fit() -> None:
    config = load_config("quickstart", {"tuning.steps": 2})
    lines = settings_lines(config, "quickstart", {"tuning.steps": 2})
    assert max(map(len, lines)) <= WIDTH
    assert any(line.startswith("  flags: tuning.steps 2") for line in lines)
