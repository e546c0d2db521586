"""The tables of keys in configs/README.md and episodes/README.md.

Those of configurations come from the fields of their models, that of split files from its table of
fields.

python scripts/key_table.py            # writes the guides
python scripts/key_table.py --check    # fails where they say anything else
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from fewshot_i2v.config.evaluation import EvaluationConfig  # noqa: E402 - the checkout's own
from fewshot_i2v.config.keys import REQUIRED, ConfigKey, config_keys  # noqa: E402
from fewshot_i2v.config.training import TrainingConfig  # noqa: E402
from fewshot_i2v.data.splits.split_fields import (  # noqa: E402
    GENERATOR_FIELDS,
    SPLIT_FIELDS,
    FieldSpec,
)

CONFIG_GUIDE = ROOT / "configs" / "README.md"
SPLIT_GUIDE = ROOT / "episodes" / "README.md"
_HEADER = ("| key | values | default | what |", "|---|---|---|---|")


def _values(key: ConfigKey) -> str:
    """How values of a key are written."""
    plain = {
        "int": "integer",
        "float": "number",
        "bool": "true or false",
        "Path": "path",
        "dict": "section",
    }
    words = " or ".join(key.choices) or key.form or plain.get(key.kind.__name__, "text")
    return f"list of {words}" if key.several else words


def table_lines(model: type[BaseModel], *, without: type[BaseModel] | None = None) -> Iterator[str]:
    """The table of a model's keys.

    Args:
        model: of the configuration.
        without: a model whose keys are left out where all that is said of them is the same.
    """
    listed = {} if without is None else config_keys(without)
    yield from _HEADER
    for name, key in config_keys(model).items():
        if listed.get(name) != key:
            yield _table_line(name, _values(key), key.default, key.description)


def split_table_lines() -> Iterator[str]:
    """The table of the keys of a split file, with those of its generator after it."""
    yield from _HEADER
    for field in SPLIT_FIELDS.values():
        yield _split_table_line(field)
        if field.key == "generator":
            yield from (_split_table_line(key, "generator.") for key in GENERATOR_FIELDS.values())


def _split_table_line(field: FieldSpec, prefix: str = "") -> str:
    default = "" if field.default in (None, "", [], {}) else str(field.default)
    default = REQUIRED if field.required else default
    return _table_line(prefix + field.key, field.expected, default, field.text)


def _table_line(key: str, values: str, default: str, text: str) -> str:
    values = values.replace("|", "\\|")
    shown = f"`{default}`" if default not in ("", REQUIRED) else default
    return f"| `{key}` | {values} | {shown} | {text} |"


def guide_text(guide: Path, text: str) -> str:
    """The text of a guide with its tables of keys made again."""
    tables = {
        CONFIG_GUIDE: {
            "keys of an evaluation": table_lines(EvaluationConfig),
            "keys of a training": table_lines(TrainingConfig, without=EvaluationConfig),
        },
        SPLIT_GUIDE: {"keys of a split file": split_table_lines()},
    }
    for name, lines in tables[guide].items():
        marked = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not marked.search(text):
            raise click.ClickException(f"{guide} has no <!-- {name} --> ... <!-- /{name} -->")
        table = "\n".join(lines)
        text = marked.sub(lambda m, table=table: f"{m[1]}\n{table}\n\n{m[2]}", text)  # type: ignore[misc]
    return text


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where a guide differs.")
def main(check: bool) -> None:
    """Write the tables of keys into configs/README.md and episodes/README.md."""
    for guide in (CONFIG_GUIDE, SPLIT_GUIDE):
        old = guide.read_text(encoding="utf-8")
        new = guide_text(guide, old)
        if not check:
            guide.write_text(new, encoding="utf-8")
        elif new != old:
            raise click.ClickException(f"{guide} is not up to date: python scripts/key_table.py")


if __name__ == "__main__":
    main()
