"""How to run an evaluation again, from the headers of its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v import plugins
from fewshot_i2v._config_starts import FRESH, UNTRAINED, names_of_starts
from fewshot_i2v.config import load_config
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.report.sections import Recipe
from fewshot_i2v.yaml_loader import dump_yaml

_ROW_KEYS = frozenset({"adapter", "start", "head", "shot", "tuning", "training_seed"})
Header = Mapping[str, Any]
Plain = dict[str, Any]


def recipe_of(folder: str, headers: Sequence[Header], *, episodes: int) -> Recipe:
    """A configuration that gives the rows of an evaluation again, and the command that runs it.

    Args:
        folder: of the evaluation.
        headers: contents of `run.json` of its rows.
        episodes: how many to run.

    Returns:
        The recipe; its remarks say whether the configuration was found to give these very rows.
    """
    config = _config(headers, episodes)
    remarks = [_checked(config, headers)]
    if config.get("sampling") == "disjoint" and "partitions" not in headers[0]:
        remarks.append("How many partitions were asked for (--partitions) is not recorded.")
    command = "fewshot-i2v evaluate run.yaml --output runs/again"
    return Recipe(folder, dump_yaml(config), command, tuple(remarks))


def _config(headers: Sequence[Header], episodes: int) -> Plain:
    configs = [header["identity"]["config"] for header in headers]
    shared = {key: value for key, value in configs[0].items() if key not in _ROW_KEYS}
    about = headers[0]
    if shared["split"] not in plugins.data_names("episodes"):
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
    return path if isinstance(path, str) and Path(path).name == name else name


def _tunings(configs: Sequence[Mapping[str, Any]]) -> tuple[Plain, dict[str, Plain]]:
    """What most rows are tuned with, and the keys in which some adapters differ from it."""
    keys = [dump_yaml(config["tuning"]) for config in configs]
    most = configs[keys.index(Counter(keys).most_common(1)[0][0])]["tuning"]
    recipes = {
        config["adapter"]["name"]: {
            key: value for key, value in config["tuning"].items() if most.get(key) != value
        }
        for config in configs
    }
    return most, {name: recipe for name, recipe in recipes.items() if recipe}


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


def _checked(config: Plain, headers: Sequence[Header]) -> str:
    """Whether the configuration gives the rows, in a sentence."""
    asked = [header["identity"]["config"] for header in headers]
    try:
        given = [row.identity() for row in load_config(config).rows()]
    except FewshotError as error:
        return f"Whether this gives these rows could not be checked here: {error}."
    if any(row not in given for row in asked):
        return (
            "One configuration cannot hold the settings of all of these rows; it is that of most "
            "of them, and what each was run with stands below."
        )
    more = len(given) - len(_once(asked))
    if more:
        return f"It gives these rows and {more} more, which were not run or not given."
    return "Save the configuration below as run.yaml. It gives exactly these rows."
