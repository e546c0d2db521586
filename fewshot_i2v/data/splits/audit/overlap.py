"""Compares two splits: common classes and clips, whatever their spelling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fewshot_i2v.data.splits.audit.finding import AuditFinding
from fewshot_i2v.data.splits.matching.name_normalization import (
    group_by_folder,
    index_by_name,
    is_same_clip,
    normalized_class,
    stem_key,
)
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import UnknownNameError

_TEST_SUBSETS = frozenset(("novel", "test"))


def compare_splits(split_a: Split, split_b: Split) -> list[AuditFinding]:
    """Find the classes and clips that two splits have in common, by subset.

    Spelling is ignored.

    Returns:
        One finding for each pair of subsets with common classes or clips. It is grave if a novel or
        test subset of one split overlaps with a training or validation subset of the other.
    """
    n_common = _count_common_clips(split_a, split_b)
    findings = []
    for subset_a in split_a.subsets:
        class_keys = {normalized_class(name) for name in split_a.classes(subset_a)}
        for subset_b in split_b.subsets:
            classes = [
                name for name in split_b.classes(subset_b) if normalized_class(name) in class_keys
            ]
            clips = n_common.get((subset_a, subset_b), 0)
            if classes or clips:
                findings.append(
                    _overlap_finding(split_a, subset_a, split_b, subset_b, classes, clips)
                )
    return sorted(findings, key=lambda finding: not finding.grave)


def _count_common_clips(split_a: Split, split_b: Split) -> Mapping[tuple[str, str], int]:
    """Count, by pair of subsets, the clips of the first split that are in the second."""
    if not _are_comparable(split_a, split_b):
        return {}
    youtube = "youtube" in (split_a.find, split_b.find)
    index_a, index_b = (index_by_name(split, youtube=youtube) for split in (split_a, split_b))
    n_common: dict[tuple[str, str], int] = defaultdict(int)
    for key in index_a.keys() & index_b.keys():
        unique = len(index_a[key]) == len(index_b[key]) == 1
        folders_b = group_by_folder(index_b[key])
        for clip_a in index_a[key]:
            candidates = (
                index_b[key]
                if clip_a.is_youtube or unique
                else folders_b.get(clip_a.folder_keys[-1:], ())
            )
            for subset in {
                clip_b.subset
                for clip_b in candidates
                if is_same_clip(clip_a, clip_b, unique=unique)
            }:
                n_common[clip_a.subset, subset] += 1
    return n_common


def _are_comparable(split_a: Split, split_b: Split) -> bool:
    """Whether equal names mean equal clips: if generated, both need the same generator."""
    if split_a.generator is None or split_b.generator is None:
        return split_a.generator is split_b.generator
    return replace(split_a.generator, clips=0) == replace(split_b.generator, clips=0)


def _overlap_finding(
    split_a: Split, subset_a: str, split_b: Split, subset_b: str, classes: list[str], n_clips: int
) -> AuditFinding:
    grave = (subset_a in _TEST_SUBSETS) != (subset_b in _TEST_SUBSETS)
    sizes = [
        sum(map(len, split.subsets[subset].values()))
        for split, subset in ((split_a, subset_a), (split_b, subset_b))
    ]
    text = (
        f"{split_a.name} {subset_a} and {split_b.name} {subset_b}: {len(classes)} common "
        f"{'class' if len(classes) == 1 else 'classes'}, {n_clips:,} common "
        f"{'clip' if n_clips == 1 else 'clips'} (of {sizes[0]:,} and {sizes[1]:,})"
    )
    if grave:
        test_split, training_split = (
            (split_a, split_b) if subset_a in _TEST_SUBSETS else (split_b, split_a)
        )
        text += (
            f"; a choice or checkpoint made on {training_split.name} is not clean on "
            f"{test_split.name}"
        )
    facts = {"a": subset_a, "b": subset_b, "classes": classes, "clips": n_clips}
    return AuditFinding("same class", grave, text, facts)


_NAMES_TEXT = """
abseiling; air drumming; answering questions; applauding; applying cream; archery; arm
wrestling; arranging flowers; assembling computer; auctioning; baby waking up; baking cookies;
balloon blowing; bandaging; barbequing; bartending; beatboxing; bee keeping; belly dancing;
bench pressing; bending back; bending metal; biking through snow; blasting sand; blowing glass;
blowing leaves; blowing nose; blowing out candles; bobsledding; bookbinding; bouncing on
trampoline; bowling; braiding hair; breading or breadcrumbing; breakdancing; brush painting;
brushing hair; brushing teeth; building cabinet; building shed; bungee jumping; busking;
canoeing or kayaking; capoeira; carrying baby; cartwheeling; carving pumpkin; catching fish;
catching or throwing baseball; catching or throwing frisbee; catching or throwing softball;
celebrating; changing oil; changing wheel; checking tires; cheerleading; chopping wood;
clapping; clay pottery making; clean and jerk; cleaning floor; cleaning gutters; cleaning pool;
cleaning shoes; cleaning toilet; cleaning windows; climbing a rope; climbing ladder; climbing
tree; contact juggling; cooking chicken; cooking egg; cooking on campfire; cooking sausages;
counting money; country line dancing; cracking neck; crawling baby; crossing river; crying;
curling hair; cutting nails; cutting pineapple; cutting watermelon; dancing ballet; dancing
charleston; dancing gangnam style; dancing macarena; deadlifting; decorating the christmas tree;
digging; dining; disc golfing; diving cliff; dodgeball; doing aerobics; doing laundry; doing
nails; drawing; dribbling basketball; drinking; drinking beer; drinking shots; driving car;
driving tractor; drop kicking; drumming fingers; dunking basketball; dying hair; eating burger;
eating cake; eating carrots; eating chips; eating doughnuts; eating hotdog; eating ice cream;
eating spaghetti; eating watermelon; egg hunting; exercising arm; exercising with an exercise
ball; extinguishing fire; faceplanting; feeding birds; feeding fish; feeding goats; filling
eyebrows; finger snapping; fixing hair; flipping pancake; flying kite; folding clothes; folding
napkins; folding paper; front raises; frying vegetables; garbage collecting; gargling; getting a
haircut; getting a tattoo; giving or receiving award; golf chipping; golf driving; golf putting;
grinding meat; grooming dog; grooming horse; gymnastics tumbling; hammer throw; headbanging;
headbutting; high jump; high kick; hitting baseball; hockey stop; holding snake; hopscotch;
hoverboarding; hugging; hula hooping; hurdling; hurling (sport); ice climbing; ice fishing; ice
skating; ironing; javelin throw; jetskiing; jogging; juggling balls; juggling fire; juggling
soccer ball; jumping into pool; jumpstyle dancing; kicking field goal; kicking soccer ball;
kissing; kitesurfing; knitting; krumping; laughing; laying bricks; long jump; lunge; making a
cake; making a sandwich; making bed; making jewelry; making pizza; making snowman; making sushi;
making tea; marching; massaging back; massaging feet; massaging legs; massaging person's head;
milking cow; mopping floor; motorcycling; moving furniture; mowing lawn; news anchoring; opening
bottle; opening present; paragliding; parasailing; parkour; passing American football (in game);
passing American football (not in game); peeling apples; peeling potatoes; petting animal (not
cat); petting cat; picking fruit; planting trees; plastering; playing accordion; playing
badminton; playing bagpipes; playing basketball; playing bass guitar; playing cards; playing
cello; playing chess; playing clarinet; playing controller; playing cricket; playing cymbals;
playing didgeridoo; playing drums; playing flute; playing guitar; playing harmonica; playing
harp; playing ice hockey; playing keyboard; playing kickball; playing monopoly; playing organ;
playing paintball; playing piano; playing poker; playing recorder; playing saxophone; playing
squash or racquetball; playing tennis; playing trombone; playing trumpet; playing ukulele;
playing violin; playing volleyball; playing xylophone; pole vault; presenting weather forecast;
pull ups; pumping fist; pumping gas; punching bag; punching person (boxing); push up; pushing
car; pushing cart; pushing wheelchair; reading book; reading newspaper; recording music; riding
a bike; riding camel; riding elephant; riding mechanical bull; riding mountain bike; riding
mule; riding or walking with horse; riding scooter; riding unicycle; ripping paper; robot
dancing; rock climbing; rock scissors paper; roller skating; running on treadmill; sailing;
salsa dancing; sanding floor; scrambling eggs; scuba diving; setting table; shaking hands;
shaking head; sharpening knives; sharpening pencil; shaving head; shaving legs; shearing sheep;
shining shoes; shooting basketball; shooting goal (soccer); shot put; shoveling snow; shredding
paper; shuffling cards; side kick; sign language interpreting; singing; situp; skateboarding;
ski jumping; skiing (not slalom or crosscountry); skiing crosscountry; skiing slalom; skipping
rope; skydiving; slacklining; slapping; sled dog racing; smoking; smoking hookah; snatch weight
lifting; sneezing; sniffing; snorkeling; snowboarding; snowkiting; snowmobiling; somersaulting;
spinning poi; spray painting; spraying; springboard diving; squat; sticking tongue out; stomping
grapes; stretching arm; stretching leg; strumming guitar; surfing crowd; surfing water; sweeping
floor; swimming backstroke; swimming breast stroke; swimming butterfly stroke; swing dancing;
swinging legs; swinging on something; sword fighting; tai chi; taking a shower; tango dancing;
tap dancing; tapping guitar; tapping pen; tasting beer; tasting food; testifying; texting;
throwing axe; throwing ball; throwing discus; tickling; tobogganing; tossing coin; tossing
salad; training dog; trapezing; trimming or shaving beard; trimming trees; triple jump; tying
bow tie; tying knot (not on a tie); tying tie; unboxing; unloading truck; using computer; using
remote controller (not gaming); using segway; vault; waiting in line; walking the dog; washing
dishes; washing feet; washing hair; washing hands; water skiing; water sliding; watering plants;
waxing back; waxing chest; waxing eyebrows; waxing legs; weaving basket; welding; whistling;
windsurfing; wrapping present; wrestling; writing; yawning; yoga; zumba
"""

KINETICS_400_CLASSES: tuple[str, ...] = tuple(
    name.strip() for name in " ".join(_NAMES_TEXT.split()).split(";")
)
"""All 400, in the order of the alphabet."""


PRETRAINING_CLASSES = {"kinetics400": KINETICS_400_CLASSES}
"""Class names that encoders were trained on with labels."""


def pretraining_overlap(split: Split, dataset: str) -> list[AuditFinding]:
    """Find the classes of a split that are also in a labelled pre-training data set.

    Args:
        split: the split.
        dataset: a key of `PRETRAINING_CLASSES`. Classes are the same if their names are, ignoring
            spelling; names that differ in articles and word endings are in the fact "alike". A
            class may be in the data under a quite different name, so no finding does not mean no
            overlap.

    Raises:
        UnknownNameError: for an unknown data set.
    """
    if dataset not in PRETRAINING_CLASSES:
        raise UnknownNameError("data set", dataset, PRETRAINING_CLASSES)
    class_keys = {normalized_class(name) for name in PRETRAINING_CLASSES[dataset]}
    name_of_stem = {stem_key(name): name for name in PRETRAINING_CLASSES[dataset]}
    findings = []
    for subset in split.subsets:
        names = split.classes(subset)
        seen_names = [name for name in names if normalized_class(name) in class_keys]
        stem_matches = {
            name: name_of_stem.get(stem_key(name)) for name in names if name not in seen_names
        }
        similar = {
            name: similar_name
            for name, similar_name in stem_matches.items()
            if similar_name is not None
        }
        if seen_names or similar:
            facts = {"subset": subset, "seen": seen_names, "alike": similar, "classes": len(names)}
            text = _overlap_sentence(subset, len(names), seen_names, similar, dataset)
            findings.append(AuditFinding("seen", subset in {"novel", "test", "val"}, text, facts))
    return findings


def _overlap_sentence(
    subset: str, n_classes: int, seen_names: list[str], similar: dict[str, str], dataset: str
) -> str:
    similar_count = (
        f"{len(similar)} more" if seen_names else f"{len(similar)} of {n_classes} {subset} classes"
    )
    clauses = []
    if seen_names:
        verb = "class has" if n_classes == 1 else "classes have"
        clauses.append(
            f"{len(seen_names)} of {n_classes} {subset} {verb} the name of a class of {dataset}"
        )
    if similar:
        clauses.append(
            f"{similar_count} but for endings of words" if seen_names else
            f"{similar_count} have the name of a class of {dataset} but for endings of words"
        )  # fmt: skip
    text = f"{', '.join(clauses)}: an encoder that was trained on it has seen them with labels"
    if len(seen_names) + len(similar) < n_classes:
        text += ", and may have seen others under another name"
    return text
