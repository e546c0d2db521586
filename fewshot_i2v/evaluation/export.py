"""Export of one episode's adapter: fine-tuned again, compared with its record, written to files.

A run records predictions, not the tuned parameters. Episodes are reproducible, so the parameters
can be computed again; they are written only where they give the recorded predictions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import registry
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.config.start_names import names_of_starts
from fewshot_i2v.errors import AdapterError, ConfigError, ExportError, UsageError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import atomic_folder, require_empty
from fewshot_i2v.models.checkpoints.merging import merge_into
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.runs.episode_record import EpisodeRecord
from fewshot_i2v.runs.run_folder import RunData, read_run

LocationOverride = str | Path | None
"""Where something is, given anew; None: where it was."""


def config_from_header(
    run: Path,
    data: RunData,
    last_episode: int,
    encoder_files: Mapping[str, LocationOverride],
    locations: Mapping[str, LocationOverride],
    limits: Mapping[str, Any] | None = None,
) -> EvaluationConfig:
    """Builds the configuration of a recorded row.

    Args:
        run: its folder.
        data: its content.
        last_episode: number of the last episode needed.
        encoder_files: `pretrained` and `architecture` of the encoder.
        locations: `split`, `root`, `start`, `trials` and `cache`.
        limits: limits of decoding, by key of the configuration.

    Raises:
        UsageError: when a file is not at its recorded path and no other is given; when a start or
            trials are given and the row had none; when the device is not there.
    """
    identity = data.header["identity"]
    values: dict[str, Any] = dict(identity["config"])
    recorded = data.header.get("split", {}).get("path", "")
    if Path(recorded).is_file():
        values["split"] = recorded
    if "training_seed" in values:
        values["training_seeds"] = [values.pop("training_seed")]
    if values.get("sampling") == "disjoint":
        values["partitions"] = last_episode + 1  # enough; how many there were does not matter
    values |= {key: [values[key]] for key in ("adapter", "head", "shot")}
    locations = {**locations, "start": _resolve_start(run, data, locations.get("start"))}
    locations["trials"] = _resolve_trials(run, data, locations.get("trials"))
    values |= {key: str(location) for key, location in locations.items() if location is not None}
    values |= {
        "encoder": values["encoder"]
        | {
            k: _resolve_encoder_file(run, data, k, override)
            for k, override in encoder_files.items()
        },
        "device": _matching_device(run, identity["device"]),
        "at_once": identity["at_once"],
        "episodes": last_episode + 1,
        "allow_seen": True,  # the run had it allowed, where that was needed
    }
    return load_config(values, limits)


def _resolve_start(run: Path, data: RunData, override: LocationOverride) -> str | None:
    """Resolves the starting point: the override, the recorded path, or its name; None: no start."""
    name = data.header["identity"]["config"].get("start")
    if name is None:
        if override is not None:
            raise UsageError(f"{run}: its adapters began fresh; leave out --start {override}")
        return None
    if override is not None:
        return str(override)
    recorded = str(data.header.get("start", {}).get("path", ""))
    if Path(recorded).is_dir():
        return recorded
    if name in names_of_starts():
        return str(name)
    raise ConfigError(
        f"{run}: began from the starting point {name}; where that is, is not known (any more). "
        "Give --start"
    )


def _resolve_trials(run: Path, data: RunData, override: LocationOverride) -> str | None:
    """Resolves the episode file: the override, or the recorded path; None: sampled episodes."""
    if "trials" not in data.header["identity"]:
        if override is not None:
            raise UsageError(f"{run}: its episodes were drawn; leave out --trials {override}")
        return None
    recorded = str(data.header.get("trials", {}).get("path", ""))
    if override is None and not Path(recorded).is_file():
        raise ConfigError(
            f"{run}: its episodes were those of the file {recorded or '(unknown)'}, which is not "
            "there (any more). Give --trials"
        )
    return recorded if override is None else str(override)


def _resolve_encoder_file(
    run: Path, data: RunData, key: str, override: LocationOverride
) -> str | None:
    """Resolves the encoder's `pretrained` or `architecture`: override, name, or recorded path."""
    name: str | None = data.header["identity"]["config"]["encoder"][key]
    if override is not None:
        return str(override)
    if name is None or (key == "pretrained" and parse_pretrained(name)[1] is None):
        return name
    recorded = str(data.header.get("encoder", {}).get(key, ""))
    file = parse_pretrained(recorded)[1] if key == "pretrained" else recorded
    if file is None or not Path(file).is_file():
        raise ConfigError(
            f"{run}: its encoder was loaded with {key} {name}; where that file is, is not known "
            f"(any more). Give --{key}"
        )
    return recorded


