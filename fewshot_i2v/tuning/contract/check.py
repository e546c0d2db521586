"""A check of the contract, what it finds, and how a list of checks is run."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor

from fewshot_i2v.errors import FewshotError
from fewshot_i2v.utils.bibtex import entry_problems, parse_entries

Subject = TypeVar("Subject")


class ContractError(FewshotError):
    """A promise that an adapter or head does not keep.

    Args:
        problem: what is wrong.
        advice: what to do.
    """

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}. {advice}")
        self.problem, self.advice = problem, advice


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One promise of the contract.

    Attributes:
        promise: what holds, in a few words: "the frozen encoder is not changed".
        run: raises `ContractError` where it does not hold for a subject.
        essential: whether the checks after it make no sense where it does not hold.
    """

    promise: str
    run: Callable[[Subject], None]
    essential: bool = False


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        promise: of the check.
        status: "passed", "violated", or "skipped" after an essential check.
        problem: what is wrong, or "".
        advice: what to do, or "".
    """

    promise: str
    status: str
    problem: str = ""
    advice: str = ""


def run_checks(
    checks: Sequence[Check[Subject]], subject: Subject, origin: Path | None = None
) -> Iterator[CheckResult]:
    """Run checks one after the other.

    Args:
        checks: in the order to run them.
        subject: what is checked.
        origin: the file of the subject, to name the line of an exception.

    Yields:
        A result per check. An exception of any kind in the subject's code is a violation.
    """
    for position, check in enumerate(checks):
        result = _run_check(check, subject, origin)
        yield result
        if check.essential and result.problem:
            for skipped in checks[position + 1 :]:
                yield CheckResult(skipped.promise, "skipped")
            return


def _run_check(check: Check[Subject], subject: Subject, origin: Path | None) -> CheckResult:
    try:
        check.run(subject)
    except ContractError as violation:
        return CheckResult(check.promise, "violated", violation.problem, violation.advice)
    except Exception as error:  # noqa: BLE001 - code of a user may raise anything
        problem = f"{type(error).__name__}: {str(error) or 'no message'}"
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(origin)]
        line = f" in line {lines[-1]}" if lines else ""
        return CheckResult(
            check.promise, "violated", " ".join(problem.split()), f"It is raised{line}; mend that."
        )
    return CheckResult(check.promise, "passed")


def fail(problem: str, advice: str) -> NoReturn:
    """Raise the violation of a promise."""
    raise ContractError(problem, advice)


def require(condition: bool, problem: str, advice: str) -> None:
    """Raise a violation unless a condition holds."""
    if not condition:
        fail(problem, advice)


def require_citations(cls: type[Any]) -> None:
    """Raise a violation unless what a method says of its publications can be cited."""
    advice = (
        "Set citation to BibTeX entries with author, title, year and an address or venue, as "
        "st-adapter has it, or leave it out."
    )
    unknown = [name for name in cls.option_citations if name not in cls.Options.model_fields]
    require(not unknown, f"option_citations names {', '.join(unknown)}, no option of it", advice)
    for text in (cls.citation, *cls.option_citations.values()):
        require(isinstance(text, str), f"citation is {text!r}", advice)
        try:
            entries = parse_entries(text)
        except ValueError as error:
            fail(f"citation is not BibTeX: {error}", advice)
        problems = [
            f"the entry {e.key} {problem}" for e in entries for problem in entry_problems(e)
        ]
        require(not problems, f"citation: {'; '.join(problems)}", advice)


def require_close(
    actual: Tensor, expected: Tensor, problem: str, advice: str, *, limit: float = 1e-5
) -> None:
    """Raise a violation where two tensors differ in shape, or by more than rounding.

    Args:
        actual: what the subject gives.
        expected: what it should give.
        problem: what a difference means; the size of it is added.
        advice: what to do.
        limit: of the difference, absolute and relative to `expected`.
    """
    if actual.shape != expected.shape:
        shapes = f"{tuple(actual.shape)} instead of {tuple(expected.shape)}"
        fail(f"{problem}: the shape is {shapes}", advice)
    if not torch.allclose(actual.float(), expected.float(), rtol=limit, atol=limit):
        fail(f"{problem}: the difference is {largest_difference(actual, expected):.2g}", advice)


def largest_difference(first: Tensor, second: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape."""
    return float((first.detach().float() - second.detach().float()).abs().max())
