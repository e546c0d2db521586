"""Every head keeps the contract; a new head is checked without a line being added here.

The checks are those of `fewshot-i2v check-head`, in `fewshot_i2v/tuning/contract/`. That they find
what is wrong is tested in `test_broken_heads.py`.
"""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from fewshot_i2v import registry
from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.heads.base.head import ClassTexts
from fewshot_i2v.tuning.contract.check import Check
from fewshot_i2v.tuning.contract.head_contract import HEAD_BUILDING_CHECKS, HEAD_CHECKS
from fewshot_i2v.tuning.contract.head_subject import (
    EPISODES,
    WAY,
    WIDTH,
    HeadSubject,
    make_class_texts,
)
from tests.contracts._heads import DEFAULTS, NAMES, READERS, build, episode, every_head


def test_there_are_heads() -> None:
    assert {"linear", "prototype"} <= set(NAMES)
    assert len(READERS) >= 2


@pytest.mark.parametrize("check", HEAD_BUILDING_CHECKS, ids=lambda check: check.promise)
@pytest.mark.parametrize("name", NAMES)
def test_it_keeps_what_it_says(name: str, check: Check[HeadSubject]) -> None:
    check.run(DEFAULTS[name])


@pytest.mark.parametrize("check", HEAD_CHECKS, ids=lambda check: check.promise)
@every_head
def test_it_keeps_the_contract(subject: HeadSubject, check: Check[HeadSubject]) -> None:
    check.run(subject)


@pytest.mark.parametrize("name", READERS)
def test_the_names_matter_to_a_head_that_says_so(name: str) -> None:
    support, query, labels, _ = episode(2)
    scores = [
        DEFAULTS[name].build(texts=make_class_texts(order=order))(query, support, labels)
        for order in (range(WAY), [1, 0, 2, 3])
    ]
    assert not torch.equal(*scores)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "templates", ["no place for a name", "a {} and a {}", "a {name}", "a {0}", "{{}}", [], [5], 5]
)
def test_templates_without_exactly_one_place_are_refused(name: str, templates: object) -> None:
    with pytest.raises(ValidationError, match="templates"):
        registry.load_method("heads", name).Options(templates=templates)


@pytest.mark.parametrize("name", READERS)
def test_one_template_may_stand_alone_and_several_in_a_list(name: str) -> None:
    options = registry.load_method("heads", name).Options
    assert options(templates="a {}").templates == ("a {}",)
    assert options(templates=["a {}", "the {}"]).templates == ("a {}", "the {}")


@pytest.mark.parametrize("name", READERS)
def test_texts_of_other_sizes_are_refused_with_both_sizes(name: str) -> None:
    given = make_class_texts()
    few = given.embeddings[:, :-1]
    narrow = torch.zeros(WIDTH - 1, given.embeddings.shape[-1])
    for wrong in (
        ClassTexts(few, given.projection, given.scale),
        ClassTexts(given.embeddings[:1], given.projection, given.scale),
        ClassTexts(given.embeddings, narrow, given.scale),
        ClassTexts(given.embeddings, None, given.scale),
    ):
        with pytest.raises(HeadError, match=rf"{EPISODES} episodes of {WAY} classes .*{WIDTH}"):
            DEFAULTS[name].build(texts=wrong)


@pytest.mark.parametrize("name", READERS)
def test_names_are_not_compared_with_a_grid(name: str) -> None:
    with pytest.raises(HeadError, match="use tokens=summary"):
        build(name, {"tokens": "grid2"})
