"""One episode's adapter out of a run: tuned again, checked against its record, written to files.

A run keeps what was predicted, not the tuned parameters. An episode is a number, so they can be had
again; they are written only where they give the predictions that were recorded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import RunConfig
from fewshot_i2v.config.file_names import split_weights
from fewshot_i2v.config.start_names import names_of_starts
from fewshot_i2v.errors import AdapterError, ConfigError, ExportError, UsageError
from fewshot_i2v.evaluation.context import Workspace
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import check_free, fresh_folder
from fewshot_i2v.models.checkpoints.merging import merge_into
from fewshot_i2v.models.checkpoints.metadata import AdapterInfo
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunData, read_run

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


TOLERANCE = 1e-4
"""Largest difference to a recorded probability."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        files: names of the files in it.
        episode: which one.
        adapter: label of the adapter.
        head: label of the head.
        merged: whether the adapter was merged into the encoder's weights.
        accuracy: of the episode, as recorded, in [0, 1].
        difference: largest difference between a recorded and the repeated probability.
        usage: how to load the folder, and what to mind.
    """

    folder: Path
    files: tuple[str, ...]
    episode: int
    adapter: str
    head: str
    merged: bool
    accuracy: float
    difference: float
    usage: str

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**vars(self), "folder": str(self.folder), "files": list(self.files)}


@dataclass(frozen=True)
class _Tuned:
    """A tuned batch, the place of the wanted episode in it, and its record."""

    encoder: AdaptedEncoder
    head: Head
    position: int
    record: EpisodeRecord


def export_episode(
    run: str | Path,
    episode: int,
    out: str | Path,
    *,
    merge: bool | None = None,
    split: Given = None,
    root: Given = None,
    pretrained: Given = None,
    architecture: Given = None,
    start: Given = None,
    trials: Given = None,
    cache: Given = None,
    limits: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Exported:
    """Writes the tuned adapter and head of one recorded episode.

    The batch that the episode was in is tuned again as the run did. Without `merge` the folder is
    as by `save_adapter`. With it, it holds the encoder's weights with the adapter merged in, in
    open_clip's format, and what remains of the adapter; see `load_merged`.

    Args:
        run: run folder of one row, with its `run.json`.
        episode: number of the episode.
        out: a new folder.
        merge: whether to merge; None: where the method can be merged.
        split: name or path of the run's split; None: where it was.
        root: folder of the split's clips; None: as the split says.
        pretrained: the encoder's checkpoint; None: where it was.
        architecture: the encoder's configuration, where it had one of its own.
        start: name or folder of the row's starting point, where it had one; None: where it was.
        trials: file of the run's frozen episodes, where it had some; None: where it was.
        cache: folder of decoded clips; None: the user's cache folder.
        limits: what a clip may take, by key, such as `limits.frames`; the defaults where not given.
        progress: whether to show bars on standard error.

    Raises:
        UsageError: when the run cannot be repeated here: the split, the encoder or the kind of
            device is another, a file is not there, there is no such episode, or `out` is in use.
        ExportError: when the predictions come out differently, or the disk refuses.
        FewshotError: as `evaluate` does.
    """
    files = {"pretrained": pretrained, "architecture": architecture}
    places = {"split": split, "root": root, "start": start, "trials": trials, "cache": cache}
    check_free(Path(out))
    run, data = Path(run), read_run(_row_folder(Path(run)))
    _check_order(run, data)
    batch = _batch(run, data, episode)
    runner = _row(run, data, config_of(run, data, batch[-1], files, places, limits))
    return _export(run, data, runner, batch, episode, Path(out), merge=merge, progress=progress)


def _export(
    run: Path,
    data: RunData,
    runner: RowRunner,
    batch: list[int],
    episode: int,
    target: Path,
    *,
    merge: bool | None,
    progress: bool,
) -> Exported:
    """Tunes a batch again, compares one episode with its record, and writes it."""
    method = registry.load("adapters", runner.row.adapter.name)
    if merge and not method.mergeable:
        raise AdapterError(f"{runner.row.adapter.name} cannot be merged into the frozen weights")
    shape = runner.specs[episode].shape  # others were tuned beside these, not among them
    batch = [index for index in batch if runner.specs[index].shape == shape]
    records, encoder, head = _repeat(runner, batch, data.header.get("threads"), progress=progress)
    position = batch.index(episode)
    difference = _check_record(run, data, records[position], runner)
    merge = method.mergeable if merge is None else merge
    tuned = _Tuned(encoder, head, position, records[position])
    info, names = _write(target, run, runner, tuned, merge=merge)
    return Exported(
        folder=target,
        files=names,
        episode=episode,
        adapter=runner.row.adapter.label,
        head=runner.row.head.label,
        merged=merge,
        accuracy=records[position].accuracy or 0.0,
        difference=difference,
        usage=info.usage,
    )


def _row_folder(run: Path) -> Path:
    """The folder itself; UsageError when it is that of a whole evaluation."""
    rows = sorted(path.parent.name for path in run.glob("*/run.json"))
    if rows and not (run / "run.json").is_file():
        raise UsageError(f"{run}: give the folder of one row, {run / rows[0]} or another: {rows}")
    return run


def _check_order(run: Path, data: RunData) -> None:
    identity = data.header["identity"]
    if not identity.get("at_once") or "device" not in identity:
        raise UsageError(
            f"{run / 'run.json'}: damaged: expected identity.at_once, 1 or more, and "
            "identity.device"
        )
    order = identity["config"].get("frame_order", "natural")
    if order != "natural":
        raise UsageError(
            f"{run}: its frames were {order} (frame_order), which an exported classifier does not "
            "do with the clips it is given; export a row of frames in their natural order"
        )


def _batch(run: Path, data: RunData, episode: int) -> list[int]:
    """The episodes that were tuned side by side with one.

    Raises:
        UsageError: when it was not recorded, or failed.
    """
    record = data.records.get(episode)
    if record is None:
        span = f"{min(data.records)} to {max(data.records)}" if data.records else "none"
        raise UsageError(f"{run}: no record of episode {episode}; there are: {span}")
    if record.status != "ok":
        reason = (record.error or {}).get("reason")
        raise UsageError(f"{run}: episode {episode} failed: {reason}; there is nothing to export")
    size = data.header["identity"]["at_once"]
    first = episode // size * size
    near = (data.records.get(index) for index in range(first, first + size))
    # one that failed was not in the batch
    return [r.index for r in near if r is not None and r.status == "ok"]


def _row(run: Path, data: RunData, config: RunConfig) -> RowRunner:
    """The row, ready to run.

    Raises:
        ConfigError: when split, encoder or class names are not those of the run.
    """
    work = Workspace.of(config)
    runner = RowRunner(expand_rows(work.config)[0], work)
    found = {"split": work.split.digest, "encoder": work.encoder.digest}
    if runner.marks["uses_names"]:
        found["text"] = work.text.digest
    if runner.start is not None:
        found["start"] = runner.start.digest
    if work.trials is not None:
        found["trials"] = work.trials.digest
    identity = data.header["identity"]
    for key, digest in found.items():
        recorded = identity.get(key, {}).get("digest")
        if digest != recorded:
            names = {"split": work.split.path, "encoder": work.encoder.pretrained}
            names["trials"] = config.trials
            name = names.get(key, runner.row.start if key == "start" else "")
            raise ConfigError(
                f"{run}: the {key} {name} has sha256 {digest}; the run was of {recorded}. Give the "
                "one it was of"
            )
    return runner


def _repeat(
    runner: RowRunner, batch: list[int], threads: int | None, *, progress: bool
) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
    """Tunes a batch of episodes and predicts, as the run did.

    Raises:
        VideoUnreadable: when a clip cannot be read (any more).
    """
    specs = [runner.specs[index] for index in batch]
    clips = {name for spec in specs for name in spec.clips()}
    runner.work.prepare(clips, progress=progress)
    errors = (runner.failure(spec) for spec in specs)
    error = next((e for e in errors if e is not None), None)
    if error is not None:
        raise error
    with _threads(threads):
        return runner.run_and_keep(specs)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """As many threads as the run had, since sums depend on how they are split up."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_record(run: Path, data: RunData, again: EpisodeRecord, runner: RowRunner) -> float:
    """The largest difference to a recorded probability.

    Raises:
        ExportError: when anything but the rounding of probabilities differs.
    """
    record = data.records[again.index]
    same = all(getattr(record, k) == getattr(again, k) for k in ("classes", "support", "query"))
    pairs = zip(record.probabilities, again.probabilities, strict=True) if same else ()
    difference = max((abs(p - q) for a, b in pairs for p, q in zip(a, b, strict=True)), default=0.0)
    if same and record.predictions == again.predictions and difference <= TOLERANCE:
        return difference
    what = f"the probabilities differ by {difference:.2g}" if same else "the clips are others"
    then, now = data.header["identity"], runner.header()[1]
    keys = [key for key in ("device", "versions") if then.get(key) != now[key]]
    changed = "; ".join(f"{key} {then.get(key)} then, {now[key]} now" for key in keys)
    raise ExportError(
        f"{run}: episode {again.index}, tuned again, is not what was recorded: {what} (at most "
        f"{TOLERANCE} is accepted, and the same predictions). Nothing is written. What changed: "
        f"{changed or 'neither the device nor a version; look at the clips and the code'}"
    )


