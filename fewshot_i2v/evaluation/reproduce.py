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
from fewshot_i2v.config.evaluation import KEPT_SETTINGS
from fewshot_i2v.config.file_names import file_name, map_weights_file, parse_pretrained
from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.config.recipes import find_recipe
from fewshot_i2v.config.start_names import FRESH, FROZEN_ADAPTER, names_of_starts
from fewshot_i2v.errors import FewshotError
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.models.checkpoints.start_index import find_starts
from fewshot_i2v.report.analysis.report_data import ReproductionRecipe
from fewshot_i2v.runs.header import recorded_root
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.yaml import dump_yaml, parse_yaml

_FILE_KEYS = ("root", "trials", "partitions", "allow_seen", "class_texts", *KEPT_SETTINGS)
"""Keys of a run, beside the identities of its rows, that a shipped configuration leaves out."""
_ROW_KEYS = frozenset(
    {"adapter", "start", "head", "shot", "tuning", "training_seed", "class_texts"}
)
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
    name, places = headers[0].get("name"), ["--output", str(folder)]
    if name in resources.data_names("configs") and not _needs_file(headers):
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


def _needs_file(headers: Sequence[Header]) -> bool:
    """Whether rows have files or settings that the name of a shipped configuration does not say."""
    config = _merged_config(headers, 1)
    shipped = config["split"] in resources.data_names("episodes")
    has_own_start = bool({*config["start"]} - {FRESH, *names_of_starts()})
    return not shipped or has_own_start or any(key in config for key in _FILE_KEYS)


def _gives_exactly(
    source: str | Plain, headers: Sequence[Header], overrides: Mapping[str, Any] | None = None
) -> bool:
    """Whether a configuration, by name or as a mapping, expands to exactly these rows."""
    try:
        return _missing_and_extra(source, headers, overrides or {}) == ([], 0)
    except FewshotError:
        return False


def method_of_row(header: Header) -> Plain:
    """Returns encoder, video, adapter, start, head, texts and tuning of a row, as keys."""
    config = _merged_config([header], 1)
    names = "encoder precision video adapter start head class_texts tuning recipes"
    return {key: config[key] for key in names.split() if key in config}


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
    common["split"] = _split_source(common["split"], facts)
    encoder = {key: value for key, value in common["encoder"].items() if value is not None}
    for key in encoder.keys() & {"pretrained", "architecture"}:
        encoder[key] = _full_path(encoder[key], facts.get("encoder", {}).get(key))
    tuning, recipes = _split_tunings(configs)
    seeds = _unique_values(c["training_seed"] for c in configs if "training_seed" in c)
    texts = [c["class_texts"] for c in configs if "class_texts" in c]
    trials, root = facts.get("trials", {}).get("path"), recorded_root(facts)
    return {
        **({"citation": facts["citation"]} if "citation" in facts else {}),
        **common,
        **({"root": str(root)} if root else {}),
        **_kept_settings(headers),
        "encoder": encoder,
        "episodes": episodes,
        **({"trials": trials} if trials else {}),
        **({"partitions": facts["partitions"]} if "partitions" in facts else {}),
        "adapter": _unique_values(_method_value(c["adapter"]) for c in configs),
        "start": _start_values(headers),
        "head": _unique_values(_method_value(c["head"]) for c in configs),
        "shot": _unique_values(c["shot"] for c in configs),
        **({"class_texts": texts[0]} if texts else {}),
        **({"training_seeds": seeds} if seeds else {}),
        "tuning": tuning,
        **({"recipes": recipes} if recipes else {}),
    }


def _split_source(name: str, facts: Header) -> str:
    """Returns the name of a shipped split, or the path of another one, of whatever name."""
    path = str(facts.get("split", {}).get("path", name))
    if name not in resources.data_names("episodes"):
        return path
    # a file of this name that is not there is the shipped one, of another checkout
    is_own = Path(path).is_file() and not _is_shipped(path, resources.data_file("episodes", name))
    return path if is_own else name


def _is_shipped(path: str, shipped: Path) -> bool:
    """Whether a split file is, or has the content of, the shipped one."""
    return Path(path).samefile(shipped) or Path(path).read_bytes() == shipped.read_bytes()


def _kept_settings(headers: Sequence[Header]) -> Plain:
    """Returns the settings beside the identities without which these rows would be refused."""
    kept: Plain = {}
    for header in headers:
        settings = header.get("settings", _settings_of_earlier_versions(headers))
        for key in KEPT_SETTINGS:
            if key in settings:
                is_more = key == "max_failed" and settings[key] > kept.get(key, 0)
                kept[key] = settings[key] if is_more else kept.get(key, settings[key])
    if any((header.get("marks", {}).get("start") or {}).get("seen") for header in headers):
        kept["allow_seen"] = True  # else these rows would not have begun
    return kept


def _settings_of_earlier_versions(headers: Sequence[Header]) -> Plain:
    """Returns what identities tell of the settings of rows that have no record of them."""
    identities = [header["identity"] for header in headers]
    at_once = _unique_values(identity.get("at_once") for identity in identities)
    settings: Plain = {}
    if all(identity.get("device") == "cpu" for identity in identities):
        settings["device"] = "cpu"
    if len(at_once) == 1 and at_once[0]:  # several are those of "auto"
        settings["at_once"] = at_once[0]
    return settings


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
        is_own = name != FRESH and (name not in shipped or _is_another_start(header))
        starts.append(_start_folder(name, header) if is_own else name)
    return _unique_values(starts) or [FRESH]


def _is_another_start(header: Header) -> bool:
    """Whether a row began from another start, of the name of a shipped one, that is still there."""
    config, path = header["identity"]["config"], header.get("start", {}).get("path")
    if path is None or not Path(path).is_dir():
        return False
    digests = [
        {adapter: location.digest for adapter, location in find_starts(place).items()}
        for place in (path, config["start"])
    ]
    own, shipped = (by_adapter.get(config["adapter"]["name"]) for by_adapter in digests)
    return own != shipped


def _start_folder(name: str, header: Header) -> str:
    """Returns the folder that a row's start was given as: its own, or one with several starts."""
    path = header.get("start", {}).get("path", name)
    return str(Path(path).parent if name == Path(path).parent.name != Path(path).name else path)


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
    config = load_config(source, overrides or {})
    config_rows = [row.identity() for row in expand_rows(config)]
    rows = [header["identity"]["config"] for header in headers]
    missing = [
        row
        for row, header in zip(rows, headers, strict=True)
        if row not in config_rows or not _tunes_as_many_at_once(config.at_once, header)
    ]
    return missing, len(config_rows) + len(missing) - len(_unique_values(rows))


def _tunes_as_many_at_once(at_once: int | str, header: Header) -> bool:
    """Whether a value of `at_once` stands for the episodes that a row tunes side by side."""
    if at_once == "auto":
        return bool(header.get("settings", {}).get("at_once", "auto") == "auto")
    return bool(header["identity"].get("at_once", at_once) == at_once)


def _describe_row(row: Mapping[str, Any]) -> str:
    start = f" from {row['start']}" if "start" in row else ""
    labels = [
        MethodSpec.model_validate(row["adapter"]).label + start,
        MethodSpec.model_validate(row["head"]).label,
        f"{row['shot']}-shot",
    ]
    if "class_texts" in row:
        labels.append("other class texts")
    if "training_seed" in row:
        labels.append(f"training seed {row['training_seed']}")
    return ", ".join(labels)
