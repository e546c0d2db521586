"""The publications of encoders: of open_clip, and of the pretrained weights that are known here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fewshot_i2v.config.file_names import file_name, parse_pretrained
from fewshot_i2v.models.encoders.catalog import PIXELS

CLIP = """
@inproceedings{radford2021clip,
  author = {Radford, Alec and Kim, Jong Wook and Hallacy, Chris and Ramesh, Aditya and
    Goh, Gabriel and Agarwal, Sandhini and Sastry, Girish and Askell, Amanda and Mishkin, Pamela and
    Clark, Jack and Krueger, Gretchen and Sutskever, Ilya},
  title = {Learning Transferable Visual Models From Natural Language Supervision},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
  url = {https://arxiv.org/abs/2103.00020},
}
"""
OPEN_CLIP = """
@misc{ilharco2021openclip,
  author = {Ilharco, Gabriel and Wortsman, Mitchell and Wightman, Ross and Gordon, Cade and
    Carlini, Nicholas and Taori, Rohan and Dave, Achal and Shankar, Vaishaal and
    Namkoong, Hongseok and Miller, John and Hajishirzi, Hannaneh and Farhadi, Ali and
    Schmidt, Ludwig},
  title = {{OpenCLIP}},
  howpublished = {Zenodo},
  year = {2021},
  url = {https://doi.org/10.5281/zenodo.5143773},
}
"""
_LAION_400M = """
@misc{schuhmann2021laion400m,
  author = {Schuhmann, Christoph and Vencu, Richard and Beaumont, Romain and
    Kaczmarczyk, Robert and Mullis, Clayton and Katta, Aarush and Coombes, Theo and
    Jitsev, Jenia and Komatsuzaki, Aran},
  title = {{LAION-400M}: Open Dataset of {CLIP}-Filtered 400 Million Image-Text Pairs},
  howpublished = {arXiv},
  year = {2021},
  url = {https://arxiv.org/abs/2111.02114},
}
"""
_LAION_5B = """
@inproceedings{schuhmann2022laion5b,
  author = {Schuhmann, Christoph and Beaumont, Romain and Vencu, Richard and Gordon, Cade and
    Wightman, Ross and Cherti, Mehdi and Coombes, Theo and Katta, Aarush and Mullis, Clayton and
    Wortsman, Mitchell and Schramowski, Patrick and Kundurthy, Srivatsa and Crowson, Katherine and
    Schmidt, Ludwig and Kaczmarczyk, Robert and Jitsev, Jenia},
  title = {{LAION-5B}: An open large-scale dataset for training next generation image-text models},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  url = {https://openreview.net/forum?id=M3Y74vmsMcY},
}
"""
_DATACOMP = """
@inproceedings{gadre2023datacomp,
  author = {Gadre, Samir Yitzhak and Ilharco, Gabriel and Fang, Alex and Hayase, Jonathan and
    Smyrnis, Georgios and Nguyen, Thao and Marten, Ryan and Wortsman, Mitchell and Ghosh, Dhruba and
    Zhang, Jieyu and others},
  title = {{DataComp}: In search of the next generation of multimodal datasets},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2023},
  url = {https://arxiv.org/abs/2304.14108},
}
"""
_DFN = """
@misc{fang2023dfn,
  author = {Fang, Alex and Jose, Albin Madappally and Jain, Amit and Schmidt, Ludwig and
    Toshev, Alexander and Shankar, Vaishaal},
  title = {Data Filtering Networks},
  howpublished = {arXiv},
  year = {2023},
  url = {https://arxiv.org/abs/2309.17425},
}
"""
_METACLIP = """
@misc{xu2023metaclip,
  author = {Xu, Hu and Xie, Saining and Tan, Xiaoqing Ellen and Huang, Po-Yao and
    Howes, Russell and Sharma, Vasu and Li, Shang-Wen and Ghosh, Gargi and Zettlemoyer, Luke and
    Feichtenhofer, Christoph},
  title = {Demystifying {CLIP} Data},
  howpublished = {arXiv},
  year = {2023},
  url = {https://arxiv.org/abs/2309.16671},
}
"""
_PUBLICATIONS_OF_TAGS = {
    r"openai": (),
    r"laion400m_\w+": (_LAION_400M,),
    r"(frozen_)?laion(2b|5b)_\w+|laion2b|laion_aesthetic_\w+": (_LAION_5B,),
    r"datacomp1b|(datacomp|commonpool)_\w+": (_DATACOMP,),
    r"dfn(2b|5b)(_s39b)?": (_DFN,),
    r"metaclip_(400m|fullcc)": (_METACLIP,),
}
"""By a pattern of tags of open_clip: the publications of the pictures, beside that of CLIP."""
_PLAIN_NAME = re.compile(r"(ViT-[A-Za-z]+-\d+|RN\d+(x\d+)?)(-plus)?(-\d+)?(-quickgelu)?")
"""Names of the architectures of CLIP itself; others have publications that are not known here."""
_OWN_ENCODERS = {"demo": "no publication", PIXELS: "no publication"}


@dataclass(frozen=True)
class EncoderPublications:
    """What to cite for an encoder.

    Attributes:
        citations: BibTeX entries, one publication each.
        remark: what is not among them and why; or empty.
    """

    citations: tuple[str, ...] = ()
    remark: str = ""


def encoder_publications(
    name: str, pretrained: str | None, architecture: str | None = None
) -> EncoderPublications:
    """Say what to cite for an encoder. No weights are read.

    Args:
        name: such as "ViT-B-16", as `load_encoder` takes it.
        pretrained: a tag of open_clip, a path, "TAG@PATH", "random"; None: those of the name.
        architecture: file of a model configuration of one's own, or None.
    """
    if architecture is None and name in _OWN_ENCODERS and pretrained is None:
        return EncoderPublications(remark=_OWN_ENCODERS[name])
    is_own = architecture is not None or name in _OWN_ENCODERS
    citations = () if is_own else (OPEN_CLIP,)
    tag, file = (None, None) if pretrained is None else parse_pretrained(pretrained)
    if tag is not None and tag.startswith("random"):
        return EncoderPublications(citations, "its weights are random")
    weights = next(
        (texts for form, texts in _PUBLICATIONS_OF_TAGS.items() if re.fullmatch(form, tag or "")),
        None,
    )
    remarks = []
    if tag is not None and weights is None:
        remarks.append(f"the publication of its weights {tag} is not known here")
    if file is not None:
        remarks.append(f"its weights are the file {file_name(file)}: cite where they are from")
    if is_own or not _PLAIN_NAME.fullmatch(name):
        remarks.append("its architecture may have a publication of its own")
    if weights is not None:
        citations = (CLIP, *citations, *weights)
    return EncoderPublications(citations, "; ".join(remarks))
