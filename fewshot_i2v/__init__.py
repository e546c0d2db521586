"""Few-shot video recognition with frozen CLIP image encoders and image-to-video adapters.

The names below are loaded when they are first used: `import fewshot_i2v` imports nothing heavy.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the command line is not to import more before it can be interrupted
if TYPE_CHECKING:
    from fewshot_i2v.checkpoint import load_adapter, load_merged, save_adapter
    from fewshot_i2v.classify import Classifier, Prediction
    from fewshot_i2v.config import RunConfig, config_schema, load_config
    from fewshot_i2v.encoders.clip import load_encoder
    from fewshot_i2v.episodes.disjoint import DisjointSampler
    from fewshot_i2v.episodes.frozen import FrozenEpisodes, freeze, read_frozen, write_frozen
    from fewshot_i2v.episodes.kinds import episodes_of
    from fewshot_i2v.episodes.sampler import EpisodeSampler
    from fewshot_i2v.episodes.spec import EpisodeSpec
    from fewshot_i2v.episodes.split import Split
    from fewshot_i2v.episodes.split_file import load_split
    from fewshot_i2v.errors import FewshotError
    from fewshot_i2v.evaluation import evaluate
    from fewshot_i2v.export import export_episode
    from fewshot_i2v.records import read_run
    from fewshot_i2v.results import EvaluationResult, RowResult
    from fewshot_i2v.starts import Start, names_of_starts, read_start
    from fewshot_i2v.statistics import Interval, mean_interval
    from fewshot_i2v.train_config import TrainConfig, load_train_config
    from fewshot_i2v.training import train

__version__ = "0.1.0"
__all__ = [
    "Classifier",
    "DisjointSampler",
    "EpisodeSampler",
    "EpisodeSpec",
    "EvaluationResult",
    "FewshotError",
    "FrozenEpisodes",
    "Interval",
    "Prediction",
    "RowResult",
    "RunConfig",
    "Split",
    "Start",
    "TrainConfig",
    "__version__",
    "config_schema",
    "episodes_of",
    "evaluate",
    "export_episode",
    "freeze",
    "load_adapter",
    "load_config",
    "load_encoder",
    "load_merged",
    "load_split",
    "load_train_config",
    "mean_interval",
    "names_of_starts",
    "read_frozen",
    "read_run",
    "read_start",
    "save_adapter",
    "train",
    "write_frozen",
]

_HOMES = {
    "Classifier": "classify",
    "DisjointSampler": "episodes.disjoint",
    "EpisodeSampler": "episodes.sampler",
    "EpisodeSpec": "episodes.spec",
    "EvaluationResult": "results",
    "FewshotError": "errors",
    "FrozenEpisodes": "episodes.frozen",
    "Interval": "statistics",
    "Prediction": "classify",
    "RowResult": "results",
    "RunConfig": "config",
    "Split": "episodes.split",
    "Start": "starts",
    "TrainConfig": "train_config",
    "config_schema": "config",
    "episodes_of": "episodes.kinds",
    "evaluate": "evaluation",
    "export_episode": "export",
    "freeze": "episodes.frozen",
    "load_adapter": "checkpoint",
    "load_config": "config",
    "load_encoder": "encoders.clip",
    "load_merged": "checkpoint",
    "load_split": "episodes.split_file",
    "load_train_config": "train_config",
    "mean_interval": "statistics",
    "names_of_starts": "starts",
    "read_frozen": "episodes.frozen",
    "read_run": "records",
    "read_start": "starts",
    "save_adapter": "checkpoint",
    "train": "training",
    "write_frozen": "episodes.frozen",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
