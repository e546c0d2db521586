"""Splits and episodes: which classes and clips there are, and which of them make up episode i."""

from fewshot_i2v.episodes.catalog import Clip, Draw, Generator
from fewshot_i2v.episodes.sampler import EpisodeSampler, EpisodeSpec, episode
from fewshot_i2v.episodes.split import Split
from fewshot_i2v.episodes.split_file import load_split

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
