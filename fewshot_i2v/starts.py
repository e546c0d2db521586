"""Starting points: adapters trained on other classes, from which every episode's tuning begins.

A starting point is a folder as `save_adapter` writes it, of one copy, whose `about["start"]` says
what it was trained on: `StartFacts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from fewshot_i2v import plugins
from fewshot_i2v._config_errors import config_error
from fewshot_i2v._config_models import VideoConfig
from fewshot_i2v._config_starts import name_of_start, names_of_starts, place_for
from fewshot_i2v._start_facts import (
    SplitFacts,
    StartFacts,
    ValidationFacts,
    reading_of,
    unlike,
)
from fewshot_i2v._start_seen import Seen, seen_of
from fewshot_i2v.adapters._contract import Adapter
from fewshot_i2v.adapters._saved import AdapterInfo, facts_of, read_info, read_values
from fewshot_i2v.adapters._state import digest_of, fill
from fewshot_i2v.encoders.clip import Encoder
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.errors import CheckpointError, ConfigError

__all__ = [
    "Seen",
    "SplitFacts",
    "Start",
    "StartFacts",
    "ValidationFacts",
    "names_of_starts",
    "read_start",
]

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Start:
    """A starting point, read and checked.

    Attributes:
        name: in tables and file names.
        folder: where it lies.
        info: what the folder says of the adapter.
        facts: what it was trained on.
        tensors: of the adapter, float32 on the CPU, each with a leading axis of 1.
    """

    name: str
    folder: Path
    info: AdapterInfo
    facts: StartFacts
    tensors: dict[str, Tensor]

    @property
    def kind(self) -> str:
        """How it was trained: "base-trained" or "meta-trained"."""
        return self.facts.kind

    @cached_property
    def digest(self) -> str:
        """sha256 of the tensors as they are used; in float32 files the one that training names."""
        return digest_of(self.tensors)

    def fill(self, adapter: Adapter, encoder: Encoder) -> None:
        """Gives every copy of an adapter the values of the starting point.

        Args:
            adapter: of E copies, on the CPU; changed.
            encoder: that it was built for.

        Raises:
            CheckpointError: when method, options or encoder are others than in training, or the
                number of frames or the input size where parameters depend on them; naming both.
        """
        self._check_method(adapter)
        self._check_encoder(adapter, encoder)
        copies = {
            name: t.expand(adapter.episodes, *t.shape[1:]) if t.shape[:1] == (1,) else t
            for name, t in self.tensors.items()
        }
        fill(self.folder, self.info, {"adapter": adapter}, copies, adapter.frames)

    def seen(self, split: Split, subset: str) -> Seen:
        """Classes and clips of a subset that the starting point was trained or chosen on.

        Both count by name, whatever the split; see `seen_of`.

        Raises:
            UnknownNameError: for a subset that the split does not have.
        """
        return seen_of(self.facts, split, subset)

    def read_otherwise(self, video: VideoConfig, precision: str, encoder: Encoder) -> str:
        """How the clips of a run are read otherwise than in training; empty when they are not.

        Args:
            video: of the run.
            precision: of the run; alone it counts for nothing.
            encoder: of the run.
        """
        known = {"video.frames": self.info.frames, "image size": self.info.encoder.image_size}
        size = facts_of(encoder).image_size
        asked = reading_of(video) | {"image size": size, "precision": precision}
        return unlike(self.facts.reading() | known, asked)

    def check_unseen(self, split: Split, subset: str) -> None:
        """Refuses an evaluation on what the starting point was trained or chosen on.

        Raises:
            ConfigError: naming the classes and clips.
        """
        seen = self.seen(split, subset)
        if not seen:
            return
        others = [s for s in split.subsets if not self.seen(split, s)]
        other = f"give --subset {' or '.join(others)}, or " if others else "give "
        raise ConfigError(
            f"start {self.folder}: was trained on {self.facts.subset!r} of split "
            f"{self.facts.split.name!r}, and {subset!r} of split {split.name!r} has {seen}. The "
            f"figures would not be of unseen classes: {other}--allow-seen to have the rows marked"
        )

    def _check_method(self, adapter: Adapter) -> None:
        facts, cls = self.info.adapter, type(adapter)
        if plugins.load("adapters", facts.name) is not cls:
            raise CheckpointError(
                f"{self.folder}: a starting point for {facts.name!r}; got {cls.__name__}"
            )
        try:
            trained = cls.parse(facts.options)
        except ValidationError as error:
            origin = f"{self.folder}: adapter {facts.name!r}"
            raise config_error(error, cls.Options, origin=origin) from error
        offsets: Sequence[int] | None = getattr(adapter, "offsets", None)
        mine = adapter.options.model_dump(mode="json") | {"head offsets": offsets and list(offsets)}
        theirs = trained.model_dump(mode="json") | {"head offsets": self.info.head_offsets}
        odd = [key for key in mine if mine[key] != theirs[key]]
        if odd:
            raise CheckpointError(
                f"{self.folder}: {facts.name} was trained with {_values(theirs, odd)}; the run "
                f"asks for {_values(mine, odd)}. Give --adapter with the options of the training"
            )

    def _check_encoder(self, adapter: Adapter, encoder: Encoder) -> None:
        given, wanted = facts_of(encoder), self.info.encoder
        if given.digest != wanted.digest:
            raise CheckpointError(
                f"{self.folder}: {self.info.adapter.name} was trained on {wanted.label}; the run "
                f"is of {given.label}. Evaluate with the encoder that it was trained on"
            )
        if given.image_size == wanted.image_size:
            return
        # copies are stacked along the first axis; what is left depends on the size of the input
        shapes = {f"adapter.{n}": t.shape[1:] for n, t in adapter.state_dict().items()}
        odd = [n for n, t in self.tensors.items() if n in shapes and t.shape[1:] != shapes[n]]
        if odd and adapter.frames == self.info.frames:
            raise CheckpointError(
                f"{self.folder}: trained on frames of {wanted.image_size} px; the run has "
                f"{given.image_size} px, and parameters depend on it ({', '.join(odd[:_SHOWN])})"
            )


def read_start(place: str | Path, adapter: str) -> Start:
    """Reads a starting point.

    A head that was saved with it is left out: heads start anew in every episode.

    Args:
        place: name of a shipped one, the folder of one, or a folder with those of several.
        adapter: the method that it must be for.

    Raises:
        UnknownNameError: for a name that is not shipped.
        CheckpointError: when there is none for this adapter, the folder is damaged, or it holds an
            adapter that does not say what it was trained on.
    """
    folder = place_for(str(place), adapter).folder
    info = read_info(folder)
    facts = _facts(folder, info)
    tensors = {n: t for n, t in read_values(folder, info).items() if n.startswith("adapter.")}
    return Start(name_of_start(str(place)), folder, info, facts, tensors)


def _facts(folder: Path, info: AdapterInfo) -> StartFacts:
    about = info.about.get("start")
    if about is None or info.merged_from is not None:
        raise CheckpointError(
            f"{folder}: holds a saved {info.adapter.name}, and no starting point: it does not say "
            "which classes and clips it was trained on. Expected a folder that `fewshot-i2v "
            "train` wrote"
        )
    try:
        return StartFacts.model_validate(about)
    except ValidationError as error:
        raise config_error(error, StartFacts, origin=f"{folder}: about.start") from error


def _values(options: dict[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key}={options[key]!r}" for key in keys)
