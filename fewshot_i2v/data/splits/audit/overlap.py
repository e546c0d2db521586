"""What two splits have in common: classes and clips, whatever their spelling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fewshot_i2v.data.splits.audit.finding import Finding
from fewshot_i2v.data.splits.matching.name_normalization import (
    by_folder,
    class_key,
    listing,
    same_clip,
    word_key,
)
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import UnknownNameError

_TESTED = frozenset(("novel", "test"))


def compare_splits(a: Split, b: Split) -> list[Finding]:
    """What two splits have in common: classes and clips by subset, whatever their spelling.

    Returns:
        One finding for each pair of subsets that share classes or clips. It is grave where what is
        novel or tested in one is there to learn from or to choose with in the other.
    """
    common = _common_clips(a, b)
    found = []
    for one in a.subsets:
        keys = {class_key(name) for name in a.classes(one)}
        for other in b.subsets:
            classes = [name for name in b.classes(other) if class_key(name) in keys]
            clips = common.get((one, other), 0)
            if classes or clips:
                found.append(_overlap(a, one, b, other, classes, clips))
    return sorted(found, key=lambda finding: not finding.grave)


def _common_clips(a: Split, b: Split) -> Mapping[tuple[str, str], int]:
    """By subset of each, how many clips of the first are in the second too."""
    if not _comparable(a, b):
        return {}
    youtube = "youtube" in (a.find, b.find)
    mine, yours = (listing(split, youtube=youtube) for split in (a, b))
    common: dict[tuple[str, str], int] = defaultdict(int)
    for key in mine.keys() & yours.keys():
        alone = len(mine[key]) == len(yours[key]) == 1
        near = by_folder(yours[key])
        for clip in mine[key]:
            others = yours[key] if clip.video or alone else near.get(clip.place[-1:], ())
            for subset in {y.subset for y in others if same_clip(clip, y, alone=alone)}:
                common[clip.subset, subset] += 1
    return common


def _comparable(a: Split, b: Split) -> bool:
    """Whether equal names mean equal clips: of generated ones only where they are made alike."""
    if a.generator is None or b.generator is None:
        return a.generator is b.generator
    return replace(a.generator, clips=0) == replace(b.generator, clips=0)


def _overlap(a: Split, one: str, b: Split, other: str, classes: list[str], clips: int) -> Finding:
    grave = (one in _TESTED) != (other in _TESTED)
    sizes = [sum(map(len, split.subsets[s].values())) for split, s in ((a, one), (b, other))]
    text = (
        f"{a.name} {one} and {b.name} {other}: {len(classes)} common "
        f"{'class' if len(classes) == 1 else 'classes'}, {clips:,} common "
        f"{'clip' if clips == 1 else 'clips'} (of {sizes[0]:,} and {sizes[1]:,})"
    )
    if grave:
        judge, learn = (a, b) if one in _TESTED else (b, a)
        text += f"; a choice or checkpoint made on {learn.name} is not clean on {judge.name}"
    facts = {"a": one, "b": other, "classes": classes, "clips": clips}
    return Finding("same class", grave, text, facts)


_TEXT = """
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

KINETICS_400: tuple[str, ...] = tuple(name.strip() for name in " ".join(_TEXT.split()).split(";"))
"""All 400, in the order of the alphabet."""


SEEN_BY = {"kinetics400": KINETICS_400}
"""Class names that encoders were trained on with labels."""


def seen_by(split: Split, what: str) -> list[Finding]:
    """Which classes an encoder has seen that was trained with labels on a data set.

    Args:
        split: the split.
        what: a name of `SEEN_BY`. Classes are the same where their names are, apart from spelling;
            names that differ in articles and endings of words are given beside them, in the fact
            "alike". A class may have been seen under quite another name, so nothing found does not
            mean nothing seen.

    Raises:
        UnknownNameError: for a data set that is not known.
    """
    if what not in SEEN_BY:
        raise UnknownNameError("data set", what, SEEN_BY)
    known = {class_key(name) for name in SEEN_BY[what]}
    words = {word_key(name): name for name in SEEN_BY[what]}
    found = []
    for subset in split.subsets:
        names = split.classes(subset)
        seen = [name for name in names if class_key(name) in known]
        rest = {name: words.get(word_key(name)) for name in names if name not in seen}
        alike = {name: other for name, other in rest.items() if other is not None}
        if seen or alike:
            facts = {"subset": subset, "seen": seen, "alike": alike, "classes": len(names)}
            text = _text(subset, len(names), seen, alike, what)
            found.append(Finding("seen", subset in {"novel", "test", "val"}, text, facts))
    return found


def _text(subset: str, classes: int, seen: list[str], alike: dict[str, str], what: str) -> str:
    also = f"{len(alike)} more" if seen else f"{len(alike)} of {classes} {subset} classes"
    parts = []
    if seen:
        have = "class has" if classes == 1 else "classes have"
        parts.append(f"{len(seen)} of {classes} {subset} {have} the name of a class of {what}")
    if alike:
        parts.append(
            f"{also} but for endings of words" if seen else
            f"{also} have the name of a class of {what} but for endings of words"
        )  # fmt: skip
    text = f"{', '.join(parts)}: an encoder that was trained on it has seen them with labels"
    if len(seen) + len(alike) < classes:
        text += ", and may have seen others under another name"
    return text
