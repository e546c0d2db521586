"""BibTeX entries of the published splits: their data sets, and who divided or drew them."""

from __future__ import annotations

HMDB51 = """\
@inproceedings{kuehne2011hmdb,
  author = {Kuehne, H. and Jhuang, H. and Garrote, E. and Poggio, T. and Serre, T.},
  title = {{HMDB}: A large video database for human motion recognition},
  booktitle = {International Conference on Computer Vision},
  year = {2011},
  url = {https://doi.org/10.1109/ICCV.2011.6126543},
}
"""
UCF101 = """\
@misc{soomro2012ucf101,
  author = {Soomro, Khurram and Zamir, Amir Roshan and Shah, Mubarak},
  title = {{UCF101}: A Dataset of 101 Human Actions Classes From Videos in The Wild},
  howpublished = {arXiv},
  year = {2012},
  url = {https://arxiv.org/abs/1212.0402},
}
"""
KINETICS = """\
@misc{kay2017kinetics,
  author = {Kay, Will and Carreira, Jo{\\~a}o and Simonyan, Karen and Zhang, Brian and
    Hillier, Chloe and Vijayanarasimhan, Sudheendra and Viola, Fabio and Green, Tim and
    Back, Trevor and Natsev, Paul and Suleyman, Mustafa and Zisserman, Andrew},
  title = {The {Kinetics} Human Action Video Dataset},
  howpublished = {arXiv},
  year = {2017},
  url = {https://arxiv.org/abs/1705.06950},
}
"""
SSV2 = """\
@inproceedings{goyal2017something,
  author = {Goyal, Raghav and Ebrahimi Kahou, Samira and Michalski, Vincent and
    Materzy{\\'n}ska, Joanna and Westphal, Susanne and Kim, Heuna and Haenel, Valentin and
    Fruend, Ingo and Yianilos, Peter and Mueller-Freitag, Moritz and Hoppe, Florian and
    Thurau, Christian and Bax, Ingo and Memisevic, Roland},
  title = {The ``Something Something'' Video Database for Learning and Evaluating Visual Common
    Sense},
  booktitle = {International Conference on Computer Vision},
  year = {2017},
  url = {https://arxiv.org/abs/1706.04261},
}
"""
ARN = """\
@inproceedings{zhang2020arn,
  author = {Zhang, Hongguang and Zhang, Li and Qi, Xiaojuan and Li, Hongdong and
    Torr, Philip H. S. and Koniusz, Piotr},
  title = {Few-shot Action Recognition with Permutation-invariant Attention},
  booktitle = {European Conference on Computer Vision},
  pages = {525--542},
  year = {2020},
  url = {https://arxiv.org/abs/2001.03905},
}
"""
CMN = """\
@inproceedings{zhu2018cmn,
  author = {Zhu, Linchao and Yang, Yi},
  title = {Compound Memory Networks for Few-shot Video Classification},
  booktitle = {European Conference on Computer Vision},
  year = {2018},
}
"""
LIM = """\
@article{zhu2022lim,
  author = {Zhu, Linchao and Yang, Yi},
  title = {Label Independent Memory for Semi-Supervised Few-shot Video Classification},
  journal = {IEEE Transactions on Pattern Analysis and Machine Intelligence},
  volume = {44},
  number = {1},
  pages = {273--285},
  year = {2022},
  url = {https://doi.org/10.1109/TPAMI.2020.3007511},
}
"""
OTAM = """\
@inproceedings{cao2020otam,
  author = {Cao, Kaidi and Ji, Jingwei and Cao, Zhangjie and Chang, Chien-Yi and
    Niebles, Juan Carlos},
  title = {Few-Shot Video Classification via Temporal Alignment},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2020},
  url = {https://arxiv.org/abs/1906.11415},
}
"""
TA2N = """\
@inproceedings{li2022ta2n,
  author = {Li, Shuyuan and Liu, Huabin and Qian, Rui and Li, Yuxi and See, John and
    Fei, Mengjuan and Yu, Xiaoyuan and Lin, Weiyao},
  title = {{TA2N}: Two-Stage Action Alignment Network for Few-Shot Action Recognition},
  booktitle = {AAAI Conference on Artificial Intelligence},
  pages = {1404--1411},
  year = {2022},
  url = {https://arxiv.org/abs/2107.04782},
}
"""
CLIP_FSAR = """\
@article{wang2023clipfsar,
  author = {Wang, Xiang and Zhang, Shiwei and Cen, Jun and Gao, Changxin and Zhang, Yingya and
    Zhao, Deli and Sang, Nong},
  title = {{CLIP}-guided Prototype Modulating for Few-shot Action Recognition},
  journal = {International Journal of Computer Vision},
  year = {2023},
  url = {https://arxiv.org/abs/2303.02982},
}
"""
VIFI = """\
@inproceedings{rasheed2023vificlip,
  author = {Rasheed, Hanoona and Khattak, Muhammad Uzair and Maaz, Muhammad and Khan, Salman and
    Khan, Fahad Shahbaz},
  title = {Fine-tuned {CLIP} Models are Efficient Video Learners},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {6545--6554},
  year = {2023},
  url = {https://arxiv.org/abs/2212.03640},
}
"""
A5 = """\
@inproceedings{ju2022prompting,
  author = {Ju, Chen and Han, Tengda and Zheng, Kunhao and Zhang, Ya and Xie, Weidi},
  title = {Prompting Visual-Language Models for Efficient Video Understanding},
  booktitle = {European Conference on Computer Vision},
  year = {2022},
  url = {https://arxiv.org/abs/2112.04478},
}
"""

CITATIONS = {
    "hmdb51-arn": HMDB51 + ARN,
    "ucf101-arn": UCF101 + ARN,
    "kinetics100-cmn": KINETICS + CMN,
    "kinetics100-clip-fsar": KINETICS + CMN + CLIP_FSAR,
    "ssv2-small-cmn": SSV2 + LIM,
    "ssv2-full-otam": SSV2 + OTAM,
    "ssv2-full-otam-77k": SSV2 + OTAM + TA2N,
    "hmdb51-kshot": HMDB51 + VIFI + A5,
    "ucf101-kshot": UCF101 + VIFI + A5,
    "ssv2-kshot": SSV2 + VIFI,
}
"""By the name of the split."""
