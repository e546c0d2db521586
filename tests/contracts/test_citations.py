"""What is shipped names publications that can be cited, each under one key everywhere."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot_i2v import registry
from fewshot_i2v.data.episodes.disjoint import DisjointSampler
from fewshot_i2v.data.episodes.episode_file import read_episode_file
from fewshot_i2v.data.splits.split_file import read_split_origin
from fewshot_i2v.models.encoders import publications
from fewshot_i2v.models.encoders.publications import encoder_publications
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.bibtex import BibEntry, entry_problems, parse_entries
from fewshot_i2v.utils.yaml import load_yaml

OWN = {"frozen", "full"}
"""Methods of the package without a publication of their own."""
KINDS: tuple[registry.MethodKind, ...] = ("adapters", "heads")
METHODS = [
    (kind, info.name)
    for kind in KINDS
    for info in registry.list_methods(kind)
    if resources.PACKAGE_FOLDER in Path(info.origin).parents
]
SPLITS = resources.data_names("episodes")
PROTOCOLS = [name for name in resources.data_names("configs") if name.startswith("protocols/")]
_ADDRESS = re.compile(r"https?://[^\s,;]+")


def citations() -> Iterator[tuple[str, str]]:
    """Every text of entries that is shipped, with where it is."""
    for kind, name in METHODS:
        method = registry.load_method(kind, name)
        yield name, method.citation
        yield from ((f"{name}:{key}", text) for key, text in method.option_citations.items())
    for name in SPLITS:
        yield name, read_split_origin(name).citation
    for path in sorted((resources.data_folder("episodes") / "trials").glob("*.jsonl.gz")):
        yield path.name, read_episode_file(path).settings["citation"]
    for name in PROTOCOLS:
        data = load_yaml(resources.data_file("configs", name))
        assert isinstance(data, dict)
        yield name, str(data["citation"])
    yield "disjoint", DisjointSampler.citation
    tags = ("openai", "laion400m_e32", "laion2b_s34b_b88k", "datacomp_xl_s13b_b90k", "dfn2b")
    for tag in (*tags, "metaclip_400m"):
        for text in encoder_publications("ViT-B-16", tag).citations:
            yield tag, text


def entries() -> list[tuple[str, BibEntry]]:
    return [(place, entry) for place, text in citations() for entry in parse_entries(text)]


def test_every_entry_can_be_cited() -> None:
    found = [(place, entry.key, *entry_problems(entry)) for place, entry in entries()]
    assert len({key for _, key, *_ in found}) > 35
    assert [problems for problems in found if problems[2:]] == []


def test_a_key_is_one_publication_and_a_publication_has_one_key() -> None:
    by_key: dict[str, BibEntry] = {}
    keys: dict[str, str] = {}
    for place, entry in entries():
        assert by_key.setdefault(entry.key, entry).content == entry.content, (place, entry.key)
        title = re.sub(r"\W", "", entry.fields["title"]).casefold()
        assert keys.setdefault(title, entry.key) == entry.key, (place, title)


def test_encoders_name_all_entries_that_are_known() -> None:
    texts = {text for name, text in vars(publications).items() if str(text).startswith("\n@")}
    assert texts <= {text for _, text in citations()}
    assert len(texts) == 7


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_methods_name_the_publication_of_their_source(kind: registry.MethodKind, name: str) -> None:
    method = registry.load_method(kind, name)
    parsed = parse_entries(method.citation)
    assert len(parsed) == (0 if name in OWN else 1)
    for entry in parsed:
        assert entry.fields["url"] in _ADDRESS.findall(method.source)
        assert entry.fields["year"] in method.source
        first_author = re.sub(r"[{}]", "", entry.fields["author"]).partition(",")[0]
        assert first_author in method.source


@pytest.mark.parametrize("name", SPLITS)
def test_splits_of_files_name_publications_and_generated_ones_none(name: str) -> None:
    origin = read_split_origin(name)
    assert bool(parse_entries(origin.citation)) is not origin.generated


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="bibtex is not installed")
def test_bibtex_takes_them(tmp_path: Path) -> None:
    unique = {entry.key: entry.text for _, entry in entries()}
    (tmp_path / "all.bib").write_text("\n".join(unique.values()), encoding="ascii")
    aux = "\\citation{*}\n\\bibstyle{plain}\n\\bibdata{all}\n"
    (tmp_path / "all.aux").write_text(aux, encoding="ascii")
    done = subprocess.run(
        ["bibtex", "all"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "Warning" not in done.stdout, done.stdout
    assert (tmp_path / "all.bbl").read_text(encoding="ascii").count(r"\bibitem{") == len(unique)
