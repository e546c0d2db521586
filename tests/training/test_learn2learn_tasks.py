"""Episodes as tasks: layout, and a loop of the kind that learn2learn publishes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fewshot_i2v.data.episodes.sampler import EpisodeSampler
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import EpisodeError
from fewshot_i2v.training.learn2learn_tasks import EpisodeTasks
from fewshot_i2v.tuning.run_context import RunContext
from tests.needs_learn2learn import learn2learn_algorithms
from tests.tiny import tiny_split
from tests.training.training_samples import train_config, training_folder

WAY, SHOT = 3, 2


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return load_split(str(tiny_split(tmp_path)))


def _tasks(split: Split, *, query: int = SHOT, shot: int = SHOT, count: int = 5) -> EpisodeTasks:
    """Tasks whose data are one row per clip: a vector of its class, with noise of its own."""
    sampler = EpisodeSampler(split, seed=1, way=WAY, shot=shot, query=query)
    return EpisodeTasks(sampler, _rows, count=count, seed=3)


def _rows(names: Sequence[str]) -> Tensor:
    return torch.stack([_row(name) for name in names])


def _row(name: str) -> Tensor:
    parts = [
        sum(i * b for i, b in enumerate(text.encode(), 1))
        for text in (Path(name).parent.name, name)
    ]
    draws = [torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in parts]
    return draws[0] + 0.1 * draws[1]


class _Clips(Dataset[tuple[Tensor, int]]):
    """Forty rows of four classes."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return _row(f"{index % 4}/{index}"), index % 4


@pytest.mark.parametrize("query", [2, 5])
def test_every_other_clip_is_support(split: Split, query: int) -> None:
    tasks = _tasks(split, query=query)
    for index, (data, labels) in enumerate(tasks):
        spec = tasks.sampler[index]
        assert data.shape == (WAY * (SHOT + query), 4)
        assert labels.dtype == torch.int64
        # as learn2learn's examples divide a task
        chosen = np.zeros(len(data), dtype=bool)
        chosen[np.arange(SHOT * WAY) * 2] = True
        for mask, side in ((chosen, spec.support), (~chosen, spec.query)):
            for label in range(WAY):
                mine = data[torch.from_numpy(mask)][labels[torch.from_numpy(mask)] == label]
                assert torch.equal(mine, _rows(side[label]))


def test_with_as_many_queries_as_shots_classes_follow_each_other(split: Split) -> None:
    _, labels = _tasks(split)[0]
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]


def test_a_task_is_the_same_whenever_it_is_asked_for(split: Split) -> None:
    tasks, other = _tasks(split), _tasks(split)
    third = tasks[3]
    assert [torch.equal(a, b) for a, b in zip(third, other[3], strict=True)] == [True, True]
    assert not torch.equal(third[0], tasks[4][0])
    assert len(tasks) == len(list(tasks)) == len(list(tasks)) == 5
    for index in (-1, 5):
        with pytest.raises(IndexError, match="0 to 4"):
            tasks[index]


def test_sample_draws_from_its_own_generator(split: Split) -> None:
    tasks, other = _tasks(split), _tasks(split)
    known = [task[0] for task in tasks]
    before = torch.get_rng_state()
    drawn = [tasks.sample()[0] for _ in range(30)]
    assert torch.equal(before, torch.get_rng_state())
    places = [[torch.equal(data, task) for task in known].index(True) for data in drawn]
    assert set(places) == {0, 1, 2, 3, 4}
    assert all(torch.equal(data, other.sample()[0]) for data in drawn)


def test_what_a_loop_could_not_divide_is_refused(split: Split) -> None:
    with pytest.raises(EpisodeError, match=r"query >= shot.* 3 shots and 1 queries"):
        _tasks(split, shot=3, query=1)
    with pytest.raises(EpisodeError, match="count: got 0"):
        _tasks(split, count=0)


def test_tasks_of_pixels_are_those_of_the_encoder(tmp_path: Path) -> None:
    config = train_config(training_folder(tmp_path), tmp_path / "out")
    material = RunContext.open(config)
    sampler = EpisodeSampler(material.split, seed=0, way=2, shot=1, query=2, subset="base")
    tasks = EpisodeTasks.of_pixels(material, sampler, count=2)
    data, labels = tasks[1]
    assert data.shape == (6, 4, 3, 32, 32)
    assert labels.tolist() == [0, 0, 1, 1, 0, 1]
    name = sampler[1].query[1][0]
    frames = torch.from_numpy(material.frames(name).copy())
    assert torch.equal(data[3], material.encoder.tower.normalize(frames))


@pytest.mark.learn2learn
def test_a_loop_of_learn2learn_learns_from_them(split: Split) -> None:
    algorithms = learn2learn_algorithms()
    tasks = _tasks(split)
    model = nn.Linear(4, WAY)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    maml = algorithms.MAML(model, lr=0.1)
    optimizer = torch.optim.Adam(maml.parameters(), 0.05)
    loss = nn.CrossEntropyLoss()
    errors = []
    for _ in range(40):
        optimizer.zero_grad()
        total = torch.zeros(())
        for _ in range(4):
            learner = maml.clone()
            data, labels = tasks.sample()
            adapting = torch.zeros(len(data), dtype=torch.bool)
            adapting[2 * torch.arange(SHOT * WAY)] = True
            for _ in range(2):
                learner.adapt(loss(learner(data[adapting]), labels[adapting]))
            error = loss(learner(data[~adapting]), labels[~adapting])
            torch.autograd.backward(error)
            total += error.detach() / 4
        errors.append(float(total))
        optimizer.step()
    assert sum(errors[-5:]) < 0.9 * sum(errors[:5])


@pytest.mark.learn2learn
def test_they_have_what_a_taskset_has(split: Split) -> None:
    learn2learn_algorithms()
    from learn2learn.data import MetaDataset, Taskset, transforms

    dataset = MetaDataset(_Clips())
    theirs = Taskset(
        dataset,
        [
            transforms.NWays(dataset, n=WAY),
            transforms.KShots(dataset, k=2 * SHOT),
            transforms.LoadData(dataset),
            transforms.RemapLabels(dataset),
            transforms.ConsecutiveLabels(dataset),
        ],
        num_tasks=5,
    )
    ours = _tasks(split)
    assert len(theirs) == len(ours)
    for one, two in ((theirs[0], ours[0]), (theirs.sample(), ours.sample())):
        assert [t.shape for t in one] == [t.shape for t in two]
        assert [t.dtype for t in one] == [t.dtype for t in two]
        for labels in (one[1], two[1]):
            runs, lengths = labels.unique_consecutive(return_counts=True)
            assert (sorted(runs.tolist()), lengths.tolist()) == ([0, 1, 2], [2 * SHOT] * WAY)
    assert len(list(theirs)) == len(list(ours))
