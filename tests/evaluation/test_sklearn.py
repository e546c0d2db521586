"""The classifier in the tools of scikit-learn."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.errors import SplitError, UsageError
from tests.evaluation.fitting.conftest import Material

CHECKS = (
    "check_parameters_default_constructible",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_get_params_invariance",
    "check_set_params",
    "check_no_attributes_set_in_init",
    "check_mixin_order",
    "check_valid_tag_types",
    "check_estimators_unfitted",
)
"""Those for estimators of any input; the others fit arrays of numbers."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("sklearn"))


def _clips(folder: Path) -> tuple[list[str], list[str]]:
    paths = sorted(folder.rglob("*.mp4"))
    return [str(path) for path in paths], [path.parent.name for path in paths]


@pytest.mark.parametrize("name", CHECKS)
def test_the_checks_of_scikit_learn_that_apply(name: str) -> None:
    check = getattr(estimator_checks, name, None)
    if check is None:
        pytest.skip(f"this version of scikit-learn has no {name}")
    assert inspect.isfunction(check)
    check("FewShotClassifier", FewShotClassifier())


TUNED = {"adapter": "lora:rank=2", "head": "linear", "tuning": {"steps": 2, "lr": 0.01}}


@pytest.mark.parametrize("method", [{"head": "prototype:pooling=ordered"}, TUNED])
def test_a_fit_to_paths_is_the_fit_to_their_folder(
    material: Material, tmp_path: Path, method: dict[str, object]
) -> None:
    paths, labels = _clips(material.train)
    settings = material.keys(**method) | {"folds": 2}
    model = FewShotClassifier(**settings).fit(np.array(paths), np.array(labels))
    by_folder = fit(material.train, **settings)
    tests, truth = _clips(material.test)
    expected = by_folder.predict_proba(tests)
    np.testing.assert_array_equal(model.predict_proba(np.array(tests)[:, None]), expected)
    assert model.classes_.tolist() == sorted(material.classes) == list(model.classes)
    nearest = [p.nearest for p in model.predict(tests)]
    assert model.score(tests, truth) == np.mean(
        [n == t for n, t in zip(nearest, truth, strict=True)]
    )
    weights = np.eye(len(tests))[0]
    assert model.score(tests, truth, weights) == float(nearest[0] == truth[0])
    model.save(tmp_path / "m.safetensors")
    loaded = FewShotClassifier.load(
        tmp_path / "m.safetensors", cache=material.folder / "cache", workers=1
    )
    np.testing.assert_array_equal(loaded.predict_proba(tests), expected)
    # what was loaded says how to fit the same again
    again = clone(loaded).set_params(cache=str(material.folder / "cache"), workers=1, folds=2)
    with pytest.raises(NotFittedError, match="call fit, or load one"):
        again.predict(tests)
    np.testing.assert_array_equal(again.fit(paths, labels).predict_proba(tests), expected)


def test_predictions_are_an_array_of_names(material: Material) -> None:
    model = fit(material.train, reject=0.3, **material.keys(head="prototype"))
    tests, _ = _clips(material.test)
    predictions = model.predict(tests)
    names = np.asarray(predictions)
    assert names.tolist() == [p.class_name or "none of these" for p in predictions]
    assert accuracy_score(names, predictions) == 1


def test_cross_validation_pipelines_and_searches(material: Material) -> None:
    paths, labels = _clips(material.train)
    settings = material.keys(head="prototype") | {"reject": 0}
    model = FewShotClassifier(**settings)
    assert is_classifier(model)
    folds = StratifiedKFold(2)
    scores = cross_val_score(model, paths, labels, cv=folds)
    by_hand = []
    for train, test in folds.split(paths, labels):
        part = clone(model).fit([paths[i] for i in train], [labels[i] for i in train])
        by_hand.append(part.score([paths[i] for i in test], [labels[i] for i in test]))
    assert scores.tolist() == by_hand
    accuracies = cross_val_score(model, paths, labels, cv=folds, scoring="accuracy")
    assert accuracies.tolist() == by_hand, "nothing is rejected"
    with pytest.raises(NotFittedError):
        check_is_fitted(model)
    pipeline = make_pipeline(FunctionTransformer(), model).fit(paths, labels)
    check_is_fitted(pipeline[-1])
    assert pipeline.score(paths, labels) == model.score(paths, labels)
    heads = ["prototype", "nearest"]
    search = GridSearchCV(clone(model), {"head": heads}, cv=folds).fit(paths, labels)
    assert search.best_params_["head"] in heads
    assert search.best_estimator_.get_params()["head"] == search.best_params_["head"]


def test_settings_of_sections_have_two_underscores() -> None:
    model = FewShotClassifier(tuning__steps=3, adapter="aim")
    assert model.get_params()["tuning.steps"] == 3
    pipeline = make_pipeline(model).set_params(fewshotclassifier__tuning__steps=5)
    assert pipeline[0].get_params()["tuning.steps"] == 5
    for change in (model.set_params, FewShotClassifier):
        with pytest.raises(UsageError, match="adaptor: has no meaning for a fit"):
            change(adaptor="aim")


def test_groups_are_held_out_together(material: Material) -> None:
    paths, labels = _clips(material.train)
    groups = [Path(path).stem.rpartition("-")[2] for path in paths]
    model = FewShotClassifier(**material.keys(head="prototype"), folds=None)
    model.fit(paths, labels, groups)
    assert model.model is not None
    assert model.model.description.folds == 4, "one for each group"


def test_clips_that_cannot_be_fitted_are_named(material: Material) -> None:
    paths, labels = _clips(material.train)
    model = FewShotClassifier(**material.keys())
    with pytest.raises(UsageError, match="got 20 paths and 19 classes"):
        model.fit(paths, labels[1:])
    with pytest.raises(UsageError, match=r"class: got 3; expected the name of a class"):
        model.fit(paths, [3] * 20)  # type: ignore[list-item]
    with pytest.raises(SplitError, match="is already in clip 1"):
        model.fit([paths[0], paths[0]], labels[:2])
    with pytest.raises(UsageError, match="expected a list of clips"):
        model.fit("clips", labels)
    with pytest.raises(UsageError, match=r"array of shape \(10, 2\)"):
        model.fit(np.array(paths).reshape(10, 2), labels[:10])
