"""Export of one episode's adapter: fine-tuned again, compared with its record, written to files.

A run records predictions, not the tuned parameters. Episodes are reproducible, so the parameters
can be computed again; they are written only where they give the recorded predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewshot_i2v import registry
from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.config.start_names import names_of_starts
from fewshot_i2v.errors import AdapterError, ConfigError, ExportError, UsageError
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export_folder import encoder_files, origin_facts, write_export_folder
from fewshot_i2v.evaluation.precision_notes import precision_notes
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup
from fewshot_i2v.models.checkpoints.files import require_empty
from fewshot_i2v.models.factory import resolve_options
from fewshot_i2v.runs.episode_record import EpisodeRecord, accuracy_of
from fewshot_i2v.runs.header import recorded_root
from fewshot_i2v.runs.run_folder import RunData, read_run
from fewshot_i2v.utils.environment import use_threads
from fewshot_i2v.utils.progress import show_notes

LocationOverride = str | Path | None
"""Where something is, given anew; None: where it was."""
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
        exported_accuracy: that of the folder, without untuned logits that the run may count.
        untuned_weight: weight of the untuned logits in the run; 0: none.
        difference: largest difference between a recorded and the repeated probability.
        usage: how to load the folder, and what to mind.
        encoder_files: files of the encoder that an adapter which was not merged needs, by the flags
            of `predict`; none where they are found by name.
    """

    folder: Path
    files: tuple[str, ...]
    episode: int
    adapter: str
    head: str
    merged: bool
    accuracy: float
    exported_accuracy: float
    untuned_weight: float
    difference: float
    usage: str
    encoder_files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**vars(self), "folder": str(self.folder), "files": list(self.files)}


