"""How to run an evaluation again, from the headers of its rows.

A configuration holds one tuning for each adapter. Rows of an adapter that were tuned in several
ways, as by evaluating into one folder twice, need as many configurations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from fewshot_i2v.config.file_names import file_name, split_weights, with_file
from fewshot_i2v.config.method import Choice
from fewshot_i2v.config.start_names import FRESH, UNTRAINED, names_of_starts
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.report.analysis.report_data import Recipe
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import dump_yaml

_ROW_KEYS = frozenset({"adapter", "start", "head", "shot", "tuning", "training_seed"})
Header = Mapping[str, Any]
Plain = dict[str, Any]


class _Names(NamedTuple):
    """Of the file to save a configuration as, and of the folder to run it into."""

    file: str = "run.yaml"
    output: str = "runs/again"


def recipes_of(folder: str, headers: Sequence[Header], *, episodes: int) -> tuple[Recipe, ...]:
    """As many recipes as it takes to give the rows of an evaluation again.

    Args:
        folder: of the evaluation.
        headers: contents of `run.json` of its rows.
        episodes: how many to run.

    Returns:
        One recipe, or one for each way in which rows of one adapter were tuned, the most usual one
        first; then their remarks say how many rows each of them gives.
    """
    parts = _by_tuning(headers)
    if len(parts) == 1:
        return (_recipe(folder, headers, episodes, headers, _Names()),)
    recipes = []
    for number, part in enumerate(parts, start=1):
        names = _Names() if number == 1 else _Names(f"run-{number}.yaml", f"runs/again-{number}")
        recipe = _recipe(folder, part, episodes, part, names)
        told = (
            f"This is {len(part)} of the {len(headers)} rows; {len(parts)} configurations give all "
            "of them, for rows of one adapter were tuned in several ways."
        )
        recipes.append(replace(recipe, remarks=(recipe.remarks[0], told, *recipe.remarks[1:])))
    return tuple(recipes)


def recipe_of(folder: str, headers: Sequence[Header], *, episodes: int) -> Recipe:
    """A configuration that gives the rows of an evaluation again, and the command that runs it.

    Args:
        folder: of the evaluation.
        headers: contents of `run.json` of its rows.
        episodes: how many to run.

    Returns:
        The recipe; its remarks say whether the configuration was found to give these very rows,
        and name those that it does not give: each adapter is tuned as most of its rows were.
    """
    return _recipe(folder, _by_tuning(headers)[0], episodes, headers, _Names())


def _recipe(
    folder: str, part: Sequence[Header], episodes: int, asked: Sequence[Header], names: _Names
) -> Recipe:
    """The recipe of rows that are tuned alike, judged by the rows asked for."""
    config = _config(part, episodes)
    remarks = [_checked(config, asked, names.file)]
    if config.get("sampling") == "disjoint" and "partitions" not in part[0]:
        remarks.append("How many partitions were asked for (--partitions) is not recorded.")
    command = f"fewshot-i2v evaluate {names.file} --output {names.output}"
    return Recipe(folder, dump_yaml(config), command, tuple(remarks))


def _by_tuning(headers: Sequence[Header]) -> list[list[Header]]:
    """The rows in parts in which all rows of an adapter are tuned alike, in their order.

    The first has the most usual tuning of each adapter, the second the next one, and so on.
    """
    tunings = [dump_yaml(header["identity"]["config"]["tuning"]) for header in headers]
    adapters = [header["identity"]["config"]["adapter"]["name"] for header in headers]
    of_adapter, of_all = Counter(zip(adapters, tunings, strict=True)), Counter(tunings)
    ways: dict[str, list[str]] = {}
    for adapter, tuning in of_adapter:
        ways.setdefault(adapter, []).append(tuning)
    for adapter, found in ways.items():
        # of two that are as usual, the one that other adapters have; the sort keeps the first
        found.sort(key=lambda t: (of_adapter[adapter, t], of_all[t]), reverse=True)
    parts: list[list[Header]] = [[] for _ in range(max(map(len, ways.values())))]
    for header, adapter, tuning in zip(headers, adapters, tunings, strict=True):
        parts[ways[adapter].index(tuning)].append(header)
    return parts


def _config(headers: Sequence[Header], episodes: int) -> Plain:
    configs = [header["identity"]["config"] for header in headers]
    shared = {key: value for key, value in configs[0].items() if key not in _ROW_KEYS}
    about = headers[0]
    if shared["split"] not in resources.data_names("episodes"):
        shared["split"] = about.get("split", {}).get("path", shared["split"])
    encoder = {key: value for key, value in shared["encoder"].items() if value is not None}
    for key in encoder.keys() & {"pretrained", "architecture"}:
        encoder[key] = _whole_path(encoder[key], about.get("encoder", {}).get(key))
    tuning, recipes = _tunings(configs)
    seeds = _once(c["training_seed"] for c in configs if "training_seed" in c)
    trials = about.get("trials", {}).get("path")
    return {
        **shared,
        "encoder": encoder,
        "episodes": episodes,
        **({"trials": trials} if trials else {}),
        **({"partitions": about["partitions"]} if "partitions" in about else {}),
        "adapter": _once(_choice(c["adapter"]) for c in configs),
        "start": _starts(headers),
        "head": _once(_choice(c["head"]) for c in configs),
        "shot": _once(c["shot"] for c in configs),
        **({"training_seeds": seeds} if seeds else {}),
        "tuning": tuning,
        **({"recipes": recipes} if recipes else {}),
    }


def _once(values: Iterable[Any]) -> list[Any]:
    """Each value once, in order of first appearance; values need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _choice(choice: Mapping[str, Any]) -> str | Plain:
    return {"name": choice["name"], **choice["options"]} if choice["options"] else choice["name"]


