"""Whether the clips of a split are on disk, can be read and differ; a smaller split of those."""

from fewshot_i2v.data.splits.check.check import KINDS, ClipCheck, Problem, check_clips

__all__ = ["KINDS", "ClipCheck", "Problem", "check_clips"]