@dataclass(frozen=True)
class _RecordedRow:
    """A row as its run folder records it.

    Attributes:
        folder: as the user wrote it, for messages.
        data: its content.
    """

    folder: Path
    data: RunData

    @classmethod
    def read(cls, folder: Path) -> _RecordedRow:
        """Reads the folder of one row, whose frames must have been in their natural order."""
        rows = sorted(path.parent.name for path in folder.glob("*/run.json"))
        if rows and not (folder / "run.json").is_file():
            raise UsageError(
                f"{folder}: give the folder of one row, {folder / rows[0]} or another: {rows}"
            )
        row = cls(folder, read_run(folder))
        if not row.identity.get("at_once") or "device" not in row.identity:
            raise UsageError(
                f"{folder / 'run.json'}: damaged: expected identity.at_once, 1 or more, and "
                "identity.device"
            )
        order = row.config.get("frame_order", "natural")
        if order != "natural":
            raise UsageError(
                f"{folder}: its frames were {order} (frame_order), which an exported classifier "
                "does not do with its clips; export a row of frames in their natural "
                "order"
            )
        return row

    @property
    def identity(self) -> dict[str, Any]:
        """What decided its results."""
        identity: dict[str, Any] = self.data.header["identity"]
        return identity

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration, where files are names without folders."""
        config: dict[str, Any] = self.identity["config"]
        return config

    def batch_of(self, episode: int) -> list[int]:
        """Returns the episodes that were tuned in parallel with this one.

        Raises:
            UsageError: when it was not recorded, or failed.
        """
        records = self.data.records
        record = records.get(episode)
        if record is None:
            span = f"{min(records)} to {max(records)}" if records else "none"
            raise UsageError(f"{self.folder}: no record of episode {episode}; there are: {span}")
        if record.status != "ok":
            reason = (record.error or {}).get("reason")
            raise UsageError(
                f"{self.folder}: episode {episode} failed: {reason}; there is nothing to export"
            )
        size = self.identity["at_once"]
        batch_start = episode // size * size
        neighbours = (records.get(index) for index in range(batch_start, batch_start + size))
        # one that failed was not in the batch
        return [r.index for r in neighbours if r is not None and r.status == "ok"]

    def build_runner(
        self,
        last_episode: int,
        overrides: Mapping[str, LocationOverride],
        limits: Mapping[str, Any] | None,
    ) -> RowRunner:
        """Builds the runner of the row, for its episodes up to `last_episode`.

        Args:
            last_episode: number of the last episode needed.
            overrides: of `split`, `root`, `start`, `trials`, `cache`, `cache_limit`, and of
                `pretrained` and `architecture` of the encoder.
            limits: limits of decoding, by key of the configuration.

        Raises:
            UsageError: when a file is not at its recorded path and no other is given; when a start
                or trials are given and the row had none; when the device is not there.
            ConfigError: when split, encoder or class names are not those of the run.
        """
        values: dict[str, Any] = dict(self.config)
        if Path(self._recorded_path("split")).is_file():
            values["split"] = self._recorded_path("split")
        if "training_seed" in values:
            values["training_seeds"] = [values.pop("training_seed")]
        if values.get("sampling") == "disjoint":
            values["partitions"] = last_episode + 1  # enough; how many there were does not matter
        values |= {key: [values[key]] for key in ("adapter", "head", "shot")}
        # the record has what its recipe gave, which may be another one today
        values["tuning"] = values["tuning"] | {"recipe": "none"}
        locations = {
            **{key: overrides.get(key) for key in ("split", "cache", "cache_limit")},
            "root": overrides.get("root") or recorded_root(self.data.header),
            "start": self._locate_start(overrides.get("start")),
            "trials": self._locate_trials(overrides.get("trials")),
        }
        values |= {key: str(path) for key, path in locations.items() if path is not None}
        encoder_files = {
            key: self._locate_encoder_file(key, overrides.get(key))
            for key in ("pretrained", "architecture")
        }
        values |= {
            "encoder": values["encoder"] | encoder_files,
            "device": _matching_device(self.folder, self.identity["device"]),
            "at_once": self.identity["at_once"],
            "episodes": last_episode + 1,
            "allow_seen": True,  # the run had it allowed, where that was needed
        }
        context = EvaluationContext.of(load_config(values, limits))
        runner = RowRunner(expand_rows(context.config)[0], context)
        self._check_digests(runner)
        return runner

    def _recorded_path(self, section: str, key: str = "path") -> str:
        return str(self.data.header.get(section, {}).get(key, ""))

    def _locate_start(self, override: LocationOverride) -> str | None:
        name = self.config.get("start")
        if name is None:
            self._refuse("start", override, "its adapters began fresh")
            return None
        recorded: str | None = self._recorded_path("start")
        if not recorded or not Path(recorded).is_dir():
            recorded = name if name in names_of_starts() else None
        missing = f"began from the starting point {name}; where that is, is not known (any more)"
        return self._locate("start", override, recorded, missing)

    def _locate_trials(self, override: LocationOverride) -> str | None:
        if "trials" not in self.identity:
            self._refuse("trials", override, "its episodes were drawn")
            return None
        path = self._recorded_path("trials")
        missing = (
            f"its episodes were those of the file {path or '(unknown)'}, which is not there (any "
            "more)"
        )
        return self._locate("trials", override, path if Path(path).is_file() else None, missing)

    def _locate_encoder_file(self, key: str, override: LocationOverride) -> str | None:
        """Locates the encoder's `pretrained` or `architecture`, which may be a name or None."""
        name = self.config["encoder"][key]
        is_name = key == "pretrained" and name is not None and parse_pretrained(name)[1] is None
        if override is None and (name is None or is_name):
            return None if name is None else str(name)
        recorded = self._recorded_path("encoder", key)
        file = parse_pretrained(recorded)[1] if key == "pretrained" else recorded
        is_there = file is not None and Path(file).is_file()
        missing = (
            f"its encoder was loaded with {key} {name}; where that file is, is not known (any more)"
        )
        return self._locate(key, override, recorded if is_there else None, missing)

    def _refuse(self, flag: str, override: LocationOverride, reason: str) -> None:
        if override is not None:
            raise UsageError(f"{self.folder}: {reason}; leave out --{flag} {override}")

    def _locate(
        self, flag: str, override: LocationOverride, recorded: str | None, missing: str
    ) -> str:
        """Returns the override, else what is recorded; an error that asks for the flag for None."""
        if override is not None:
            return str(override)
        if recorded is None:
            raise ConfigError(f"{self.folder}: {missing}. Give --{flag}")
        return recorded

    def _check_digests(self, runner: RowRunner) -> None:
        """Raises ConfigError when split, encoder, class names, start or trials are others."""
        context = runner.context
        sources = {
            "split": (context.split.path, context.split.digest),
            "encoder": (context.encoder.pretrained, context.encoder.digest),
        }
        if runner.display_flags["uses_names"]:
            sources["text"] = "", context.text_tower.digest
        if runner.start is not None:
            sources["start"] = runner.row.start, runner.start.digest
        if context.trials is not None:
            sources["trials"] = context.config.trials, context.trials.digest
        self._check_start_head(runner)
        for key, (name, digest) in sources.items():
            recorded = self.identity.get(key, {}).get("digest")
            if digest != recorded:
                raise ConfigError(
                    f"{self.folder}: the {key} {name} has sha256 {digest}; the run was of "
                    f"{recorded}. Give the one it was of"
                )

    def _check_start_head(self, runner: RowRunner) -> None:
        """Raises ConfigError when the heads did not begin as they do now."""
        recorded = self.identity.get("start", {}).get("head")
        now = runner.head_start.identity(runner.sizes.head_parameters).get("head")
        if now != recorded:
            raise ConfigError(
                f"{self.folder}: the head of the start {runner.row.start} is {now}; that of the "
                f"run was {recorded}. Give the start that it was of"
            )

    def compare(self, rerun: EpisodeRecord, runner: RowRunner) -> float:
        """Returns the largest difference to a recorded probability.

        Raises:
            ExportError: when anything but the rounding of probabilities differs.
        """
        record = self.data.records[rerun.index]
        same = all(getattr(record, k) == getattr(rerun, k) for k in ("classes", "support", "query"))
        pairs = zip(record.probabilities, rerun.probabilities, strict=True) if same else ()
        difference = max(
            (abs(p - q) for a, b in pairs for p, q in zip(a, b, strict=True)), default=0.0
        )
        if same and record.predictions == rerun.predictions and difference <= TOLERANCE:
            return difference
        problem = (
            f"the probabilities differ by {difference:.2g}" if same else "the clips are others"
        )
        now = runner.header()[1]
        changed = "; ".join(
            f"{key} {self.identity.get(key)} then, {now[key]} now"
            for key in ("device", "versions")
            if self.identity.get(key) != now[key]
        )
        raise ExportError(
            f"{self.folder}: episode {rerun.index}, tuned again, is not what was recorded: "
            f"{problem} (at most {TOLERANCE} is accepted, and the same predictions). Nothing is "
            "written. What changed: "
            f"{changed or 'neither the device nor a version; look at the clips and the code'}"
        )


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
    cache_limit: str | None = None,
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
        root: folder of the split's clips; None: that of the run, or else of the split.
        pretrained: the encoder's checkpoint; None: the recorded path.
        architecture: the encoder's configuration, where the run had a custom one.
        start: name or folder of the row's starting point, if any; None: the recorded path.
        trials: file of the run's episodes, if any; None: the recorded path.
        cache: folder of decoded clips; None: the user's cache folder.
        cache_limit: largest size of the decoded clips there, such as "20GB"; None: no limit.
        limits: limits of decoding, by key, such as `limits.frames`; defaults for absent keys.
        progress: whether to show progress bars on standard error.

    Raises:
        UsageError: when the run cannot be repeated here: the split, the encoder or the kind of
            device is another, a file is not there, there is no such episode, or `out` is in use.
        ExportError: when the predictions come out differently, or the disk refuses.
        FewshotError: as `evaluate` does.
    """
    overrides = {
        **{"split": split, "root": root, "start": start, "trials": trials},
        **{"cache": cache, "cache_limit": cache_limit},
        **{"pretrained": pretrained, "architecture": architecture},
    }
    require_empty(Path(out))
    row = _RecordedRow.read(Path(run))
    batch = row.batch_of(episode)
    runner = row.build_runner(batch[-1], overrides, limits)
    show_notes(progress, [f"note: {note}" for note in precision_notes([runner])])
    return _export(row, runner, batch, episode, Path(out), merge=merge, progress=progress)


def _export(
    row: _RecordedRow,
    runner: RowRunner,
    batch: list[int],
    episode: int,
    target: Path,
    *,
    merge: bool | None,
    progress: bool,
) -> ExportResult:
    """Tunes a batch again, compares one episode with its record, and writes it."""
    adapter = runner.row.adapter
    reads_frozen = resolve_options("heads", runner.row.head).reads_frozen
    mergeable = registry.load_method("adapters", adapter.name).mergeable and not reads_frozen
    if merge and not mergeable:
        why = f": {runner.row.head.label} reads the frozen encoder as well" if reads_frozen else ""
        raise AdapterError(f"{adapter.name} cannot be merged into the frozen weights{why}")
    shape = runner.episodes[episode].shape  # others were tuned beside these, not among them
    batch = [index for index in batch if runner.episodes[index].shape == shape]
    tuned = _rerun_batch(runner, batch, row.data.header.get("threads"), progress=progress)
    position = batch.index(episode)
    record = tuned.records[position]
    difference = row.compare(record, runner)
    predictions = tuned.tuned_logits[position].argmax(-1).tolist()
    merge = mergeable if merge is None else merge
    exported_accuracy = accuracy_of(predictions, record.labels)
    about = origin_facts(row.folder, runner, record, exported_accuracy)
    info, names = write_export_folder(target, runner, tuned, position, about, merge=merge)
    return ExportResult(
        folder=target,
        files=names,
        episode=episode,
        adapter=adapter.label,
        head=runner.row.head.label,
        merged=merge,
        accuracy=record.accuracy or 0.0,
        exported_accuracy=exported_accuracy,
        untuned_weight=runner.tuning.untuned_weight,
        difference=difference,
        usage=info.usage,
        encoder_files={} if merge else encoder_files(runner),
    )


def _rerun_batch(
    runner: RowRunner, batch: list[int], threads: int | None, *, progress: bool
) -> TunedGroup:
    """Tunes a batch of episodes and predicts, as in the run."""
    episodes = [runner.episodes[index] for index in batch]
    runner.context.decode_episodes(episodes, runner.row.tuning, progress=progress)
    for error in map(runner.failure, episodes):
        if error is not None:
            raise error
    with use_threads(threads):
        tuned = runner.run_group(episodes)
    # in a static row all shared one copy; a copy each, beside those of the head
    return tuned._replace(encoder=runner.build_encoder(batch)) if runner.is_static else tuned
