"""The configuration of a recorded row, from its header and what is known of places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v._config_merge import split_weights
from fewshot_i2v._config_starts import names_of_starts
from fewshot_i2v.config import RunConfig, load_config
from fewshot_i2v.errors import ConfigError, UsageError
from fewshot_i2v.records import RunData

Given = str | Path | None
"""Where something is, given anew; None: where it was."""


def config_of(
    run: Path,
    data: RunData,
    last: int,
    files: Mapping[str, Given],
    places: Mapping[str, Given],
    limits: Mapping[str, Any] | None = None,
) -> RunConfig:
    """The configuration of a row.

    Args:
        run: its folder.
        data: what it holds.
        last: number of the last episode needed.
        files: `pretrained` and `architecture` of the encoder.
        places: `split`, `root`, `start`, `trials` and `cache`.
        limits: what a clip may take, by key of the configuration.

    Raises:
        UsageError: when something is not where it was, and not given; when a start or trials are
            given and the row had none; when the device is not there.
    """
    identity = data.header["identity"]
    plain: dict[str, Any] = dict(identity["config"])
    recorded = data.header.get("split", {}).get("path", "")
    if Path(recorded).is_file():
        plain["split"] = recorded
    if "training_seed" in plain:
        plain["training_seeds"] = [plain.pop("training_seed")]
    if plain.get("sampling") == "disjoint":
        plain["partitions"] = last + 1  # enough; how many there were does not matter
    plain |= {key: [plain[key]] for key in ("adapter", "head", "shot")}
    places = {**places, "start": _start(run, data, places.get("start"))}
    places["trials"] = _trials(run, data, places.get("trials"))
    plain |= {key: str(place) for key, place in places.items() if place is not None}
    plain |= {
        "encoder": plain["encoder"] | {k: _file(run, data, k, given) for k, given in files.items()},
        "device": _device(run, identity["device"]),
        "at_once": identity["at_once"],
        "episodes": last + 1,
        "allow_seen": True,  # the run had it allowed, where that was needed
    }
    return load_config(plain, limits)


def _start(run: Path, data: RunData, given: Given) -> str | None:
    """The row's starting point: as given, or where it was, or by its name; None: it had none."""
    name = data.header["identity"]["config"].get("start")
    if name is None:
        if given is not None:
            raise UsageError(f"{run}: its adapters began fresh; leave out --start {given}")
        return None
    if given is not None:
        return str(given)
    recorded = str(data.header.get("start", {}).get("path", ""))
    if Path(recorded).is_dir():
        return recorded
    if name in names_of_starts():
        return str(name)
    raise ConfigError(
        f"{run}: began from the starting point {name}; where that is, is not known (any more). "
        "Give --start"
    )


def _trials(run: Path, data: RunData, given: Given) -> str | None:
    """The file of frozen episodes: as given, or where it was; None: they were drawn."""
    if "trials" not in data.header["identity"]:
        if given is not None:
            raise UsageError(f"{run}: its episodes were drawn; leave out --trials {given}")
        return None
    recorded = str(data.header.get("trials", {}).get("path", ""))
    if given is None and not Path(recorded).is_file():
        raise ConfigError(
            f"{run}: its episodes were those of the file {recorded or '(unknown)'}, which is not "
            "there (any more). Give --trials"
        )
    return recorded if given is None else str(given)


def _file(run: Path, data: RunData, key: str, given: Given) -> str | None:
    """The encoder's `pretrained` or `architecture`: as given, or a name, or where it still is."""
    name: str | None = data.header["identity"]["config"]["encoder"][key]
    if given is not None:
        return str(given)
    if name is None or (key == "pretrained" and split_weights(name)[1] is None):
        return name
    recorded = str(data.header.get("encoder", {}).get(key, ""))
    file = split_weights(recorded)[1] if key == "pretrained" else recorded
    if file is None or not Path(file).is_file():
        raise ConfigError(
            f"{run}: its encoder was loaded with {key} {name}; where that file is, is not known "
            f"(any more). Give --{key}"
        )
    return recorded


def _device(run: Path, recorded: str) -> str:
    """The device to repeat a run on: of the recorded kind, since the other rounds differently."""
    if recorded == "cpu":
        return "cpu"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if not names:
        raise ConfigError(
            f"{run}: was tuned on {recorded}, and there is no CUDA device here; a CPU would not "
            "give the same parameters"
        )
    return f"cuda:{names.index(recorded)}" if recorded in names else "cuda"
