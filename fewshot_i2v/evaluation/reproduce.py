"""Configuration and command that reproduce an evaluation, from the headers of its rows.

A configuration holds one tuning for each adapter. Rows of an adapter with several tunings, as from
evaluating into one folder twice, need as many configurations.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.config.base import FinetuneConfig, RecipeName
from fewshot_i2v.config.file_names import file_name, map_weights_file, parse_pretrained
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.recipes import find_recipe
from fewshot_i2v.config.start_names import FRESH, FROZEN_ADAPTER, names_of_starts
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.report.analysis.report_data import ReproductionRecipe
from fewshot_i2v.runs.header import recorded_root
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml

_ROW_KEYS = frozenset({"adapter", "start", "head", "shot", "tuning", "training_seed"})
Header = Mapping[str, Any]
Plain = dict[str, Any]


def reproduction_recipes(
    folder: str, headers: Sequence[Header], *, episodes: int
) -> tuple[ReproductionRecipe, ...]:
    """Makes the recipes that together reproduce all rows of an evaluation.

    Returns:
        One recipe, or one for each tuning of the rows of one adapter, the most frequent first; then
        their remarks say how many rows each of them gives.
    """
    groups = [(rows, _merged_config(rows, episodes)) for rows in _group_by_tuning(headers)]
    both = _with_untuned_rows(headers, episodes)
    if both is not None:
        groups = [(list(headers), both)]
    recipes = []
    for number, (rows, config) in enumerate(groups, start=1):
        suffix = "" if number == 1 else f"-{number}"
        file = f"run{suffix}.yaml"
        remarks = [_check_config(config, rows, file)]
        if len(groups) > 1:
            remarks.append(
                f"This is {len(rows)} of the {len(headers)} rows; {len(groups)} configurations "
                "give all of them, for rows of one adapter were tuned in several ways."
            )
        if config.get("sampling") == "disjoint" and "partitions" not in rows[0]:
            remarks.append("The number of partitions (--partitions) is not recorded.")
        command = f"fewshot-i2v evaluate {file} --output runs/again{suffix}"
        recipes.append(ReproductionRecipe(folder, dump_yaml(config), command, tuple(remarks)))
    return tuple(recipes)


def continuation_commands(
    folder: Path, headers: Sequence[Header], flags: Sequence[str]
) -> list[str]:
    """Makes the commands that go on with an evaluation under further flags, to paste into a shell.

    The headers are contents of `run.json`, the flags such as "--episodes", "50".

    Returns:
        A command, or two where a configuration is written first; none where no configuration gives
        exactly these rows.
    """
    name, root = headers[0].get("name"), recorded_root(headers[0])
    places = ["--output", str(folder), *(["--root", str(root)] if root else [])]
    if name in resources.data_names("configs"):
        precision = headers[0]["identity"]["config"].get("precision", "fp32")
        # with the precision that "auto" stood for, the command means the same on every machine
        for keys in ({}, {"precision": precision}):
            if _gives_exactly(name, headers, keys):
                more = [word for key, value in keys.items() for word in (f"--{key}", value)]
                return [_command_line("evaluate", name, *more, *places, *flags)]
    recipes = reproduction_recipes(str(folder), headers, episodes=1)
    if len(recipes) > 1 or not _gives_exactly(parse_yaml(recipes[0].config, "run"), headers):
        return []
    file = f"{folder.name or 'run'}-again.yaml"
    return [
        f"{_command_line('config', 'show', str(folder))} > {shlex.quote(file)}",
        _command_line("evaluate", file, *places, *flags),
    ]


def _command_line(*words: str) -> str:
    return shlex.join(["fewshot-i2v", *words])


def _gives_exactly(
    source: str | Plain, headers: Sequence[Header], overrides: Mapping[str, Any] | None = None
) -> bool:
    """Whether a configuration, by name or as a mapping, expands to exactly these rows."""
    try:
        return _missing_and_extra(source, headers, overrides or {}) == ([], 0)
    except FewshotError:
        return False


def method_of_row(header: Header) -> Plain:
    """Returns encoder, video, adapter, start, head and tuning of a row, as configuration keys."""
    config = _merged_config([header], 1)
    keys = ("encoder", "precision", "video", "adapter", "start", "head", "tuning", "recipes")
    return {key: config[key] for key in keys if key in config}


def _group_by_tuning(headers: Sequence[Header]) -> list[list[Header]]:
    """Groups rows so that within a group all rows of an adapter have the same tuning, in order.

    The first group has the most frequent tuning of each adapter, the second the next one, and so
    on.
    """
    tunings = [dump_yaml(_written_tuning(header["identity"]["config"])) for header in headers]
    adapters = [header["identity"]["config"]["adapter"]["name"] for header in headers]
    adapter_counts, tuning_counts = Counter(zip(adapters, tunings, strict=True)), Counter(tunings)
    adapter_tunings: dict[str, list[str]] = {}
    for adapter, tuning in adapter_counts:
        adapter_tunings.setdefault(adapter, []).append(tuning)
    for adapter, tunings_of_adapter in adapter_tunings.items():
        # of two that are as usual, the one that other adapters have; the sort keeps the first
        tunings_of_adapter.sort(
            key=lambda t: (adapter_counts[adapter, t], tuning_counts[t]), reverse=True
        )
    groups: list[list[Header]] = [[] for _ in range(max(map(len, adapter_tunings.values())))]
    for header, adapter, tuning in zip(headers, adapters, tunings, strict=True):
        groups[adapter_tunings[adapter].index(tuning)].append(header)
    return groups


def _with_untuned_rows(headers: Sequence[Header], episodes: int) -> Plain | None:
    """Returns the configuration with `untuned: true` that gives all rows; None where none does."""
    tuned = [header for header in headers if header["identity"]["config"]["tuning"].get("steps")]
    if not tuned or len(tuned) == len(headers):
        return None
    config = {**_merged_config(tuned, episodes), "untuned": True}
    return config if _gives_exactly(config, headers) else None


def _merged_config(headers: Sequence[Header], episodes: int) -> Plain:
    configs = [header["identity"]["config"] for header in headers]
    common = {key: value for key, value in configs[0].items() if key not in _ROW_KEYS}
    facts = headers[0]
    if common["split"] not in resources.data_names("episodes"):
        common["split"] = facts.get("split", {}).get("path", common["split"])
    encoder = {key: value for key, value in common["encoder"].items() if value is not None}
    for key in encoder.keys() & {"pretrained", "architecture"}:
        encoder[key] = _full_path(encoder[key], facts.get("encoder", {}).get(key))
    tuning, recipes = _split_tunings(configs)
    seeds = _unique_values(c["training_seed"] for c in configs if "training_seed" in c)
    trials = facts.get("trials", {}).get("path")
    return {
        **common,
        "encoder": encoder,
        "episodes": episodes,
        **({"trials": trials} if trials else {}),
        **({"partitions": facts["partitions"]} if "partitions" in facts else {}),
        "adapter": _unique_values(_method_value(c["adapter"]) for c in configs),
        "start": _start_values(headers),
        "head": _unique_values(_method_value(c["head"]) for c in configs),
        "shot": _unique_values(c["shot"] for c in configs),
        **({"training_seeds": seeds} if seeds else {}),
        "tuning": tuning,
        **({"recipes": recipes} if recipes else {}),
    }


def _unique_values(values: Iterable[Any]) -> list[Any]:
    """Unique values in order of first appearance; values need not be hashable."""
    unique: list[Any] = []
    for value in values:
        if value not in unique:
            unique.append(value)
    return unique


def _method_value(method: Mapping[str, Any]) -> str | Plain:
    return {"name": method["name"], **method["options"]} if method["options"] else method["name"]


def _full_path(name: str, path: object) -> str:
    """Returns the full path from the header, if its last component is the recorded name."""
    if not isinstance(path, str):
        return name
    # weights that were known by their digest are recorded with a tag that was not given
    paths = [path, parse_pretrained(path)[1] or ""]
    matching = [p for p in paths if name in (Path(p).name, map_weights_file(p, file_name))]
    return matching[0] if matching else name


def _split_tunings(configs: Sequence[Mapping[str, Any]]) -> tuple[Plain, dict[str, Plain]]:
    """Returns the most frequent tuning, and the keys in which some adapters differ from it."""
    tunings = [_written_tuning(config) for config in configs]
    texts = [dump_yaml(tuning) for tuning in tunings]
    usual = tunings[texts.index(Counter(texts).most_common(1)[0][0])]
    defaults, recipes = _full_tuning({}), {}
    for config, tuning in zip(configs, tunings, strict=True):
        # what this adapter's recipe gives and the usual tuning says otherwise, has to be said
        values = {**defaults, **config["tuning"], **tuning}
        differing_keys = {
            key: values[key]
            for key in sorted(tuning.keys() | usual.keys())
            if key not in usual or values[key] != usual[key]
        }
        recipes[config["adapter"]["name"]] = differing_keys
    return usual, {name: recipe for name, recipe in recipes.items() if recipe}


def _written_tuning(config: Mapping[str, Any]) -> Plain:
    """Returns the keys of `tuning` that give a row's tuning, those of its recipe left out.

    A row records what its recipe gave, which depends on its adapter, start and shots.
    """
    recorded: Plain = {**config["tuning"]}
    name = recorded.pop("recipe", "none")
    recipe_name: RecipeName = "auto" if name == "none" else name
    try:
        shots, trained = int(str(config["shot"]).split("-")[0]), config.get("start", FRESH) != FRESH
        recipe = find_recipe(recipe_name, config["adapter"]["name"], trained=trained, shots=shots)
        values, given = _full_tuning(recorded), _full_tuning(recipe)
    except (ValueError, FewshotError):
        return {"recipe": name, **recorded}  # a damaged record: it is checked below
    explicit = {key: value for key, value in values.items() if value != given[key]}
    # a row that records none took nothing from a recipe, or was told to
    if name == "none" and recipe.keys() - explicit.keys():
        return {"recipe": "none", **recorded}
    return {"recipe": recipe_name, **explicit}


def _full_tuning(tuning: Mapping[str, Any]) -> Plain:
    """Returns the values of all keys but the recipe; those that are not recorded have defaults."""
    model = FinetuneConfig.model_validate(tuning)
    return model.model_dump(mode="json", exclude={"recipe"})


def _start_values(headers: Sequence[Header]) -> list[str]:
    """Names of shipped starting points, paths of custom ones; "fresh" for rows without one."""
    shipped = names_of_starts()
    starts = []
    for header in headers:
        config = header["identity"]["config"]
        name = config.get("start", FRESH)
        if name == FRESH and config["adapter"]["name"] == FROZEN_ADAPTER:
            continue
        custom = name not in (FRESH, *shipped)
        starts.append(header.get("start", {}).get("path", name) if custom else name)
    return _unique_values(starts) or [FRESH]


def _check_config(config: Plain, headers: Sequence[Header], file: str) -> str:
    """Says in a sentence or two whether the configuration gives the rows."""
    try:
        missing, n_extra = _missing_and_extra(config, headers)
    except FewshotError as error:
        return f"Whether this gives these rows could not be checked here: {error}."
    if missing:
        return (
            "One configuration cannot hold the settings of all of these rows; the one below, "
            f"{file}, gives {len(headers) - len(missing)} of {len(headers)}. It does not give: "
            + "; ".join(map(_describe_row, missing))
            + "."
        )
    if n_extra:
        return f"It gives these rows and {n_extra} more, not run or not in this report."
    return f"Save the configuration below as {file}. It gives exactly these rows."


def _missing_and_extra(
    source: str | Plain, headers: Sequence[Header], overrides: Mapping[str, Any] | None = None
) -> tuple[list[Mapping[str, Any]], int]:
    """Returns the rows that a configuration does not give, and how many others it gives."""
    rows = [header["identity"]["config"] for header in headers]
    config_rows = [row.identity() for row in expand_rows(load_config(source, overrides or {}))]
    missing = [row for row in rows if row not in config_rows]
    return missing, len(config_rows) + len(missing) - len(_unique_values(rows))


def _describe_row(row: Mapping[str, Any]) -> str:
    start = f" from {row['start']}" if "start" in row else ""
    labels = [
        MethodSpec.model_validate(row["adapter"]).label + start,
        MethodSpec.model_validate(row["head"]).label,
        f"{row['shot']}-shot",
    ]
    if "training_seed" in row:
        labels.append(f"training seed {row['training_seed']}")
    return ", ".join(labels)
