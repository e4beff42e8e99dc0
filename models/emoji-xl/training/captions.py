"""Data set index, concept split and caption sampling for emoji-xl.

A record is one image of the data set. A concept is the CLDR name without its skin-tone suffix, so
that all skin-tone variants of an emoji fall on the same side of the split.
"""

import csv
import dataclasses
import hashlib
import random
import re

# Background colours (name -> sRGB). White is the default and need not be named in a caption.
BACKGROUNDS = {
    "white": (255, 255, 255),
    "black": (16, 16, 18),
    "gray": (136, 138, 142),
    "red": (208, 48, 48),
    "orange": (240, 140, 40),
    "yellow": (250, 214, 70),
    "green": (60, 160, 84),
    "teal": (40, 160, 160),
    "blue": (56, 104, 214),
    "purple": (132, 72, 190),
    "pink": (246, 150, 190),
    "brown": (122, 82, 54),
}
# Tints used to recolour whole objects ("a blue cat"): name -> (shadow, middle, highlight) sRGB.
TINTS = {
    "red": ((70, 4, 10), (214, 40, 44), (255, 214, 206)),
    "orange": ((84, 32, 0), (240, 132, 28), (255, 232, 200)),
    "yellow": ((92, 64, 0), (246, 206, 50), (255, 250, 216)),
    "green": ((4, 50, 20), (58, 168, 76), (214, 246, 212)),
    "blue": ((6, 22, 84), (48, 110, 226), (208, 230, 255)),
    "purple": ((38, 8, 76), (136, 70, 204), (236, 216, 255)),
    "pink": ((92, 14, 56), (244, 120, 178), (255, 226, 240)),
    "gray": ((24, 25, 28), (138, 140, 146), (240, 241, 244)),
}
COLOUR_WORDS = set(BACKGROUNDS) | set(TINTS) | {"grey", "gold", "golden", "silver", "dark", "light", "colour"}

# Concepts that documentation and tests name; they always stay in the training part.
SHOWCASE = {
    "red apple", "cat", "cat face", "dog", "dog face", "pizza", "rocket", "sunglasses", "hamburger",
    "red heart", "tree", "evergreen tree", "sunflower", "automobile", "bicycle", "guitar", "crown",
    "ghost", "robot", "unicorn", "octopus", "panda", "penguin", "strawberry", "cactus", "house",
    "airplane", "sailboat", "umbrella", "fire", "star", "full moon", "soccer ball", "birthday cake",
    "doughnut", "avocado", "fox", "frog", "owl", "butterfly", "castle", "snowman", "rainbow",
    "smiling face with sunglasses", "grinning face", "face with tears of joy", "hot beverage",
    "light bulb", "mushroom", "turtle", "whale", "dolphin", "balloon", "wrapped gift", "key",
}
HELD_OUT_PERCENT = 4


@dataclasses.dataclass
class Record:
    index: int
    file: str
    name: str
    concept: str
    keywords: list
    group: str
    variant: bool
    held_out: bool


def concept_of(name):
    return re.sub(r": (light|medium-light|medium|medium-dark|dark) skin tone.*$", "", name)


def is_held_out(concept):
    if concept.lower() in SHOWCASE:
        return False
    digest = hashlib.sha256(concept.encode()).digest()
    return int.from_bytes(digest[:4], "little") % 100 < HELD_OUT_PERCENT


def load_records(path):
    records = []
    with open(path, encoding="utf-8", newline="") as f:
        for row in csv.DictReader(f, delimiter="\t", quoting=csv.QUOTE_NONE):
            variant = row["skin_tone_variant"] == "1"
            concept = concept_of(row["name"]) if variant else row["name"]
            keywords = [k.strip() for k in row["keywords"].split(",") if k.strip()]
            records.append(Record(len(records), row["file"], row["name"], concept, keywords,
                                  row["group"], variant, is_held_out(concept)))
    return records


def _article(phrase):
    return ("an " if phrase[:1].lower() in "aeiou" else "a ") + phrase


def is_tintable(record):
    words = set(re.findall(r"[a-z]+", record.name.lower()))
    return (not record.variant and not words & COLOUR_WORDS
            and record.group in ("animals and nature", "food and drink", "objects",
                                 "travel and places", "activities", "smileys"))


def subject_phrase(record, rng):
    """The words that say what is in the picture."""
    name = record.name
    kind = rng.random()
    if kind < 0.55:
        return name
    if kind < 0.70:
        return _article(name)
    if kind < 0.80:
        return f"{name} emoji"
    kws = [k for k in record.keywords if k.lower() not in name.lower()]
    rng.shuffle(kws)
    kws = kws[: rng.randint(1, 4)]
    if kind < 0.96 or len(record.keywords) < 3:
        parts = [name, *kws]
        if rng.random() < 0.4:
            parts.append(record.group)
        return ", ".join(parts)
    order = record.keywords[:]
    rng.shuffle(order)
    return ", ".join(order[:6])


def caption(record, rng, background="white", tint=None):
    """One caption of a picture of `record` on `background`, recoloured to `tint` when given."""
    if tint is not None:
        base = rng.choice([f"{tint} {record.name}", _article(f"{tint} {record.name}"),
                           f"{tint} {record.name} emoji", f"{record.name} in {tint}"])
    else:
        base = subject_phrase(record, rng)
    style = rng.random()
    if style < 0.12:
        base = f"{base}, 3d emoji"
    elif style < 0.18:
        base = f"a 3d emoji of {base}"
    elif style < 0.22:
        base = f"3d render of {base}"
    if background != "white":
        base = rng.choice([f"{base} on a {background} background", f"{base}, {background} background",
                           f"{base} on {background}"])
    elif rng.random() < 0.06:
        base = rng.choice([f"{base} on a white background", f"{base}, white background"])
    return base.lower() if rng.random() < 0.3 else base


def corpus_lines(records, repeats, seed=0):
    """Captions for the tokenizer: every record `repeats` times with varied wording."""
    rng = random.Random(seed)
    colours = list(BACKGROUNDS)
    for record in records:
        for _ in range(repeats):
            tint = rng.choice(list(TINTS)) if is_tintable(record) and rng.random() < 0.05 else None
            yield caption(record, rng, rng.choice(colours) if rng.random() < 0.3 else "white", tint)
