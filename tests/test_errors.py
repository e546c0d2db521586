"""Errors name what is known, and carry the exit status that the documentation promises."""

from __future__ import annotations

import inspect
import pickle
import re

import pytest

from fewshot_i2v import errors
from fewshot_i2v.errors import FewshotError, UnknownNameError, VideoUnreadable, suggest_names

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if cls.__module__ == errors.__name__
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_error_is_of_the_family_and_has_a_documented_status(
    cls: type[FewshotError],
) -> None:
    assert issubclass(cls, FewshotError)
    codes = re.findall(r"^\| ([\d, ]+) \|", errors.__doc__ or "", re.M)
    documented = {int(code) for row in codes for code in row.split(",")}
    assert cls.exit_code in documented
    assert cls.__doc__


def test_wrong_use_and_failures_have_different_status() -> None:
    assert errors.ConfigError("x").exit_code == 2
    assert errors.RecordError("x").exit_code == 2
    assert VideoUnreadable("a.mp4", "empty").exit_code == 1
    assert errors.TooManyFailuresError("x").exit_code == 4


def test_unknown_name_offers_the_nearest_and_lists_what_exists() -> None:
    error = UnknownNameError("adapter", "st-adaptor", ["frozen", "st-adapter"], "Look here.")
    assert "unknown adapter 'st-adaptor'" in str(error)
    assert "did you mean 'st-adapter'?" in str(error)
    assert "known: frozen, st-adapter" in str(error)
    assert str(error).endswith("Look here.")
    assert (error.kind, error.name, error.existing_names) == (
        "adapter",
        "st-adaptor",
        ["frozen", "st-adapter"],
    )


def test_unknown_name_far_from_all_makes_no_guess() -> None:
    assert "did you mean" not in str(UnknownNameError("head", "zzz", ["linear"]))
    assert "none exist" in str(UnknownNameError("head", "zzz", []))


def test_names_that_begin_so_come_first() -> None:
    names = ["motion-world", "motions", "notions"]
    assert suggest_names("mot", names) == "did you mean 'motions' or 'motion-world'?"
    assert suggest_names("motion", names).startswith("did you mean 'motions' or 'motion-world' or")
    assert suggest_names("m", names) == ""


def test_unknown_name_shows_at_most_twenty() -> None:
    text = str(UnknownNameError("split", "zzz", [f"name{i:02}" for i in range(30)]))
    assert "name19" in text
    assert "name20" not in text
    assert "(30 in all)" in text


def test_unreadable_video_survives_another_process() -> None:
    copy = pickle.loads(pickle.dumps(VideoUnreadable("a.mp4", "no frames")))  # noqa: S301
    assert (copy.path, copy.reason, str(copy)) == ("a.mp4", "no frames", "a.mp4: no frames")
