"""Splits (classes and clips by subset) and the episodes that are sampled from them."""

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.data.episodes.sampler import EpisodeSampler, sample_episode
from fewshot_i2v.data.splits.split import Clip, Draw, Generator, Split
from fewshot_i2v.data.splits.split_file import load_split

__all__ = [
    "Clip",
    "Draw",
    "Episode",
    "EpisodeSampler",
    "Generator",
    "Split",
    "load_split",
    "sample_episode",
]