def _matching_device(run: Path, recorded: str) -> str:
    """Returns a device of the recorded kind, since the other kind rounds differently."""
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
class ExportResult:
    """The result of an export.

    Attributes:
        folder: the new folder.
        files: names of the files in it.
        episode: number of the episode.
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
class _TunedEpisode:
    """A tuned batch, the position of the exported episode in it, and its record."""

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
    split: LocationOverride = None,
    root: LocationOverride = None,
    pretrained: LocationOverride = None,
    architecture: LocationOverride = None,
    start: LocationOverride = None,
    trials: LocationOverride = None,
    cache: LocationOverride = None,
    limits: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> ExportResult:
    """Writes the tuned adapter and head of one recorded episode.

    The batch of the episode is tuned again as in the run. Without `merge` the folder is as written
    by `save_adapter`. With it, it holds the encoder's weights with the adapter merged in, in
    open_clip's format, and what remains of the adapter; see `load_merged`.

    Args:
        run: run folder of one row, with its `run.json`.
        episode: number of the episode.
        out: a new folder.
        merge: whether to merge; None: where the method can be merged.
        split: name or path of the run's split; None: the recorded path.
        root: folder of the split's clips; None: that of the split.
        pretrained: the encoder's checkpoint; None: the recorded path.
        architecture: the encoder's configuration, where the run had a custom one.
        start: name or folder of the row's starting point, if any; None: the recorded path.
        trials: file of the run's episodes, if any; None: the recorded path.
        cache: folder of decoded clips; None: the user's cache folder.
        limits: limits of decoding, by key, such as `limits.frames`; defaults for absent keys.
        progress: whether to show progress bars on standard error.

    Raises:
        UsageError: when the run cannot be repeated here: the split, the encoder or the kind of
            device is another, a file is not there, there is no such episode, or `out` is in use.
        ExportError: when the predictions come out differently, or the disk refuses.
        FewshotError: as `evaluate` does.
    """
    files = {"pretrained": pretrained, "architecture": architecture}
    locations = {"split": split, "root": root, "start": start, "trials": trials, "cache": cache}
    require_empty(Path(out))
    run, data = Path(run), read_run(_require_row_folder(Path(run)))
    _check_frame_order(run, data)
    batch = _batch_of_episode(run, data, episode)
    runner = _build_runner(
        run, data, config_from_header(run, data, batch[-1], files, locations, limits)
    )
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
) -> ExportResult:
    """Tunes a batch again, compares one episode with its record, and writes it."""
    method = registry.load_method("adapters", runner.row.adapter.name)
    if merge and not method.mergeable:
        raise AdapterError(f"{runner.row.adapter.name} cannot be merged into the frozen weights")
    shape = runner.episodes[episode].shape  # others were tuned beside these, not among them
    batch = [index for index in batch if runner.episodes[index].shape == shape]
    records, encoder, head = _rerun_batch(
        runner, batch, data.header.get("threads"), progress=progress
    )
    position = batch.index(episode)
    difference = _check_record(run, data, records[position], runner)
    merge = method.mergeable if merge is None else merge
    tuned = _TunedEpisode(encoder, head, position, records[position])
    info, names = _write_folder(target, run, runner, tuned, merge=merge)
    return ExportResult(
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


def _require_row_folder(run: Path) -> Path:
    """Returns the folder of one row; raises UsageError for that of an evaluation."""
    rows = sorted(path.parent.name for path in run.glob("*/run.json"))
    if rows and not (run / "run.json").is_file():
        raise UsageError(f"{run}: give the folder of one row, {run / rows[0]} or another: {rows}")
    return run


def _check_frame_order(run: Path, data: RunData) -> None:
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


def _batch_of_episode(run: Path, data: RunData, episode: int) -> list[int]:
    """Returns the episodes that were tuned in parallel with this one.

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
    batch_start = episode // size * size
    neighbours = (data.records.get(index) for index in range(batch_start, batch_start + size))
    # one that failed was not in the batch
    return [r.index for r in neighbours if r is not None and r.status == "ok"]


def _build_runner(run: Path, data: RunData, config: EvaluationConfig) -> RowRunner:
    """Builds the row runner.

    Raises:
        ConfigError: when split, encoder or class names are not those of the run.
    """
    context = EvaluationContext.of(config)
    runner = RowRunner(expand_rows(context.config)[0], context)
    digests = {"split": context.split.digest, "encoder": context.encoder.digest}
    if runner.display_flags["uses_names"]:
        digests["text"] = context.text_tower.digest
    if runner.start is not None:
        digests["start"] = runner.start.digest
    if context.trials is not None:
        digests["trials"] = context.trials.digest
    identity = data.header["identity"]
    for key, digest in digests.items():
        recorded = identity.get(key, {}).get("digest")
        if digest != recorded:
            sources = {"split": context.split.path, "encoder": context.encoder.pretrained}
            sources["trials"] = config.trials
            name = sources.get(key, runner.row.start if key == "start" else "")
            raise ConfigError(
                f"{run}: the {key} {name} has sha256 {digest}; the run was of {recorded}. Give the "
                "one it was of"
            )
    return runner


