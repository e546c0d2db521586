"""Rows whose heads read the frozen encoder as well, from evaluation to deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import AdapterError, ConfigError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.results import EvaluationResult
from fewshot_i2v.models import prefix_store
from fewshot_i2v.models.adapters.base import adapted_encoder
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import Runs
from tests.models.made_starts import make_start

HEAD = "prototype:pooling=ordered"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tiny encoder, split and clips, and starts of two adapters in the folder `set`."""
    runs = Runs(tmp_path_factory.mktemp("frozen"))
    for name, seed in (("st-adapter", 7), ("m-adapter", 8)):
        make_start(runs.folder / "set" / name, runs.encoder(), name, seeds=(seed,))
    return runs


def config(runs: Runs, output: Path, tokens: str, **changes: Any) -> EvaluationConfig:
    settings = {"adapter": "st-adapter", "head": HEAD, "tokens": tokens, "tuning": {"lr": 0.02}}
    return runs.config("x", **(settings | changes | {"output": str(output)}))


def probabilities(result: EvaluationResult) -> list[list[list[list[float]]]]:
    return [[r.probabilities for r in read_run(row.folder).records.values()] for row in result.rows]


@pytest.mark.parametrize("adapter", ["st-adapter", "m-adapter"])
def test_its_weight_decides_how_much_the_adapter_counts(
    runs: Runs, tmp_path: Path, adapter: str
) -> None:
    """At a weight of zero for what is adapted, a tuned row and a started one are the frozen row."""
    start = ["fresh", str(runs.folder / "set")]
    adapters = ["frozen", adapter]
    weights = {"alone": "[0.0,1.0]", "both": "[1.0,1.0]"}
    rows = {}
    for name, values in weights.items():
        head = f"{HEAD},tokens=summary+frozen-motion,weights={values}"
        changes = {"adapter": adapters, "start": start, "untuned": True, "head": head}
        result = evaluate.run(config(runs, tmp_path / name, "summary", **changes))
        rows[name] = probabilities(result)
        assert len(rows[name]) == 4  # frozen; fresh; started as it is, and tuned
    for row in rows["alone"][1:]:
        for episode, frozen in zip(row, rows["alone"][0], strict=True):
            for query, expected in zip(episode, frozen, strict=True):
                assert query == pytest.approx(expected, abs=1e-5)
    assert all(row != rows["both"][0] for row in rows["both"][1:])


CHANGED = {"colour": 0.2, "views": 2}


def recorded_passes(monkeypatch: pytest.MonkeyPatch) -> tuple[list[PrefixSpec], list[PrefixSpec]]:
    """Prefixes that the frozen encoder finishes, and those that it computes of clips."""
    finished: list[PrefixSpec] = []
    computed: list[PrefixSpec] = []
    finish, compute = adapted_encoder.finish_prefix, prefix_store.compute_prefix

    def _finish(tower: Tower, spec: PrefixSpec, prefix: Tensor, *, all_tokens: bool) -> Tensor:
        finished.append(spec)
        return finish(tower, spec, prefix, all_tokens=all_tokens)

    def _compute(tower: Tower, spec: PrefixSpec, pixels: Tensor) -> Tensor:
        computed.append(spec)
        return compute(tower, spec, pixels)

    monkeypatch.setattr(adapted_encoder, "finish_prefix", _finish)
    monkeypatch.setattr(prefix_store, "compute_prefix", _compute)
    return finished, computed


@pytest.mark.parametrize(("changes", "passes"), [({}, 0), (CHANGED, 3)])
def test_a_tuned_row_passes_each_clip_through_the_frozen_encoder_once(
    runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    passes: int,
) -> None:
    """Changed clips once in each step, both views together; the scores are the same bit for bit."""
    finished, computed = recorded_passes(monkeypatch)
    tuning = {"recipe": "none", "steps": 3, "lr": 0.02, **changes}
    keys = {"tuning": tuning, "episodes": 3, "at_once": 3, "feature_cache": False}
    tokens = "summary+frozen-motion"
    fast = probabilities(evaluate.run(config(runs, tmp_path / "fast", tokens, **keys)))
    assert len(finished) == passes
    clips = len(computed) // 2  # the row's own prefix, and that of the frozen encoder
    assert sum(spec.first_trained_block > 0 for spec in computed) == clips
    monkeypatch.setattr(AdaptedEncoder, "frozen_spec", lambda *_: None)
    slow = probabilities(evaluate.run(config(runs, tmp_path / "slow", tokens, **keys)))
    assert len(finished) > 2 * passes
    assert len(computed) == 3 * clips
    assert slow == fast


def test_rows_of_several_adapters_share_the_passes_of_the_frozen_encoder(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, computed = recorded_passes(monkeypatch)
    keys = {"adapter": ["st-adapter", "aim"], "episodes": 2, "feature_cache": False}
    evaluate.run(config(runs, tmp_path / "run", "summary+frozen-summary", **keys))
    frozen = sum(spec.first_trained_block > 0 for spec in computed)
    assert frozen == len(computed) / 2  # those two share the prefix of block 0 as well


def test_of_the_frozen_encoder_it_is_the_readout_itself(runs: Runs, tmp_path: Path) -> None:
    plain, frozen = (
        probabilities(evaluate.run(config(runs, tmp_path / name, tokens, adapter="frozen")))
        for name, tokens in (("plain", "grid2+motion"), ("frozen", "frozen-grid2+frozen-motion"))
    )
    assert plain == frozen


def test_started_rows_of_several_heads_encode_each_clip_once(runs: Runs, tmp_path: Path) -> None:
    """Heads that read the frozen encoder and heads that do not share one pass over the clips."""
    heads = [f"{HEAD},tokens={tokens}" for tokens in ("motion", "summary+frozen-motion")]
    changes = {"start": str(runs.folder / "set"), "tuning": {"steps": 0}}
    together = probabilities(
        evaluate.run(config(runs, tmp_path / "all", "summary", head=heads, **changes))
    )
    alone = [
        probabilities(
            evaluate.run(config(runs, tmp_path / str(i), "summary", head=head, **changes))
        )[0]
        for i, head in enumerate(heads)
    ]
    assert together == alone


def test_a_head_that_reads_nothing_of_the_adapter_is_refused(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frozen encoder alone, .* st-adapter .*summary\+frozen"):
        evaluate.run(config(runs, tmp_path / "run", "frozen-motion"))
    assert not (tmp_path / "run").exists()


def test_an_adapter_is_not_merged_where_the_frozen_weights_must_stay(
    runs: Runs, tmp_path: Path
) -> None:
    tokens = "summary+frozen-grid2"
    row = evaluate.run(config(runs, tmp_path / "run", tokens, adapter="lora")).rows[0].folder
    with pytest.raises(AdapterError, match=r"lora cannot be merged .* reads the frozen encoder"):
        runs.export(row, tmp_path / "x", merge=True)
    done = runs.export(row, tmp_path / "y")
    assert not done.merged
    assert done.difference < 1e-4
