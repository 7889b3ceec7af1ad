"""The embedded corpus: sentences with named entities, in the columns of CoNLL-2003.

What stays hard on purpose: surnames that are also companies' names, towns that stand for their teams, sentences that say
too little to tell, and annotators who err.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pytest_perfq.tasks import _synthetic_words as words

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
# {P} a person, {S} a surname alone, {O} a company, {N} a company by its short name, {T} a team by its town, {L} a place,
# {M} a people
SENTENCES = (
    "{P} met the head of {O} in {L} on Monday .",
    "{S} said that {O} would close its office in {L} .",
    "Shares of {N} fell after {P} left the company .",
    "The {M} minister {P} arrived in {L} .",
    "{T} beat {T} 3 - 1 in the final .",
    "{L} and {L} signed a new treaty .",
    "{P} , a {M} writer , lives near {L} .",
    "{O} bought the {M} company {O} last year .",
    "{N} was not available for comment .",
    "{S} was not available for comment .",
    "Officials from {L} praised {S} and {P} .",
    "{P} plays for {T} this season .",
    "The road from {L} to {L} is closed .",
    "{M} farmers protested against {O} in {L} .",
    "Nobody at {N} knew why {S} had resigned .",
    "Rain is expected in {L} and in the hills .",
    "The company gave no reason for the delay .",
    "{O} named {P} as its new director .",
    "{S} visited {L} with a {M} delegation .",
    "Talks between {N} and {O} broke down .",
)  # fmt: skip
KINDS = {"P": "PER", "S": "PER", "O": "ORG", "N": "ORG", "T": "ORG", "L": "LOC", "M": "MISC"}


def _entity(slot: str, dice: random.Random) -> str:
    if slot == "P":
        return words.person(dice)
    if slot in "SN":  # the same names, a person in one sentence and a company in another
        return dice.choice(words.SURNAMES)
    if slot == "O":
        return words.company(dice)
    if slot == "M":
        return dice.choice(words.PEOPLES)
    return dice.choice(words.TOWNS if dice.random() < 0.8 or slot == "T" else words.COUNTRIES)


def _sentence(dice: random.Random) -> tuple[list[str], list[int]]:
    tokens: list[str] = []
    tags: list[int] = []
    for piece in dice.choice(SENTENCES).split(" "):
        if not piece.startswith("{"):
            tokens.append(piece)
            tags.append(0)
            continue
        kind = KINDS[piece[1]]
        if dice.random() < 0.02:  # an annotator's slip
            kind = dice.choice(("PER", "ORG", "LOC", "MISC"))
        parts = _entity(piece[1], dice).split(" ")
        tokens += parts
        tags += [TAGS.index(f"B-{kind}")] + [TAGS.index(f"I-{kind}")] * (len(parts) - 1)
    return tokens, tags


def conll2003(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """Columns id, tokens, ner_tags (indices into TAGS)."""
    rows = []
    for index in range(count):
        tokens, tags = _sentence(dice)
        rows.append({"id": f"{split}-{index}", "tokens": tokens, "ner_tags": tags})
    return rows


MAKERS: dict[str, Callable[[random.Random, int, str], list[dict[str, Any]]]] = {"conll2003": conll2003}
