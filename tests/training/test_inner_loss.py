"""The loss of the inner loop is that of an evaluation's fine-tuning: views, smoothing, readouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v import evaluate
from fewshot_i2v.config.base import FinetuneConfig, SupportLossConfig
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.config.training import InnerLoopConfig
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.training.batches import TrainBatches
from fewshot_i2v.training.class_split import TrainValSplit
from fewshot_i2v.training.meta_objectives import MetaObjective, MetaSGD
from fewshot_i2v.training.objective import EpisodeBatch, MicroBatch, build_training_encoder
from fewshot_i2v.training.parameter_copies import independent_copies
from fewshot_i2v.training.train import OBJECTIVES, train
from fewshot_i2v.training.validation import EpisodicValidation, SupportViews
from fewshot_i2v.tuning.finetune import EpisodeInputs, finetune
from fewshot_i2v.tuning.run_context import RunContext
from tests.models.tiny_adapters import perturb
from tests.needs_learn2learn import learn2learn_algorithms
from tests.tiny import tiny_tower
from tests.training.training_samples import settings, train_config, training_folder

VIEWS = 3
_INNER: dict[str, Any] = {"steps": 2, "lr": 0.1, "views": VIEWS, "label_smoothing": 0.2}
_TUNES_THE_ADAPTER = [
    "reptile",
    *(pytest.param(name, marks=pytest.mark.learn2learn) for name in ("maml", "meta-sgd")),
]
_OBJECTIVES = [*_TUNES_THE_ADAPTER, pytest.param("anil", marks=pytest.mark.learn2learn)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_folder(tmp_path_factory.mktemp("inner"))


def _require(name: str) -> None:
    if name != "reptile":
        learn2learn_algorithms()


def _batches(folder: Path, **changes: Any) -> tuple[TrainBatches, MetaObjective]:
    config = train_config(folder, folder / "unused", **changes)
    context = RunContext.open(config)
    classes = TrainValSplit.of(context.split, config)
    encoder = build_training_encoder(config, context.encoder.tower)
    perturb(encoder.adapter, [3], 0.05)
    objective = OBJECTIVES[config.objective](config, encoder, classes.classes)
    assert isinstance(objective, MetaObjective)
    batches = TrainBatches(context, config, classes, objective)
    batches.prepare(progress=False)
    return batches, objective


def test_the_keys_of_the_loss_are_those_of_fine_tuning() -> None:
    keys = SupportLossConfig.model_fields.keys()
    assert keys == {"views", "label_smoothing"}
    assert issubclass(InnerLoopConfig, SupportLossConfig)
    assert issubclass(FinetuneConfig, SupportLossConfig)


def test_support_clips_come_in_views_and_query_clips_once(folder: Path) -> None:
    changes = {"objective": "reptile", "shot": 2, "inner": _INNER}
    batches, _ = _batches(folder, **changes)
    (part,) = batches.micro_batches(1)
    batch = part.require_episodes()
    assert batch.support.shape[1] == VIEWS * 6
    assert batch.query.shape[1] == 6
    assert batch.support_labels.tolist() == [VIEWS * [0, 0, 1, 1, 2, 2]] * 2
    assert batch.n_support == 6
    assert batch.views == VIEWS
    names = batches.clip_names(1)
    assert len(names) == 2 * (VIEWS * 6 + 6) == batches.config.clips_per_step
    for e in range(2):
        episode = names[e * 24 : (e + 1) * 24]
        assert episode[:6] == episode[6:12] == episode[12:18]
        assert set(episode[18:]).isdisjoint(episode[:6])
    views = batch.support.unflatten(1, (VIEWS, 6))
    assert not torch.equal(views[:, 0], views[:, 1])
    small, n_clips = batches.trial_micro_batch(2)
    episode = small.require_episodes()
    # with parameters for its classes, a head needs all of them
    assert episode.support.shape[:2] == (1, VIEWS * 3)
    assert episode.query.shape[:2] == (1, 3)
    assert n_clips == VIEWS * 3 + 3


def test_one_view_gives_the_batches_of_before(folder: Path) -> None:
    plain, _ = _batches(folder, objective="reptile")
    one, _ = _batches(folder, objective="reptile", inner={"views": 1})
    for a, b in zip(plain.micro_batches(2), one.micro_batches(2), strict=True):
        assert torch.equal(a.require_episodes().support, b.require_episodes().support)
    assert plain.config.identity() == one.config.identity()
    assert plain.config.identity()["inner"].keys() == {"steps", "lr", "second_order", "rate"}


def _objective(name: str, **changes: Any) -> MetaObjective:
    keys = {"objective": name, "adapter": "st-adapter", "way": 3, "inner": _INNER} | changes
    config = load_train_config(settings(Path("none"), Path("none"), **keys))
    encoder = build_training_encoder(config, tiny_tower(layers=2))
    perturb(encoder.adapter, [3], 0.05)
    objective = OBJECTIVES[name](config, encoder, ("a", "b", "c"))
    assert isinstance(objective, MetaObjective)
    return objective


def _part(objective: MetaObjective) -> MicroBatch:
    """Two episodes of three classes, one clip of each in three views, and one query clip."""
    size = objective.encoder.tower.image_size
    pixels = torch.randn(2, 12, 4, 3, size, size, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        tokens = objective.encoder.compute_prefix(pixels, grid_sizes=objective.grid_sizes)
    labels = torch.arange(3).expand(2, -1).contiguous()
    batch = EpisodeBatch(
        tokens[:, :9], tokens[:, 9:], labels.repeat(1, 3), labels, (("a",),) * 2, views=VIEWS
    )
    return MicroBatch(step=0, index=0, weight=1.0, episodes=batch, clips=None)


@pytest.mark.parametrize("name", ["reptile", pytest.param("maml", marks=pytest.mark.learn2learn)])
@pytest.mark.parametrize("tokens", ["summary", "summary+grid2+motion"])
def test_the_inner_loop_descends_the_loss_that_fine_tuning_reports(name: str, tokens: str) -> None:
    """Of equal parameters, views and readouts, both give the same losses before the first step."""
    _require(name)
    objective = _objective(name, head=f"prototype:pooling=ordered,center=true,tokens={tokens}")
    batch = _part(objective).require_episodes()
    learner = objective._make_copies(2, 3, independent_copies(2))
    losses = learner.support_losses(batch.support, batch.support_labels, 0.2)
    encoder = AdaptedEncoder(objective.encoder.tower, learner.encoder.adapter)
    recipe = FinetuneConfig(steps=1, views=VIEWS, label_smoothing=0.2)
    inputs = EpisodeInputs(
        lambda _step: batch.support, batch.support_labels[:, :3], batch.query, views=VIEWS
    )
    reported = finetune(encoder, learner.head, inputs, recipe)
    torch.testing.assert_close(reported[:, 0], losses.detach())


@pytest.mark.parametrize("name", _OBJECTIVES)
def test_views_and_smoothing_change_what_is_learned(name: str) -> None:
    """One clip a class compared with itself has no signal; its views have one."""
    _require(name)
    head = "linear" if name == "anil" else "prototype:pooling=ordered,center=true"
    gradients = []
    for inner in (_INNER, _INNER | {"label_smoothing": 0.0}):
        objective = _objective(name, head=head, inner=inner)
        loss = objective.backward(_part(objective)).value
        assert loss.isfinite()
        gradients.append([p.grad for p in objective.trainable_parameters() if p.grad is not None])
    assert any(not torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.learn2learn
def test_query_clips_are_scored_with_one_view_of_the_support_clips() -> None:
    """As an evaluation does: later views do not enter the outer loss where no step is made."""
    learn2learn_algorithms()
    losses = []
    for change in (False, True):
        objective = _objective("maml", inner=_INNER | {"lr": 1e-12, "label_smoothing": 0.0})
        part = _part(objective)
        if change:
            part.require_episodes().support[:, 3:] *= -1
        losses.append(objective.backward(part).value)
    torch.testing.assert_close(losses[0], losses[1])


@pytest.mark.parametrize("name", _TUNES_THE_ADAPTER)
@pytest.mark.parametrize("head", ["linear", "prototype:pooling=ordered,center=true"])
def test_fine_tuning_with_the_rates_of_the_start_is_the_inner_loop(name: str, head: str) -> None:
    _require(name)
    objective = _objective(name, head=head)
    if isinstance(objective, MetaSGD):
        perturb(objective.factors, [4], 0.5)
    batch = _part(objective).require_episodes()
    with torch.no_grad():
        inner = objective.fine_tuned(batch.support, batch.support_labels)
    assert inner is not None
    start = objective._make_copies(2, 3, independent_copies(2))
    rates = list(objective.inner_rates().values())
    names = [name.removeprefix("encoder.") for name, _ in start.named_parameters()]
    assert list(objective.inner_rates()) == [f"rates.{name}" for name in names]
    recipe = FinetuneConfig(
        steps=2, views=VIEWS, label_smoothing=0.2, optimizer="start-rates", warmup=0.5
    )
    inputs = EpisodeInputs(
        lambda _step: batch.support, batch.support_labels[:, :3], batch.query, views=VIEWS
    )
    finetune(start.encoder, start.head, inputs, recipe, rates)
    for key, value in start.encoder.adapter.named_parameters():
        expected = inner.encoder.adapter.get_parameter(key)
        torch.testing.assert_close(value.detach(), expected.detach(), atol=1e-5, rtol=1e-4)
    for key, value in start.head.named_parameters():
        expected = inner.head.get_parameter(key)
        torch.testing.assert_close(value.detach(), expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.learn2learn
def test_fine_tuning_with_the_rates_of_anil_moves_the_head_alone() -> None:
    learn2learn_algorithms()
    objective = _objective("anil", head="linear")
    batch = _part(objective).require_episodes()
    start = objective._make_copies(2, 3, independent_copies(2))
    adapter = [p.detach().clone() for p in start.encoder.adapter.parameters()]
    head = [p.detach().clone() for p in start.head.parameters()]
    inputs = EpisodeInputs(
        lambda _step: batch.support, batch.support_labels[:, :3], batch.query, views=VIEWS
    )
    recipe = FinetuneConfig(steps=1, views=VIEWS, optimizer="start-rates")
    finetune(start.encoder, start.head, inputs, recipe, list(objective.inner_rates().values()))
    for before, after in zip(adapter, start.encoder.adapter.parameters(), strict=True):
        assert torch.equal(before, after)
    moved = zip(head, start.head.parameters(), strict=True)
    for before, after in moved:
        assert after.grad is not None
        torch.testing.assert_close(after.detach(), before - 0.1 * after.grad)
        assert not torch.equal(before, after)


@pytest.mark.parametrize("name", _OBJECTIVES)
@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_the_start_holds_the_rates_and_an_evaluation_uses_them(
    folder: Path, tmp_path: Path, name: str, head: str
) -> None:
    _require(name)
    if (name, head) == ("anil", "prototype"):
        pytest.skip("anil is refused for a head without parameters")
    changes = {"objective": name, "head": head, "adapter": "st-adapter", "way": 2, "steps": 3}
    changes["validation"] = {"subset": "off"}
    inner = {"steps": 1, "lr": 0.1}
    config = train_config(folder, tmp_path / "s", head_lr=0.1, inner=inner, **changes)
    train(config)
    start = read_start(tmp_path / "s", "st-adapter")
    assert start.rates is not None
    assert (start.head is not None) == (head == "linear")
    rates = torch.cat([t.flatten() for t in start.rates.tensors.values()])
    learned = not bool(((rates == 0) | (rates == torch.tensor(0.1))).all())
    assert learned == (name == "meta-sgd"), "its outer steps change them"
    keys = {key: config.model_dump(mode="json")[key] for key in ("split", "encoder", "video")}
    rows = evaluate(
        keys
        | {"adapter": "st-adapter", "start": str(tmp_path / "s"), "cache": str(folder / "cache")}
        | {"way": 2, "shot": 1, "query": 2, "episodes": 3, "workers": 1, "head": head}
        | {"tuning": {"steps": 1, "optimizer": "start-rates"}, "output": str(tmp_path / "run")}
    ).rows
    (row,) = rows
    header = json.loads((row.folder / "run.json").read_text())
    assert header["identity"]["start"]["rates"] == start.rates.digest
    # finished: read again, and not trained
    assert train(config).seconds == 0


def test_validation_tunes_on_the_same_views_every_time(folder: Path, tmp_path: Path) -> None:
    changes = {"objective": "reptile", "adapter": "st-adapter", "inner": _INNER | {"lr": 2.0}}
    _, objective = _batches(folder, **changes)
    context = RunContext.open(objective.config)
    classes = TrainValSplit.of(context.split, objective.config)
    validation = EpisodicValidation.of(context, classes, objective)
    assert validation is not None
    assert validation.views is not None
    validation.prepare(progress=False)
    encoder, episodes = objective.encoder, validation.episodes[:2]
    first, again = (validation.views.prefixes(episodes, encoder, ()) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape[:2] == (2, VIEWS * 2)
    (alone,) = validation.views.prefixes(episodes[1:], encoder, ())
    assert torch.equal(first[1], alone)
    assert validation.accuracy() == validation.accuracy()
    assert SupportViews.of(context, train_config(folder, tmp_path)) is None
    started = train(train_config(folder, tmp_path / "s", **changes | {"steps": 3}))
    assert started.start["config"]["inner"]["views"] == VIEWS


@pytest.mark.parametrize("name", ["reptile", pytest.param("maml", marks=pytest.mark.learn2learn)])
def test_validation_scores_with_the_fine_tuned_head(folder: Path, name: str) -> None:
    _require(name)
    head = "linear:pooling=ordered"
    validation = {"every": 3, "episodes": 6, "way": 2, "shot": 1, "query": 2, "head": head}
    _, objective = _batches(
        folder,
        objective=name,
        head=head,
        way=2,
        inner={"steps": 2, "lr": 0.1},
        validation=validation,
    )
    classes = TrainValSplit.of(RunContext.open(objective.config).split, objective.config)
    scored = EpisodicValidation.of(RunContext.open(objective.config), classes, objective)
    assert scored is not None
    assert scored.uses_trained_head
    scored.prepare(progress=False)
    tuned = scored._fine_tuned(scored.episodes, scored._labels(scored.episodes, 1))
    assert tuned is not None
    assert scored._scoring_head(6, tuned) is tuned.head
    assert tuned.head.get_parameter("weight").shape[0] == 6
    assert not torch.equal(
        tuned.head.get_parameter("weight")[0], objective.head.get_parameter("weight")[0]
    )
    assert scored.accuracy().mean >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inner": {"views": 2}}, r"inner\.views .* no meaning for the objective episodic"),
        ({"objective": "both", "inner": {"label_smoothing": 0.1}}, "no meaning for the objective"),
        ({"objective": "reptile", "augment": "off", "inner": {"views": 2}}, "equal views"),
    ],
)
def test_keys_without_a_meaning_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_train_config(settings(Path("none"), tmp_path, **changes))
