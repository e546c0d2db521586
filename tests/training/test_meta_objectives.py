"""Meta-objectives: gradients against definitions written out, refusals, what a training gives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_i2v import registry
from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.errors import ConfigError
from fewshot_i2v.training.meta_objectives import (
    INSTALL_SCRIPT,
    AdaptedLearner,
    MetaObjective,
)
from fewshot_i2v.training.objective import (
    EpisodeBatch,
    MicroBatch,
    NotFiniteError,
    build_training_encoder,
    split_support,
)
from fewshot_i2v.training.train import OBJECTIVES, train
from fewshot_i2v.training.unread_steps import UnreadSteps
from tests.models.tiny_adapters import perturb
from tests.needs_learn2learn import learn2learn_algorithms
from tests.tiny import tiny_tower
from tests.training.training_samples import settings, training_folder

WAY, SHOT, QUERY, EPISODES = 3, 2, 1, 2
ADAPTERS = [name for name in registry.method_names("adapters") if name != "frozen"]
Named = dict[str, Tensor]
Loss = Callable[[Named], Tensor]


@pytest.fixture
def needs_learn2learn() -> None:
    learn2learn_algorithms()


def _objective(objective: str, *, adapter: str = "st-adapter", **changes: Any) -> MetaObjective:
    keys = {"objective": objective, "adapter": adapter, "way": WAY, "shot": SHOT, "query": QUERY}
    inner = {"steps": 2, "lr": 0.1} | changes.pop("inner", {})
    made = settings(Path("none"), Path("none"), **keys, inner=inner, **changes)
    config = load_train_config(made)
    encoder = build_training_encoder(config, tiny_tower(layers=2))
    perturb(encoder.adapter, [3], 0.05)
    made_objective = OBJECTIVES[objective](config, encoder, ("a", "b", "c"))
    assert isinstance(made_objective, MetaObjective)
    return made_objective


def _part(objective: MetaObjective, *, episodes: int = EPISODES, scale: float = 1.0) -> MicroBatch:
    size = objective.encoder.tower.image_size
    shape = (episodes, WAY * (SHOT + QUERY), 4, 3, size, size)
    pixels = scale * torch.randn(shape, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        kept = objective.encoder.compute_prefix(pixels, grid_sizes=objective.grid_sizes)
    labels = [
        torch.arange(WAY).repeat_interleave(each).expand(episodes, -1).contiguous()
        for each in (SHOT, QUERY)
    ]
    batch = EpisodeBatch(
        kept[:, : WAY * SHOT], kept[:, WAY * SHOT :], labels[0], labels[1], (("a",),) * episodes
    )
    return MicroBatch(step=6, index=0, weight=1.0, episodes=batch, clips=None)


class _Task(nn.Module):
    """Losses of one episode as functions of adapter and head, both of one copy."""

    def __init__(self, objective: MetaObjective, part: MicroBatch, episode: int) -> None:
        super().__init__()
        self.learner = AdaptedLearner(objective.encoder, objective.head)
        batch = part.episodes
        assert batch is not None
        rows = slice(episode, episode + 1)
        self.clips = torch.cat([batch.support[rows], batch.query[rows]], 1)
        self.labels, self.answers = batch.support_labels[rows], batch.query_labels[rows]

    def forward(self, which: str) -> Tensor:
        features = self.learner(self.clips)
        support, query = split_support(features, WAY * SHOT)
        head, labels, answers = self.learner.head, self.labels, self.answers
        if which == "query":
            scores: Tensor = head(query, support, labels)
            return functional.cross_entropy(scores[0], answers[0])
        if which == "all":
            everything = head.compute_support_logits(features, torch.cat([labels, answers], 1))
            return functional.cross_entropy(everything[0], torch.cat([labels, answers], 1)[0])
        return functional.cross_entropy(head.compute_support_logits(support, labels)[0], labels[0])


def _start(task: _Task) -> Named:
    return {name: p.detach().clone() for name, p in task.named_parameters()}


def _descended(
    task: _Task, start: Named, rates: Named, *, second: bool, steps: int = 2, which: str = "support"
) -> Named:
    """Gradient descent written out."""
    values = dict(start)
    for _ in range(steps):
        slopes = grad(lambda p: functional_call(task, p, (which,)))(values)
        for name, rate in rates.items():
            slope = slopes[name] if second else slopes[name].detach()
            values[name] = values[name] - rate * slope
    return values


def _mean_gradient(
    objective: MetaObjective, part: MicroBatch, *, second: bool, tuned: str
) -> tuple[float, Named, Named]:
    """Mean query loss, and its gradients to the start and to the factors of the rates."""
    loss, slopes, turns = 0.0, dict[str, Tensor](), dict[str, Tensor]()
    for episode in range(EPISODES):
        task = _Task(objective, part, episode)
        start = _start(task)
        rates = {name: 0.1 * torch.ones_like(p) for name, p in start.items() if tuned in name}
        query = lambda p, task=task: functional_call(task, p, ("query",))  # noqa: E731

        def after(p: Named, r: Named, task: _Task = task, query: Loss = query) -> Tensor:
            result: Tensor = query(_descended(task, p, r, second=second))
            return result

        if second:
            to_start, to_rates = grad(after, argnums=(0, 1))(start, rates)
        else:
            end = _descended(task, start, rates, second=False)
            to_start = grad(query)(end)
            # the end is start - rate * (sum of slopes), and the slopes count as constant
            to_rates = {n: to_start[n] * (end[n] - start[n]) / rates[n] for n in rates}
        loss += float(after(start, rates)) / EPISODES
        for total, new, factor in ((slopes, to_start, 1.0), (turns, to_rates, 0.1)):
            for name, slope in new.items():
                total[name] = total.get(name, 0) + factor * slope / EPISODES
    return loss, slopes, turns


@pytest.mark.learn2learn
@pytest.mark.usefixtures("needs_learn2learn")
@pytest.mark.parametrize("second", [False, True], ids=["first", "second"])
@pytest.mark.parametrize(
    ("name", "head"),
    [
        *((name, head) for name in ("maml", "meta-sgd") for head in ("linear", "prototype", "trx")),
        ("anil", "linear"),
        ("anil", "trx"),
    ],
)
def test_gradients_are_those_of_the_definition(name: str, second: bool, head: str) -> None:
    objective = _objective(name, head=head, inner={"second_order": second})
    part = _part(objective)
    tuned = "learner.head" if name == "anil" else ""
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
        expected, slopes, turns = _mean_gradient(objective, part, second=second, tuned=tuned)
    loss = objective.backward(part).value
    assert float(loss) == pytest.approx(expected, abs=1e-5)
    task = _Task(objective, part, 0)
    for key, parameter in task.named_parameters():
        got = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(got, slopes[key], atol=2e-5, rtol=2e-3)
    assert any(float(slope.abs().max()) > 1e-3 for slope in slopes.values())
    if name == "meta-sgd":
        factors = objective.extra.get_submodule("factors").parameters()
        for factor, key in zip(factors, turns, strict=True):
            assert factor.grad is not None
            torch.testing.assert_close(factor.grad, turns[key], atol=2e-5, rtol=2e-3)


@pytest.mark.learn2learn
@pytest.mark.usefixtures("needs_learn2learn")
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["maml", "meta-sgd"])
def test_every_adapter_is_meta_trained(name: str, adapter: str) -> None:
    objective = _objective(name, adapter=adapter, inner={"steps": 1, "lr": 0.01})
    loss = objective.backward(_part(objective)).value
    assert loss.isfinite()
    assert any(p.grad is not None and bool(p.grad.any()) for p in objective.trainable_parameters())


@pytest.mark.learn2learn
@pytest.mark.usefixtures("needs_learn2learn")
def test_parts_of_a_step_add_up() -> None:
    objective = _objective("maml")
    objective.backward(_part(objective))
    whole = [p.grad for p in objective.trainable_parameters()]
    halves = _objective("maml")
    part = _part(halves)
    for e in range(EPISODES):
        assert part.episodes is not None
        b = part.episodes
        rows = slice(e, e + 1)
        own = EpisodeBatch(
            b.support[rows], b.query[rows], b.support_labels[rows], b.query_labels[rows], (("a",),)
        )
        halves.backward(MicroBatch(step=0, index=e, weight=0.5, episodes=own, clips=None))
    for one, two in zip(whole, (p.grad for p in halves.trainable_parameters()), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("head", ["linear", "prototype"])
def test_reptile_moves_towards_what_was_fine_tuned(head: str) -> None:
    objective = _objective("reptile", head=head, inner={"rate": 0.25, "steps": 3})
    part = _part(objective)
    ends = []
    for episode in range(EPISODES):
        task = _Task(objective, part, episode)
        start = _start(task)
        rates = {name: torch.tensor(0.1) for name in start}
        ends.append(_descended(task, start, rates, second=False, steps=3, which="all"))
    objective.backward(part)
    objective.optimizer().step()
    for name, value in task.named_parameters():
        mean = torch.stack([end[name] for end in ends]).mean(0)
        expected = start[name] + 0.25 * (mean - start[name])
        torch.testing.assert_close(value.detach(), expected, atol=1e-5, rtol=1e-4)
    moved = sum(not torch.equal(value, start[name]) for name, value in task.named_parameters())
    assert moved >= 6


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_start_is_seen_the_same_by_every_copy(adapter: str) -> None:
    objective = _objective("reptile", adapter=adapter, head="linear")
    batch = _part(objective).episodes
    assert batch is not None
    same = batch.support[:1].expand(2, *batch.support.shape[1:])
    learner = objective._make_copies(2, WAY, lambda p: p.expand(2, *p.shape[1:]))
    with torch.no_grad():
        alone = objective.encoder(batch.support[:1], grid_sizes=()).frames
        torch.testing.assert_close(learner(same).frames, alone.expand(2, *alone.shape[1:]))


@pytest.mark.parametrize("name", ["reptile", pytest.param("maml", marks=pytest.mark.learn2learn)])
def test_validation_fine_tunes_copies_and_leaves_the_start(name: str) -> None:
    if name == "maml":
        learn2learn_algorithms()
    objective = _objective(name)
    batch = _part(objective).episodes
    assert batch is not None
    before = [p.detach().clone() for p in objective.trainable_parameters()]
    with torch.no_grad():
        tuned = objective.fine_tuned(batch.support, batch.support_labels)
        again = objective.fine_tuned(batch.support, batch.support_labels)
    assert tuned is not None
    assert again is not None
    for value, other, start in zip(
        tuned.encoder.adapter.parameters(), again.encoder.adapter.parameters(), before, strict=False
    ):
        assert value.shape == (EPISODES, *start.shape[1:])
        assert torch.equal(value, other)
        assert value.is_leaf
    task = _Task(objective, _part(objective), 1)
    rates = {key: torch.tensor(0.1) for key in _start(task)}
    expected = _descended(task, _start(task), rates, second=False)
    for key, value in tuned.encoder.adapter.named_parameters():
        wanted = expected[f"learner.encoder.adapter.{key}"][0]
        torch.testing.assert_close(value[1].detach(), wanted, atol=1e-5, rtol=1e-4)
    assert all(
        torch.equal(p, b) for p, b in zip(objective.trainable_parameters(), before, strict=True)
    )


def test_losses_that_are_not_finite_stop_with_the_step() -> None:
    objective = _objective("reptile", inner={"steps": 3, "lr": 1e30})
    steps = UnreadSteps()
    steps.add(6, [objective.backward(_part(objective))])
    with pytest.raises(
        NotFiniteError, match=r"the loss of step 7 is not finite at the inner step [23]$"
    ):
        steps.read()


def test_without_learn2learn_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    for name in ("maml", "meta-sgd", "anil"):
        with pytest.raises(ConfigError, match=INSTALL_SCRIPT):
            _objective(name, head="linear")
    assert (Path(__file__).resolve().parents[2] / INSTALL_SCRIPT).is_file()
    _objective("reptile")


@pytest.mark.learn2learn
@pytest.mark.usefixtures("needs_learn2learn")
def test_what_cannot_be_meta_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prototype.* has no parameters"):
        _objective("anil")
    with pytest.raises(ConfigError, match="second_order and checkpointing"):
        _objective("maml", inner={"second_order": True}, checkpointing=True)
    with pytest.raises(ConfigError, match="second_order and compile"):
        _objective("maml", inner={"second_order": True}, compile=True)


def test_a_head_with_parameters_keeps_its_way() -> None:
    objective = _objective("reptile", head="linear")
    batch = _part(objective).episodes
    assert batch is not None
    with pytest.raises(ConfigError, match=r"3 classes and validation\.way is 2"):
        objective.fine_tuned(batch.support[:, :4], batch.support_labels[:, :4])


@pytest.mark.learn2learn
@pytest.mark.usefixtures("needs_learn2learn")
def test_rates_of_meta_sgd_are_not_decayed() -> None:
    objective = _objective("meta-sgd", head="linear")
    factors = {id(p) for p in objective.extra.get_submodule("factors").parameters()}
    seen = 0
    for group in objective.optimizer().param_groups:
        inside = [id(p) in factors for p in group["params"]]
        assert all(inside) or not any(inside)
        assert not any(inside) or group["weight_decay"] == 0
        assert group["base"] in (objective.config.lr, objective.config.head_lr)
        seen += len(inside)
    assert seen == len(objective.trainable_parameters())


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("reptile", "prototype"),
        pytest.param("maml", "prototype", marks=pytest.mark.learn2learn),
        pytest.param("meta-sgd", "linear", marks=pytest.mark.learn2learn),
        pytest.param("anil", "linear", marks=pytest.mark.learn2learn),
    ],
)
def test_a_training_gives_a_meta_trained_start(name: str, head: str, tmp_path: Path) -> None:
    if name != "reptile":
        learn2learn_algorithms()
    folder = training_folder(tmp_path)
    keys = {"objective": name, "head": head, "way": 2, "inner": {"steps": 2}, "steps": 3}
    first = train(load_train_config(settings(folder, tmp_path / "one", **keys)))
    assert (first.start["kind"], first.start["objective"]) == ("meta-trained", name)
    assert [entry["step"] for entry in first.start["curve"]] == [0, 3]
    again = train(load_train_config(settings(folder, tmp_path / "two", **keys)))
    assert again.digest == first.digest
