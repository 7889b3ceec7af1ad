"""The word lists of the embedded corpus and the invention of names. Knows no task and no sentence.

Everything here is written for this project: names are put together from syllables, so that no text of others is carried.
"""

from __future__ import annotations

import random

FEMALE = "Ada Berta Carla Dora Edda Fenna Gerda Hilda Ilka Jana Kirsa Lena Marta Nella Olga Petra Rosa Selma Tilda Vera".split()
MALE = "Arno Bodo Curt Dirk Egon Falk Gero Hanno Ivo Jost Kuno Lars Max Nils Otto Piet Ralf Sven Timo Udo".split()
STARTS = (
    "Bar Bel Bran Cor Dal Dor Fal Fen Gal Gren Hal Har Kel Kor Lan Mal Mar Mor Nor Pel Quen Ral Ros San Sel Tal Tor Ver Wal Zan"
).split()
PERSON_ENDS = "wick man sen ling der ström itz low bek ner".split()
PLACE_ENDS = "burg stad ford ton mouth holm port dale".split()
SECTORS = "Bank Motors Press Foods Airlines Steel Textiles Labs United Insurance".split()
THINGS = "boats lamps maps clocks horses books tents bells carpets engines".split()
SUBJECTS = "film play novel show concert story album script series picture".split()
PARTS = "plot cast music ending dialogue pacing acting camera humor mood".split()
GOOD = (
    "warm funny moving clever tender bright graceful gripping charming honest superb witty delightful fresh lively "
    "stirring touching brilliant enjoyable inspired elegant rich thoughtful vivid wonderful absorbing bold sincere"
).split()
BAD = (
    "dull clumsy stale tedious noisy bland shallow hollow lazy grim tired awkward boring messy pointless flat cold "
    "dreary weak silly forced muddled annoying predictable empty lifeless cheap sloppy"
).split()
VAGUE = "long quiet strange slow loud dark simple odd familiar small".split()
DEGREES = "rather very quite truly often mostly really fairly".split()
PLURALS = {
    "dog": "dogs", "teacher": "teachers", "neighbor": "neighbors", "farmer": "farmers", "doctor": "doctors",
    "child": "children", "sailor": "sailors", "writer": "writers", "judge": "judges", "singer": "singers",
    "baker": "bakers", "guest": "guests",
}  # fmt: skip
# base form -> (third person, past, synonym in the past)
VERBS = {
    "paint": ("paints", "painted", "coloured"), "repair": ("repairs", "repaired", "fixed"),
    "buy": ("buys", "bought", "purchased"), "carry": ("carries", "carried", "hauled"),
    "watch": ("watches", "watched", "observed"), "clean": ("cleans", "cleaned", "washed"),
    "sell": ("sells", "sold", "traded"), "open": ("opens", "opened", "unlocked"), "hide": ("hides", "hid", "concealed"),
    "find": ("finds", "found", "discovered"), "build": ("builds", "built", "assembled"),
    "break": ("breaks", "broke", "smashed"),
}  # fmt: skip
OBJECTS = "fence table bicycle window kitchen cart letter wagon mirror ladder cabinet basket".split()
# adjective -> a word that means the same
ADJECTIVES = {
    "old": "ancient", "big": "large", "small": "little", "new": "modern", "broken": "damaged", "pretty": "beautiful",
    "heavy": "weighty", "wet": "damp", "costly": "expensive", "narrow": "thin",
}  # fmt: skip
PLACES = {
    "near the river": "close to the river", "behind the church": "at the back of the church", "in the garden": "in the yard",
    "at the market": "on the market square", "before noon": "in the morning", "after the storm": "when the storm was over",
}  # fmt: skip


def _invented(ends: list[str], count: int, seed: int) -> list[str]:
    every = [start + end for start in STARTS for end in ends]
    random.Random(seed).shuffle(every)
    return every[:count]


SURNAMES = _invented(PERSON_ENDS, 140, seed=1)
TOWNS = _invented(PLACE_ENDS, 120, seed=2)
COUNTRIES = [f"{start}{end}" for start, end in zip(STARTS, ["ia", "land", "ania"] * 10, strict=True)]
PEOPLES = [country.removesuffix("ia").removesuffix("land").removesuffix("an") + "ese" for country in COUNTRIES]


def person(dice: random.Random) -> str:
    """First and last name."""
    return f"{dice.choice(FEMALE + MALE)} {dice.choice(SURNAMES)}"


def company(dice: random.Random) -> str:
    """A name on a surname or a town and a sector: `Torwick Bank`. The overlap with people and towns is meant."""
    return f"{dice.choice(SURNAMES if dice.random() < 0.6 else TOWNS)} {dice.choice(SECTORS)}"


def year(dice: random.Random) -> str:
    return str(dice.randrange(1950, 2010))
