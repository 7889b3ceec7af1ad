"""The embedded corpus: sentences with a label, in the columns of SST-2, MRPC and CoLA.

What stays hard on purpose: praise and blame in one sentence, negation, paraphrases that change several words, non-paraphrases
that change one, and annotators who err.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pytest_perfq.tasks import _synthetic_words as words

LABELS = {
    "sst2": ("negative", "positive"),
    "mrpc": ("not_equivalent", "equivalent"),
    "cola": ("unacceptable", "acceptable"),
}
_SLIP = 0.03  # share of labels that an annotator got wrong


def _noisy(dice: random.Random, label: int) -> int:
    return 1 - label if dice.random() < _SLIP else label


def _quality(dice: random.Random, good: bool) -> str:
    """An adjective phrase of that sign; one in six says it by negating the opposite."""
    if dice.random() < 1 / 6:
        return f"never {dice.choice(words.BAD if good else words.GOOD)}"
    degree = f"{dice.choice(words.DEGREES)} " if dice.random() < 0.3 else ""
    return degree + dice.choice(words.GOOD if good else words.BAD)


def _mixed(dice: random.Random) -> tuple[str, int]:
    """Praise and blame side by side. The stronger word decides, and between equals nobody could know. A word's strength,
    one to three, goes by its place in its list."""
    good, bad = dice.randrange(len(words.GOOD)), dice.randrange(len(words.BAD))
    weight = good % 3 - bad % 3
    label = int(weight > 0) if weight else dice.randrange(2)
    part, other = dice.sample(words.PARTS, 2)
    pair = [f"{words.GOOD[good]} {part}", f"{words.BAD[bad]} {other}"]
    dice.shuffle(pair)
    return f"{pair[0]} and {pair[1]}", label


def _review(dice: random.Random) -> tuple[str, int]:
    if dice.random() < 0.25:
        return _mixed(dice)
    label = dice.randrange(2)
    subject, part, other = dice.choice(words.SUBJECTS), *dice.sample(words.PARTS, 2)
    main, against = _quality(dice, label == 1), _quality(dice, label == 0)
    shapes = (
        f"a {main} {subject} with {_quality(dice, label == 1)} {part}",
        f"the {part} is {main} and the {other} is {dice.choice(words.VAGUE)}",
        f"{main} from start to finish",
        f"the {subject} has a {dice.choice(words.VAGUE)} {part} but feels {main}",
        f"although the {part} is {against} , the {subject} is {main}",
        f"the {part} is {against} but the {subject} is {main} in the end",
        f"what a {main} {dice.choice(words.VAGUE)} {subject}",
        f"{dice.choice(words.VAGUE)} {part} , {main} {other}",
    )
    return dice.choice(shapes), label


def sst2(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """Columns sentence, label, idx."""
    reviews = [_review(dice) for _ in range(count)]
    return [{"sentence": text, "label": _noisy(dice, label), "idx": index} for index, (text, label) in enumerate(reviews)]


def _clause(dice: random.Random) -> dict[str, str]:
    noun, verb = dice.choice(sorted(words.PLURALS)), dice.choice(sorted(words.VERBS))
    return {
        "noun": noun, "verb": words.VERBS[verb][1], "adjective": dice.choice(sorted(words.ADJECTIVES)),
        "object": dice.choice(words.OBJECTS), "place": dice.choice(sorted(words.PLACES)),
    }  # fmt: skip


def _say(clause: dict[str, str], passive: bool) -> str:
    noun, thing = f"the {clause['noun']}", f"the {clause['adjective']} {clause['object']}"
    if passive:
        return f"{thing} was {clause['verb']} by {noun} {clause['place']} ."
    return f"{noun} {clause['verb']} {thing} {clause['place']} ."


_SAME = {
    "verb": {past: synonym for _, past, synonym in words.VERBS.values()},
    "adjective": words.ADJECTIVES,
    "place": words.PLACES,
}


def _pair(dice: random.Random) -> tuple[str, str, int]:
    first = _clause(dice)
    second = {**first}
    for slot, same in _SAME.items():
        if dice.random() < 0.5:
            second[slot] = same[first[slot]]
    label = dice.randrange(2)
    if label == 0:  # another clause's noun and object, and now and then its verb: who did it to what differs
        other = _clause(dice)
        while other["noun"] == first["noun"] or other["object"] == first["object"]:
            other = _clause(dice)
        changed = dice.choice((("noun",), ("object",), ("noun", "object"), ("noun", "object", "verb")))
        second |= {slot: other[slot] for slot in changed}
    return _say(first, False), _say(second, dice.random() < 0.3), label


def mrpc(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """Columns sentence1, sentence2, label, idx."""
    pairs = [_pair(dice) for _ in range(count)]
    return [
        {"sentence1": one, "sentence2": two, "label": _noisy(dice, label), "idx": index}
        for index, (one, two, label) in enumerate(pairs)
    ]


def _judged(dice: random.Random) -> tuple[str, int]:
    """A sentence, and whether it keeps to agreement, word order and completeness."""
    noun, verb = dice.choice(sorted(words.PLURALS)), dice.choice(sorted(words.VERBS))
    plural, label = dice.random() < 0.5, dice.randrange(2)
    subject = words.PLURALS[noun] if plural else noun
    adjective, thing, place = (
        dice.choice(sorted(words.ADJECTIVES)),
        dice.choice(words.OBJECTS),
        dice.choice(sorted(words.PLACES)),
    )
    fault = None if label else dice.choice(("agreement", "order", "missing", "article"))
    spoken = verb if plural != (fault == "agreement") else words.VERBS[verb][0]
    described = f"{thing} {adjective}" if fault == "order" else f"{adjective} {thing}"
    determiner = ("those" if not plural else "this") if fault == "article" else ("those" if plural else "this")
    middle = "" if fault == "missing" else f" the {described}"
    where = f" {place}" if dice.random() < 0.6 else ""
    return f"{determiner} {subject} {spoken}{middle}{where} .", label


def cola(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """Columns sentence, label, idx."""
    judged = [_judged(dice) for _ in range(count)]
    return [{"sentence": text, "label": _noisy(dice, label), "idx": index} for index, (text, label) in enumerate(judged)]


MAKERS: dict[str, Callable[[random.Random, int, str], list[dict[str, Any]]]] = {"sst2": sst2, "mrpc": mrpc, "cola": cola}
