"""The BibTeX file of a run: what the rows used, each once, and nothing else."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.data.episodes.episode_file import make_episode_file, write_episode_file
from fewshot_i2v.data.episodes.factory import make_sampler
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.evaluation.references import format_references, used_things
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.utils import resources
from fewshot_i2v.utils.bibtex import parse_entries
from fewshot_i2v.utils.yaml import load_yaml

PLUGIN = '''"""An adapter of somebody, which changes nothing."""

from fewshot_i2v.models.adapters import Adapter


class Mine(Adapter):
    source = "Doe, Mine @ Home, 2024, https://example.org"
    identity_at_init = True
    frame_order = "no"
    CITATION

    def block(self, i, frozen, x):
        return frozen.forward(x)
'''


def headers(**given: Any) -> list[dict[str, Any]]:
    """Headers of the rows of a configuration, as a run writes them."""
    config = load_config({"split": "motions", "adapter": "frozen", **given})
    split = load_split(config.split)
    return [
        {
            "name": row.name,
            **({"citation": row.citation} if row.citation else {}),
            "identity": {"config": row.identity(), "split": {"digest": split.digest}},
            "marks": {"disjoint": True} if row.sampling == "disjoint" else {},
            "split": {"name": split.name, "path": str(split.path)},
            "encoder": {
                "name": row.encoder.name,
                "pretrained": row.encoder.pretrained or "shipped",
                "architecture": None,
            },
        }
        for row in expand_rows(config)
    ]


CLIP = {"name": "ViT-B-16", "pretrained": "openai"}


def load_yaml_of(name: str) -> dict[str, Any]:
    data = load_yaml(resources.data_file("configs", name))
    assert isinstance(data, dict)
    return data


def keys(text: str) -> list[str]:
    return [entry.key for entry in parse_entries(text)]


def comment(text: str) -> str:
    """The comment at the top as one line."""
    return re.sub(r"\s+", " ", text.partition("\n\n")[0].replace("%", " ")).strip()


def test_everything_that_rows_used_and_nothing_else() -> None:
    made = headers(
        split="ucf101-arn",
        encoder={"name": "ViT-B-16", "pretrained": "laion2b_s34b_b88k"},
        adapter=["frozen", "st-adapter", "lora"],
        head=["otam", "prototype:pooling=ordered"],
        shot=[1, 5],
    )
    text = format_references(made, title="UCF101", version="1.2")
    assert keys(text) == [
        *("pan2022stadapter", "hu2022lora", "cao2020otam", "snell2017prototypical"),
        *("radford2021clip", "ilharco2021openclip", "schuhmann2022laion5b"),
        *("soomro2012ucf101", "zhang2020arn"),
    ]
    assert comment(text) == (
        "References of what these rows used: UCF101. Written by fewshot-i2v 1.2. "
        "no publication: adapter frozen"
    )
    assert "\n% adapter st-adapter\n@inproceedings{pan2022stadapter,\n  author = {Pan, " in text
    assert text.isascii()


def test_what_has_no_publication_is_named() -> None:
    made = headers(adapter=["frozen", "full"], head="prototype:tokens=summary+grid4+frozen-motion")
    text = format_references(made)
    assert keys(text) == ["snell2017prototypical"]
    assert comment(text).endswith(
        "no publication: adapter frozen, adapter full, readout grid4, readout motion, encoder "
        "demo, split motions"
    )
    assert max(map(len, text.splitlines())) <= 100


def test_an_option_can_have_a_publication_of_its_own() -> None:
    assert keys(format_references(headers(head="nearest"))) == ["cover1967nearest"]
    soft = format_references(headers(head="nearest:softness=0.1"))
    assert keys(soft) == ["cover1967nearest", "goldberger2004nca"]


def test_one_publication_of_several_things_is_there_once() -> None:
    made = headers(adapter=["aim", "temporal-embedding"], head="zero-shot", encoder=CLIP)
    text = format_references(made)
    assert keys(text).count("yang2023aim") == keys(text).count("radford2021clip") == 1
    assert "% adapter aim, adapter temporal-embedding\n@" in text
    assert "% head zero-shot, encoder ViT-B-16\n@" in text


def test_protocol_and_disjoint_episodes_are_cited() -> None:
    made = headers(**load_yaml_of("protocols/d2st-adapter"))
    assert keys(format_references(made))[-1] == "pei2025d2st"
    assert [thing.label for thing in used_things(made)][-1] == "protocol run"
    assert "lafargue2024oops" in keys(format_references(headers(sampling="disjoint")))
    assert "lafargue2024oops" not in keys(format_references(headers()))


def test_a_start_has_a_publication_that_is_not_known() -> None:
    made = headers(adapter="aim")
    made[0]["marks"]["start"] = {"kind": "meta-trained", "name": "mine"}
    assert "start mine: meta-trained; cite the data and the method of its training" in comment(
        format_references(made)
    )


@pytest.mark.parametrize(
    ("citation", "expected"),
    [
        ("", "its class names no entry (citation); its source: Doe, Mine (at) Home, 2024, https"),
        ('citation = "no BibTeX"', "its citation cannot be read as BibTeX: expected an entry"),
    ],
)
def test_a_plug_in_without_an_entry_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, citation: str, expected: str
) -> None:
    name = f"mine-{len(citation)}"
    path = tmp_path / "adapters" / f"{name.replace('-', '_')}.py"
    path.parent.mkdir()
    path.write_text(PLUGIN.replace("CITATION", citation), encoding="utf-8")
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    made = headers(adapter=name)
    text = format_references(made)
    assert f"adapter {name}: {expected}" in comment(text)
    assert keys(text) == ["chen2019closer"]
    monkeypatch.delenv("FEWSHOT_I2V_PLUGINS")
    assert f"adapter {name}: its file cannot be used: unknown adapter" in comment(
        format_references(made)
    )


def test_an_entry_of_a_plug_in_is_written_and_a_key_is_given_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = "@misc{Pan2022STAdapter, author = {Doe, J.}, title = {Mine}, year = {2024}, url = {u}}"
    path = tmp_path / "adapters" / "with_entry.py"
    path.parent.mkdir()
    path.write_text(PLUGIN.replace("CITATION", f'citation = "{entry}"'), encoding="utf-8")
    monkeypatch.setenv("FEWSHOT_I2V_PLUGINS", str(tmp_path))
    text = format_references(headers(adapter=["st-adapter", "with-entry"]))
    assert keys(text) == ["pan2022stadapter", "Pan2022STAdapter-2", "chen2019closer"]


def own_split(folder: Path, citation: str) -> Path:
    path = folder / "mine.yaml"
    generator = "{name: motions, seed: 1, clips: 12}"
    classes = "[moves-up, moves-down, come-together, spirals-in, spirals-out]"
    path.write_text(
        f"name: my split\n{citation}generator: {generator}\nsubsets: {{novel: {classes}}}\n",
        encoding="utf-8",
    )
    return path


def test_a_split_of_ones_own_can_have_an_entry(tmp_path: Path) -> None:
    entry = "@misc{me2024, title = {Mine}}"
    path = own_split(tmp_path, f"citation: '{entry}'\n")
    made = headers(split=str(path))
    assert keys(format_references(made)) == ["chen2019closer", "me2024"]
    moved = tmp_path / "elsewhere.yaml"
    shutil.move(path, moved)
    assert "split my split: its file is not there" in comment(format_references(made))
    assert "me2024" in keys(format_references(made, split=moved))
    moved.write_text("name: [", encoding="utf-8")
    assert "its file cannot be used" in comment(format_references(made, split=moved))


def test_a_split_with_a_source_alone_is_named_with_it(tmp_path: Path) -> None:
    path = own_split(tmp_path, "")
    made = headers(split=str(path))
    path.write_text("name: x\nsource: the lab's clips\nsubsets: {novel: [a]}\n", encoding="utf-8")
    assert comment(format_references(made)).endswith(
        "split my split: its file names no entry (citation); its source: the lab's clips"
    )


def test_a_shipped_split_of_another_checkout_is_known_by_its_list() -> None:
    made = headers(split="egogestar")
    made[0]["split"]["path"] = "/gone/episodes/egogestar.yaml"
    assert "garg2018drawinair" in keys(format_references(made))
    made[0]["identity"]["split"]["digest"] = "0" * 64
    assert "split egogestar: its file is not there" in comment(format_references(made))


def test_published_episodes_are_cited_and_own_ones_need_nothing(tmp_path: Path) -> None:
    path = resources.data_folder("episodes") / "trials" / "ucf101-a5.jsonl.gz"
    digest = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])["digest"]
    made = headers(split="ucf101-arn")
    made[0]["identity"]["trials"] = {"digest": digest}
    for place in (path, "/gone/ucf101-a5.jsonl.gz"):
        made[0]["trials"] = {"path": str(place)}
        assert keys(format_references(made))[-1] == "ju2022prompting"
    made[0]["trials"] = {"path": "/gone/other.jsonl"}
    assert "episodes other: the file is not there (/gone/other.jsonl)" in comment(
        format_references(made)
    )
    split = load_split("motions")
    sampler = make_sampler(split, seed=0, way=5, shot=1, query=1)
    file = make_episode_file(split, "novel", [sampler[0]], {"seed": 0})
    write_episode_file(file, tmp_path / "own.jsonl")
    made[0]["trials"] = {"path": str(tmp_path / "own.jsonl")}
    made[0]["identity"]["trials"] = {"digest": file.digest}
    assert not any(thing.kind == "episodes" for thing in used_things(made))


def test_weights_that_are_known_by_their_digest_are_cited_by_their_tag() -> None:
    made = headers(encoder={"name": "ViT-B-16", "pretrained": "openai"})
    made[0]["identity"]["config"]["encoder"]["pretrained"] = "weights.pt"
    made[0]["encoder"]["pretrained"] = "openai@/x/weights.pt"
    text = format_references(made)
    assert "radford2021clip" in keys(text)
    assert "encoder ViT-B-16: its weights are the file weights.pt" in comment(text)
