"""What is cited for an encoder: what is known of its weights, and a remark on the rest."""

from __future__ import annotations

import re

import pytest

from fewshot_i2v.models.encoders.publications import encoder_publications
from fewshot_i2v.utils.bibtex import parse_entries


def keys(name: str, pretrained: str | None, architecture: str | None = None) -> list[str]:
    texts = encoder_publications(name, pretrained, architecture).citations
    return [entry.key for text in texts for entry in parse_entries(text)]


@pytest.mark.parametrize(
    ("tag", "further"),
    [
        ("openai", []),
        ("laion400m_e32", ["schuhmann2021laion400m"]),
        ("laion2b_s34b_b88k", ["schuhmann2022laion5b"]),
        ("frozen_laion5b_s13b_b90k", ["schuhmann2022laion5b"]),
        ("datacomp_xl_s13b_b90k", ["gadre2023datacomp"]),
        ("commonpool_l_clip_s1b_b8k", ["gadre2023datacomp"]),
        ("dfn2b", ["fang2023dfn"]),
        ("metaclip_fullcc", ["xu2023metaclip"]),
    ],
)
def test_weights_of_clip_models(tag: str, further: list[str]) -> None:
    assert keys("ViT-B-16", tag) == ["radford2021clip", "ilharco2021openclip", *further]
    assert encoder_publications("ViT-B-16-quickgelu", tag).remark == ""


@pytest.mark.parametrize("tag", ["webli", "datacompdr", "dfndr2b", "metaclip_altogether", "meta"])
def test_other_weights_are_named(tag: str) -> None:
    assert keys("ViT-B-16", tag) == ["ilharco2021openclip"]
    remark = encoder_publications("ViT-B-16", tag).remark
    assert remark == f"the publication of its weights {tag} is not known here"


def test_other_architectures_may_have_a_publication() -> None:
    assert keys("convnext_base", "laion400m_s13b_b51k")[-1] == "schuhmann2021laion400m"
    for name in ("convnext_base", "EVA02-B-16", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA", "ViTamin-S"):
        remark = encoder_publications(name, "laion2b").remark
        assert remark == "its architecture may have a publication of its own"
    for name in (
        "ViT-B-16",
        "ViT-bigG-14",
        "ViT-H-14-378-quickgelu",
        "RN50x64",
        "ViT-B-16-plus-240",
    ):
        assert encoder_publications(name, "openai").remark == ""


@pytest.mark.parametrize("name", ["demo", "pixels"])
def test_encoders_of_this_package_have_none(name: str) -> None:
    found = encoder_publications(name, None)
    assert (found.citations, found.remark) == ((), "no publication")


def test_files_are_named_without_their_folder() -> None:
    found = encoder_publications("ViT-B-16", "/home/x/mine.safetensors")
    assert keys("ViT-B-16", "/home/x/mine.safetensors") == ["ilharco2021openclip"]
    assert found.remark == "its weights are the file mine.safetensors: cite where they are from"
    assert keys("ViT-B-16", "openai@/x/y.pt")[:1] == ["radford2021clip"]
    own = encoder_publications("mine", "/x/y.pt", "/x/mine.json")
    assert own.citations == ()
    assert re.match("its weights are the file y.pt.*; its architecture may have", own.remark)


def test_random_weights_have_no_publication() -> None:
    assert (
        keys("ViT-B-16", "random") == keys("ViT-B-16", "random (seed 0)") == ["ilharco2021openclip"]
    )
    assert encoder_publications("ViT-B-16", "random").remark == "its weights are random"