def _write(
    target: Path, run: Path, runner: RowRunner, tuned: _Tuned, *, merge: bool
) -> tuple[AdapterInfo, tuple[str, ...]]:
    """Writes the folder; what it says of the adapter, and the files in it."""
    row, work, position, record = runner.row, runner.work, tuned.position, tuned.record
    adapter, name = tuned.encoder.adapter, row.adapter.name
    with fresh_folder(target) as new:
        merged = None
        if merge:
            exact, source = _exact(work)
            clip = torch.from_numpy(work.frames(record.query[0][0]).copy())
            pixels = exact.tower.pixels(clip[None])
            merged = merge_into(new, exact, name, adapter, position, pixels, source)
        info = write_adapter(
            new,
            work.encoder,
            name,
            adapter,
            row.head.name,
            tuned.head,
            episode=position,
            classes=record.classes,
            preset=row.adapter.options.get("preset"),
            text_digest=work.text.digest if runner.marks["uses_names"] else None,
            about=_about(run, runner, record),
            merge=merged,
        )
        return info, tuple(sorted(path.name for path in new.iterdir()))


def _exact(work: Workspace) -> tuple[Encoder, dict[str, Any]]:
    """The encoder in float32 on the CPU, and what of its name and files merging needs."""
    plain = vars(work.config.encoder)
    source = {key: plain[key] for key in ("name", "pretrained", "architecture")}
    constants = {key: plain[key] for key in ("image_size", "mean", "std")}
    return load_encoder(**source, **constants), source


def _about(run: Path, runner: RowRunner, record: EpisodeRecord) -> dict[str, Any]:
    """Where an adapter comes from."""
    split, start = runner.work.split, runner.start
    begun = {} if start is None else {"kind": start.kind, "digest": start.digest}
    return {
        # not `start`, which says what a starting point was trained on
        **({"started_from": begun} if begun else {}),
        "run": run.resolve().name,
        "episode": record.index,
        "accuracy": record.accuracy,
        "split": {"name": split.name, "version": split.version, "digest": split.digest},
        "support": [list(clips) for clips in record.support],
        "config": runner.row.identity(),
    }