def _rerun_batch(
    runner: RowRunner, batch: list[int], threads: int | None, *, progress: bool
) -> tuple[list[EpisodeRecord], AdaptedEncoder, Head]:
    """Tunes a batch of episodes and predicts, as in the run.

    Raises:
        VideoUnreadable: when a clip cannot be read (any more).
    """
    episodes = [runner.episodes[index] for index in batch]
    clips = {name for episode in episodes for name in episode.clip_names()}
    runner.context.decode_clips(clips, progress=progress)
    errors = (runner.failure(episode) for episode in episodes)
    error = next((e for e in errors if e is not None), None)
    if error is not None:
        raise error
    with _use_threads(threads):
        records, encoder, head = runner.run_group(episodes)
    if runner.is_static:  # all shared one copy; a copy each, beside those of the head
        encoder = runner.build_encoder(batch)
    return records, encoder, head


@contextmanager
def _use_threads(count: int | None) -> Iterator[None]:
    """Sets the run's number of threads, on which the rounding of sums depends."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_record(run: Path, data: RunData, rerun: EpisodeRecord, runner: RowRunner) -> float:
    """Returns the largest difference to a recorded probability.

    Raises:
        ExportError: when anything but the rounding of probabilities differs.
    """
    record = data.records[rerun.index]
    same = all(getattr(record, k) == getattr(rerun, k) for k in ("classes", "support", "query"))
    pairs = zip(record.probabilities, rerun.probabilities, strict=True) if same else ()
    difference = max((abs(p - q) for a, b in pairs for p, q in zip(a, b, strict=True)), default=0.0)
    if same and record.predictions == rerun.predictions and difference <= TOLERANCE:
        return difference
    problem = f"the probabilities differ by {difference:.2g}" if same else "the clips are others"
    recorded_identity, current_identity = data.header["identity"], runner.header()[1]
    keys = [
        key for key in ("device", "versions") if recorded_identity.get(key) != current_identity[key]
    ]
    changed = "; ".join(
        f"{key} {recorded_identity.get(key)} then, {current_identity[key]} now" for key in keys
    )
    raise ExportError(
        f"{run}: episode {rerun.index}, tuned again, is not what was recorded: {problem} (at most "
        f"{TOLERANCE} is accepted, and the same predictions). Nothing is written. What changed: "
        f"{changed or 'neither the device nor a version; look at the clips and the code'}"
    )


def _write_folder(
    target: Path, run: Path, runner: RowRunner, tuned: _TunedEpisode, *, merge: bool
) -> tuple[CheckpointMetadata, tuple[str, ...]]:
    """Writes the folder; returns the metadata of the adapter and the file names."""
    row, context, position, record = runner.row, runner.context, tuned.position, tuned.record
    adapter, name = tuned.encoder.adapter, row.adapter.name
    with atomic_folder(target) as draft:
        merged = None
        if merge:
            exact_encoder, source = _full_precision_encoder(context)
            clip = torch.from_numpy(context.frames(record.query[0][0]).copy())
            pixels = exact_encoder.tower.normalize(clip[None])
            merged = merge_into(draft, exact_encoder, name, adapter, position, pixels, source)
        info = write_adapter(
            draft,
            context.encoder,
            name,
            adapter,
            row.head.name,
            tuned.head,
            episode=position,
            classes=record.classes,
            preset=row.adapter.options.get("preset"),
            text_digest=context.text_tower.digest if runner.display_flags["uses_names"] else None,
            about=_origin_facts(run, runner, record),
            merge=merged,
        )
        return info, tuple(sorted(path.name for path in draft.iterdir()))


def _full_precision_encoder(context: EvaluationContext) -> tuple[Encoder, dict[str, Any]]:
    """Loads the encoder in float32 on the CPU; also returns its source, which merging needs."""
    settings = vars(context.config.encoder)
    source = {key: settings[key] for key in ("name", "pretrained", "architecture")}
    constants = {key: settings[key] for key in ("image_size", "mean", "std")}
    return load_encoder(**source, **constants), source


def _origin_facts(run: Path, runner: RowRunner, record: EpisodeRecord) -> dict[str, Any]:
    """Returns the origin of an exported adapter."""
    split, start = runner.context.split, runner.start
    start_facts = {} if start is None else {"kind": start.kind, "digest": start.digest}
    return {
        # not `start`, which says what a starting point was trained on
        **({"started_from": start_facts} if start_facts else {}),
        "run": run.resolve().name,
        "episode": record.index,
        "accuracy": record.accuracy,
        "split": {"name": split.name, "version": split.version, "digest": split.digest},
        "support": [list(clips) for clips in record.support],
        "config": runner.row.identity(),
    }
