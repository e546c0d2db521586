"""Few-shot video recognition with frozen CLIP image encoders and image-to-video adapters.

The names below are imported on first use: `import fewshot_i2v` imports nothing heavy.
"""

from __future__ import annotations

from fewshot_i2v.version import __version__

TYPE_CHECKING = False  # the command line is not to import more before it can be interrupted
if TYPE_CHECKING:
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.config.loading import config_schema, load_train_config
    from fewshot_i2v.config.start_names import names_of_starts
    from fewshot_i2v.config.training import TrainingConfig
    from fewshot_i2v.data.episodes.disjoint import DisjointSampler
    from fewshot_i2v.data.episodes.episode import Episode
    from fewshot_i2v.data.episodes.episode_file import (
        EpisodeFile,
        make_episode_file,
        read_episode_file,
        write_episode_file,
    )
    from fewshot_i2v.data.episodes.factory import make_sampler
    from fewshot_i2v.data.episodes.sampler import EpisodeSampler
    from fewshot_i2v.data.splits.audit.audit import SplitAudit, audit
    from fewshot_i2v.data.splits.check.check import ClipCheck, check
    from fewshot_i2v.data.splits.split import Split
    from fewshot_i2v.data.splits.split_file import load_split
    from fewshot_i2v.errors import FewshotError
    from fewshot_i2v.evaluation.classifier import FewShotClassifier
    from fewshot_i2v.evaluation.deployment.card import model_card
    from fewshot_i2v.evaluation.deployment.onnx_export import export_onnx
    from fewshot_i2v.evaluation.deployment.open_clip_folder import export_open_clip
    from fewshot_i2v.evaluation.evaluate import evaluate
    from fewshot_i2v.evaluation.export import export_episode
    from fewshot_i2v.evaluation.fitting.fit import fit
    from fewshot_i2v.evaluation.fitting.label_check import LabelCheck, check_labels
    from fewshot_i2v.evaluation.fitting.test import TestResult, run_test
    from fewshot_i2v.evaluation.fitting.update import UpdateResult, update_model
    from fewshot_i2v.evaluation.prediction import Prediction
    from fewshot_i2v.evaluation.results import EvaluationResult
    from fewshot_i2v.evaluation.row_expansion import load_config
    from fewshot_i2v.evaluation.run_report import TableRecommendation, recommend, write_report
    from fewshot_i2v.evaluation.segments import Segment, find_segments
    from fewshot_i2v.models.checkpoints.adapter_checkpoint import (
        load_adapter,
        load_merged,
        save_adapter,
    )
    from fewshot_i2v.models.checkpoints.starting_point import StartingPoint, read_start
    from fewshot_i2v.models.encoders.loading import load_encoder
    from fewshot_i2v.report.comparison.compare_runs import ComparisonTable, compare
    from fewshot_i2v.report.plan.learning_curves import LearningCurves, learning_curve
    from fewshot_i2v.report.plan.sample_size_plan import SampleSizePlan, plan
    from fewshot_i2v.runs.row_summary import RowSummary
    from fewshot_i2v.runs.run_folder import read_run
    from fewshot_i2v.statistics import Interval, mean_interval
    from fewshot_i2v.training.train import train

__all__ = [
    "ClipCheck",
    "ComparisonTable",
    "DisjointSampler",
    "Episode",
    "EpisodeFile",
    "EpisodeSampler",
    "EvaluationConfig",
    "EvaluationResult",
    "FewShotClassifier",
    "FewshotError",
    "Interval",
    "LabelCheck",
    "LearningCurves",
    "Prediction",
    "RowSummary",
    "SampleSizePlan",
    "Segment",
    "Split",
    "SplitAudit",
    "StartingPoint",
    "TableRecommendation",
    "TestResult",
    "TrainingConfig",
    "UpdateResult",
    "__version__",
    "audit",
    "check",
    "check_labels",
    "compare",
    "config_schema",
    "evaluate",
    "export_episode",
    "export_onnx",
    "export_open_clip",
    "find_segments",
    "fit",
    "learning_curve",
    "load_adapter",
    "load_config",
    "load_encoder",
    "load_merged",
    "load_split",
    "load_train_config",
    "make_episode_file",
    "make_sampler",
    "mean_interval",
    "model_card",
    "names_of_starts",
    "plan",
    "read_episode_file",
    "read_run",
    "read_start",
    "recommend",
    "run_test",
    "save_adapter",
    "train",
    "update_model",
    "write_episode_file",
    "write_report",
]

_MODULES = {
    "LabelCheck": "evaluation.fitting.label_check",
    "check_labels": "evaluation.fitting.label_check",
    "Segment": "evaluation.segments",
    "find_segments": "evaluation.segments",
    "TestResult": "evaluation.fitting.test",
    "run_test": "evaluation.fitting.test",
    "UpdateResult": "evaluation.fitting.update",
    "update_model": "evaluation.fitting.update",
    "compare": "report.comparison.compare_runs",
    "ComparisonTable": "report.comparison.compare_runs",
    "learning_curve": "report.plan.learning_curves",
    "LearningCurves": "report.plan.learning_curves",
    "plan": "report.plan.sample_size_plan",
    "SampleSizePlan": "report.plan.sample_size_plan",
    "write_report": "evaluation.run_report",
    "recommend": "evaluation.run_report",
    "TableRecommendation": "evaluation.run_report",
    "check": "data.splits.check.check",
    "ClipCheck": "data.splits.check.check",
    "audit": "data.splits.audit.audit",
    "SplitAudit": "data.splits.audit.audit",
    "FewShotClassifier": "evaluation.classifier",
    "fit": "evaluation.fitting.fit",
    "DisjointSampler": "data.episodes.disjoint",
    "EpisodeSampler": "data.episodes.sampler",
    "Episode": "data.episodes.episode",
    "EvaluationResult": "evaluation.results",
    "FewshotError": "errors",
    "EpisodeFile": "data.episodes.episode_file",
    "Interval": "statistics",
    "Prediction": "evaluation.prediction",
    "RowSummary": "runs.row_summary",
    "EvaluationConfig": "config.evaluation",
    "Split": "data.splits.split",
    "StartingPoint": "models.checkpoints.starting_point",
    "TrainingConfig": "config.training",
    "config_schema": "config.loading",
    "make_sampler": "data.episodes.factory",
    "evaluate": "evaluation.evaluate",
    "export_episode": "evaluation.export",
    "export_onnx": "evaluation.deployment.onnx_export",
    "export_open_clip": "evaluation.deployment.open_clip_folder",
    "model_card": "evaluation.deployment.card",
    "make_episode_file": "data.episodes.episode_file",
    "load_adapter": "models.checkpoints.adapter_checkpoint",
    "load_config": "evaluation.row_expansion",
    "load_encoder": "models.encoders.loading",
    "load_merged": "models.checkpoints.adapter_checkpoint",
    "load_split": "data.splits.split_file",
    "load_train_config": "config.loading",
    "mean_interval": "statistics",
    "names_of_starts": "config.start_names",
    "read_episode_file": "data.episodes.episode_file",
    "read_run": "runs.run_folder",
    "read_start": "models.checkpoints.starting_point",
    "save_adapter": "models.checkpoints.adapter_checkpoint",
    "train": "training.train",
    "write_episode_file": "data.episodes.episode_file",
}


def __getattr__(name: str) -> object:
    """Imports a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