def _whole_path(name: str, path: object) -> str:
    """The path whose last part is all that decides the results, where the header has it."""
    if not isinstance(path, str):
        return name
    # weights that were known by their digest are recorded with a tag that was not given
    places = [path, split_weights(path)[1] or ""]
    fitting = [p for p in places if name in (Path(p).name, with_file(p, file_name))]
    return fitting[0] if fitting else name


def _tunings(configs: Sequence[Mapping[str, Any]]) -> tuple[Plain, dict[str, Plain]]:
    """What most rows are tuned with, and the keys in which some adapters differ from it.

    Args:
        configs: those of an adapter are tuned alike.
    """
    keys = [dump_yaml(config["tuning"]) for config in configs]
    most = configs[keys.index(Counter(keys).most_common(1)[0][0])]["tuning"]
    recipes = {c["adapter"]["name"]: _differing(c["tuning"], most) for c in configs}
    return most, {name: recipe for name, recipe in recipes.items() if recipe}


def _differing(tuning: Plain, usual: Plain) -> Plain:
    """The keys that differ; a key that is not recorded has no value."""
    keys = sorted(tuning.keys() | usual.keys())
    return {key: tuning.get(key) for key in keys if tuning.get(key) != usual.get(key)}


def _starts(headers: Sequence[Header]) -> list[str]:
    """Names of shipped starting points, paths of others; "fresh" where a row has none."""
    shipped = names_of_starts()
    found = []
    for header in headers:
        config = header["identity"]["config"]
        name = config.get("start", FRESH)
        if name == FRESH and config["adapter"]["name"] == UNTRAINED:
            continue
        own = name not in (FRESH, *shipped)
        found.append(header.get("start", {}).get("path", name) if own else name)
    return _once(found) or [FRESH]


def _checked(config: Plain, headers: Sequence[Header], file: str) -> str:
    """Whether the configuration gives the rows, in a sentence or two."""
    asked = [header["identity"]["config"] for header in headers]
    try:
        given = [row.identity() for row in expand_rows(load_config(config))]
    except FewshotError as error:
        return f"Whether this gives these rows could not be checked here: {error}."
    lacking = [row for row in asked if row not in given]
    if lacking:
        return (
            "One configuration cannot hold the settings of all of these rows; the one below, "
            f"{file}, gives {len(asked) - len(lacking)} of {len(asked)}. It does not give: "
            + "; ".join(_row_text(row, config) for row in lacking)
            + "."
        )
    more = len(given) - len(_once(asked))
    if more:
        return f"It gives these rows and {more} more, which were not run or not given."
    return f"Save the configuration below as {file}. It gives exactly these rows."


def _row_text(row: Mapping[str, Any], config: Plain) -> str:
    """A row in words, with how its tuning differs from that of a configuration."""
    start = f" from {row['start']}" if "start" in row else ""
    parts = [
        Choice.model_validate(row["adapter"]).label + start,
        Choice.model_validate(row["head"]).label,
        f"{row['shot']}-shot",
    ]
    if "training_seed" in row:
        parts.append(f"training seed {row['training_seed']}")
    recipe = config.get("recipes", {}).get(row["adapter"]["name"], {})
    differing = _differing(row["tuning"], {**config["tuning"], **recipe})
    text = ", ".join(f"{key}: {_plain_text(value)}" for key, value in differing.items())
    return ", ".join(parts) + (f" ({text})" if text else "")


def _plain_text(value: object) -> str:
    return "null" if value is None else str(value)
