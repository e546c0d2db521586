"""What the published splits say about themselves: source, licence, known defects, remarks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class About:
    """The texts of one split file.

    Attributes:
        source: repository, commit and folder of the list; who made the protocol and when.
        licence: on what terms the list may be used.
        description: one sentence.
        defects: what is known to be wrong with the list, with numbers.
        remarks: further paragraphs for the top of the file.
    """

    source: str
    licence: str
    description: str
    defects: tuple[str, ...]
    remarks: tuple[str, ...] = ()


_FSAR = (
    "https://github.com/tobyperrett/few-shot-action-recognition"
    " at 3687f3a972b496d5010f879a4b0dce7c1ac408ea, splits"
)
_CLIP_FSAR = (
    "https://github.com/alibaba-mmai-research/CLIP-FSAR"
    " at 30cf0a8cf5287a56a9f37bfceb28e82be776fc5d, configs/projects/CLIPFSAR"
)
_CMN = "https://github.com/ffmpbgrnn/CMN at 23b5ef3e6defd4ee93e97131eb3c0b7926481f56"
_TA2N = "https://github.com/R00Kie-Liu/TA2N at 2becdd8174fe40812ef4c41828b5d9fc20fa95ec"
_VIFI = (
    "https://github.com/muzairkhattak/ViFi-CLIP"
    " at e2d1948307f582052078eb8a4afbeb50247166f1, datasets_splits and labels"
)
_A5 = (
    "https://github.com/ju-chen/Efficient-Prompt"
    " at 1f69a189d0a35fdb2192e21ff8a2dd2cfd0fb7cb, datasplits"
)
_ARN_PAPER = (
    "classes divided by Zhang et al., Few-shot Action Recognition with Permutation-invariant"
    " Attention (ARN, ECCV 2020)"
)
_CMN_PAPER = "Zhu and Yang, Compound Memory Networks for Few-shot Video Classification (ECCV 2018)"
_OTAM_PAPER = "Cao et al., Few-Shot Video Classification via Temporal Alignment (OTAM, CVPR 2020)"
_VIFI_PAPER = (
    "Rasheed et al., Fine-tuned CLIP Models are Efficient Video Learners (ViFi-CLIP, CVPR 2023)"
)
_A5_PAPER = (
    "Ju et al., Prompting Visual-Language Models for Efficient Video Understanding (ECCV 2022)"
)

_VIDEOS = "The videos have terms of their own."
_FACTS = "only facts are given here, which names belong to which class"
_FSAR_MIT = "MIT, as the repository of the list (Copyright 2021 tobyperrett)"
_A5_MIT = (
    "MIT, as their repository (Copyright 2022 Chen Ju, Tengda Han, Kunhao Zheng, Ya Zhang, Weidi"
    " Xie)"
)
A5_SOURCE = f"{_A5}, 5-Shot-5-Way setting; {_A5_PAPER}"
A5_LICENCE = f"{_A5_MIT}. {_VIDEOS}"
_NONE = f"none stated; {_FACTS}. {_VIDEOS}"
_VIFI_LICENCE = (
    f"none stated; {_FACTS}. The lists of 2 and 16 clips are also, byte by byte, in"
    " naver-ai/tc-clip under CC BY-NC 4.0."
)
_VIFI_A5_LICENCE = f"{_VIFI_LICENCE} Draws a5 are under {_A5_MIT}. {_VIDEOS}"

_SHELL = (
    "536 of the 6,766 clips of HMDB51 have names with characters that a shell or a glob reads as"
    " something else, such as ( ) ! # [ ] & ; and ~."
)
_HANDSTAND = (
    "The class folder is HandstandPushups, but its files are called v_HandStandPushups_..., with"
    " another capital."
)
_K400 = (
    "All classes are classes of Kinetics-400, the novel ones too. An encoder trained on"
    " Kinetics-400 has seen them with labels."
)
_TWO_SSV2 = (
    "SSv2-Small and SSv2-Full do not divide the classes in the same way. Of their 55 common"
    " classes, 7 are novel in Small and base in Full, 9 novel in Full and base in Small, and only 2"
    " novel in both. 568 novel and 200 val clips of Small are base clips of Full (700 and 200 where"
    " Full has 77,500). What was trained or chosen on the one has seen novel classes of the other."
)
_SMALL_CLASSES = (
    "Some novel classes are very small, with 17 clips (Spilling something behind something), 18"
    " (Pretending to put something underneath something), 23 and 24. 5 support and"
    " 15 query clips of each class are more than the first two have."
)
_QUOTED = (
    "Papers often give 1,925 val and 2,854 novel clips for SSv2-Full; every copy of the lists holds"
    " 1,926 and 2,857."
)
_OTAM_NAMES = (
    "The lists have numbers instead of class names (`id`), counted anew in each subset. The names"
    " here are the official ones. They were checked by clip number against the official validation"
    " file, which holds all val and novel clips, and of each base class the clips that only"
    " ssv2-full-otam-77k has."
)
_HMDB_GROUP = (
    "The group of a clip is the title of the film or video that it was cut from: its name without"
    " the class and what follows it (visible part, camera motion, people, view, quality, number)."
)
_UCF_GROUP = "The group of a clip is UCF101's own: g01 to g25 in each class, each from one video."

TEXTS: dict[str, About] = {
    "hmdb51-arn": About(
        source=f"{_FSAR}/hmdb_ARN; {_ARN_PAPER}",
        licence=f"{_FSAR_MIT}. {_VIDEOS}",
        description="HMDB51, its classes divided into 31 base, 10 val and 10 novel (ARN).",
        defects=(
            "Films cross the subsets. 646 of the 1,292 novel clips have a title that base clips"
            " have as well (146 of the 354 novel titles). Labels do not leak, but people and"
            " places do.",
            "A class has many clips of one title. The title of a query is also that of a support"
            " clip of its class with a probability of 3.3 % for 1 shot and 14 % for 5 shots (novel;"
            " up to 9.4 % for 1 shot in one class), and of 7.0 % and 23 % (val).",
            _SHELL,
        ),
        remarks=(_HMDB_GROUP,),
    ),
    "ucf101-arn": About(
        source=f"{_FSAR}/ucf_ARN; {_ARN_PAPER}",
        licence=f"{_FSAR_MIT}. {_VIDEOS}",
        description="UCF101, its classes divided into 70 base, 10 val and 21 novel (ARN).",
        defects=(
            "Every class has 25 groups of clips, each cut from one video. The group of a query is"
            " also that of a support clip of its class with a probability of 3.4 % for 1 shot and"
            " 16 % for 5 shots.",
            _HANDSTAND,
        ),
        remarks=(_UCF_GROUP,),
    ),
    "kinetics100-cmn": About(
        source=f"{_CMN}, kinetics-100; {_CMN_PAPER}",
        licence=_NONE,
        description="Kinetics-100 as first published (CMN), 64 base, 12 val and 24 novel classes.",
        defects=(
            "Kinetics-100 is not one list. Videos vanished from YouTube, and others work with other"
            " clips. CLIP-FSAR, HyRSM, MoLo, D2ST-Adapter and TS-FSAR replaced 277 of these 10,000"
            " (179 base, 41 val, 57 novel; see kinetics100-clip-fsar); TA2N left out 13 base and 3"
            " novel ones.",
            _K400,
        ),
        remarks=("A name is the YouTube id (11 characters), then start and end in seconds.",),
    ),
    "kinetics100-clip-fsar": About(
        source=f"{_CLIP_FSAR}/kinetics100; Wang et al., CLIP-guided Prototype Modulating for"
        f" Few-shot Action Recognition (CLIP-FSAR, IJCV 2023), after {_CMN_PAPER}",
        licence=f"Apache-2.0, as the repository of the list. {_VIDEOS}",
        description="Kinetics-100 with 277 replaced clips, as CLIP-FSAR and others use it.",
        defects=(
            "277 of the 10,000 clips are not those of the list that CMN published, 179 base, 41 val"
            " and 57 novel ones. Figures on the two lists are not on the same clips.",
            "The list mixes clips of the train and the val folder of Kinetics-400 (6,038 and 362"
            " base, 1,132 and 68 val, 2,251 and 149 novel ones).",
            _K400,
        ),
        remarks=(
            "A name is the YouTube id (11 characters), then start and end in seconds; the 579 clips"
            " of the val folder have no times in the list. The list's folders train_256 and val_256"
            " are left out, and the class folder is spelled as in kinetics100-cmn, so that equal"
            " clips have equal names.",
        ),
    ),
    "ssv2-small-cmn": About(
        source=f"{_CMN}, smsm-100; Zhu and Yang, Label Independent Memory for Semi-Supervised"
        " Few-shot Video Classification (TPAMI 2020)",
        licence=_NONE,
        description="SSv2-Small (CMN), 64 base, 12 val and 24 novel classes of 100 clips.",
        defects=(
            _TWO_SSV2,
            "The base and val clips and 2,049 of the 2,400 novel ones are not in the official"
            " validation file, but among the official training videos. An encoder trained on these"
            " has seen them with labels.",
        ),
    ),
    "ssv2-full-otam": About(
        source=f"{_FSAR}/ssv2_OTAM; {_OTAM_PAPER}",
        licence=f"{_FSAR_MIT}. {_VIDEOS}",
        description="SSv2-Full (OTAM) as mostly used, 64 base (67,013 clips), 12 val, 24 novel.",
        defects=(
            "The base list that is passed on (TRX, STRM, HyRSM, MoLo, CLIP-FSAR, D2ST-Adapter,"
            " TS-FSAR) holds 67,013 clips; the count usually quoted, and TA2N's list, is 77,500."
            " The missing 10,487 are the official validation videos of the base classes. Figures"
            " on SSv2-Full thus come from two base sets (see ssv2-full-otam-77k).",
            _TWO_SSV2,
            _SMALL_CLASSES,
            _QUOTED,
        ),
        remarks=(_OTAM_NAMES,),
    ),
    "ssv2-full-otam-77k": About(
        source=f"base list {_TA2N}, splits/ssv2_OTAM; val and novel list {_FSAR}/ssv2_OTAM;"
        f" {_OTAM_PAPER}",
        licence=f"none stated for the base list; {_FACTS}. Val and novel list {_FSAR_MIT}."
        f" {_VIDEOS}",
        description="SSv2-Full (OTAM), longer base list, 64 base (77,500 clips), 12 val, 24 novel.",
        defects=(
            "Most publications work with 67,013 base clips (ssv2-full-otam). The other 10,487 of"
            " these 77,500 are official validation videos, so that what was trained here has seen"
            " a part of that file, which other protocols test on.",
            _TWO_SSV2,
            _SMALL_CLASSES,
            _QUOTED,
        ),
        remarks=(_OTAM_NAMES,),
    ),
    "hmdb51-kshot": About(
        source=f"{_VIFI}; {_VIFI_PAPER}. Draws a5 from {_A5}; {_A5_PAPER}",
        licence=_VIFI_A5_LICENCE,
        description="HMDB51, all 51 classes, draws of K clips, test list of official split 1.",
        defects=(
            "There is one draw of ViFi-CLIP's for each K, and they are not nested. 7 of the 102"
            " clips for K = 2 are among those for K = 4. A curve over K also shows the draw.",
            "All draws are from official split 1, and the test lists of splits 2 and 3 hold clips"
            " to learn from, 36, 66, 144, 233 (split 2) and 35, 78, 132, 254 (split 3) of those for"
            " K = 2, 4, 8, 16, up to 16.6 % of a test list. An average over the three test lists is"
            " partly on training clips. Here test is that of split 1.",
            "ViFi-CLIP's table of class names (X-CLIP's too) has kick ball before kick and sword"
            " exercise before sword, while its lists number these classes the other way round."
            " Texts made from table and number call 4 of the 51 classes by another one's name. Here"
            " each class has its own name; `id` is the number in the lists.",
            _SHELL,
        ),
        remarks=(
            "train is the union of all draws, 2,479 clips; the official training list (70 clips of"
            " each class) cannot be derived from them. No clip of test is in a draw.",
            _HMDB_GROUP + " No test clip shares its title with a train clip of its class.",
        ),
    ),
    "ucf101-kshot": About(
        source=f"{_VIFI}; {_VIFI_PAPER}. Draws a5 from {_A5}; {_A5_PAPER}",
        licence=_VIFI_A5_LICENCE,
        description="UCF101, all 101 classes, draws of K clips, both lists of official split 1.",
        defects=(
            "There is one draw of ViFi-CLIP's for each K, and they are not nested. 11 of the 202"
            " clips for K = 2 are among those for K = 4. A curve over K also shows the draw.",
            "All draws are from official split 1, and the test lists of splits 2 and 3 hold clips"
            " to learn from, 84, 179, 314, 627 (split 2) and 76, 150, 293, 623 (split 3) of those"
            " for K = 2, 4, 8, 16. An average over the three test lists is partly on training"
            " clips. Here test is that of split 1.",
            _HANDSTAND,
        ),
        remarks=(
            "train is what test leaves of the 13,320 clips of UCF101: the 9,537 of the official"
            " training list, which are groups g08 to g25 of each class.",
            _UCF_GROUP,
        ),
    ),
    "ssv2-kshot": About(
        source=f"{_VIFI}; {_VIFI_PAPER}",
        licence=f"{_VIFI_LICENCE} {_VIDEOS}",
        description="SSv2, all 174 classes, draws of K clips, official validation list as test.",
        defects=(
            "There is one draw for each K, and they are not nested. None of the 348 clips for"
            " K = 2 is among those for K = 4. A curve over K also shows the draw.",
            "The test classes differ much in size, from 15 to 530 clips, so that accuracy over"
            " clips is not accuracy over classes.",
        ),
        remarks=(
            "train is the union of all draws, 5,136 clips; the official training list (168,913"
            " clips) cannot be derived from them. `id` is the row in ViFi-CLIP's table of classes.",
        ),
    ),
}
"""By the name of the split."""
