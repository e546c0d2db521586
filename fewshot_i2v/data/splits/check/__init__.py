"""Checks that the clips of a split exist, can be read and differ; can write a reduced split."""

from fewshot_i2v.data.splits.check.check import PROBLEM_KINDS, ClipCheck, ClipProblem, check_clips

__all__ = ["PROBLEM_KINDS", "ClipCheck", "ClipProblem", "check_clips"]
