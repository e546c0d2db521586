"""Splits and episodes: which classes and clips there are, and which of them make up episode i."""

from fewshot_i2v.data.episodes.episode import EpisodeSpec
from fewshot_i2v.data.episodes.sampler import EpisodeSampler, episode
from fewshot_i2v.data.splits.split import Clip, Draw, Generator, Split
from fewshot_i2v.data.splits.split_file import load_split

__all__ = [
    "Clip",
    "Draw",
    "EpisodeSampler",
    "EpisodeSpec",
    "Generator",
    "Split",
    "episode",
    "load_split",
]
