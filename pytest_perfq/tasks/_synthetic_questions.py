"""The embedded corpus: questions whose answers are spans of a short text, in the columns of SQuAD v1.1 and v2.0.

A text states a few facts of one shape each; a question asks for one part of one fact. What stays hard on purpose: two
facts about one person, texts of different lengths, and annotators who look at the wrong sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from pytest_perfq.tasks import _synthetic_words as words

# fact -> (statement, {part asked for: question}); parts are {p}erson, {o}rganisation, {l}ocation, {y}ear, {n}umber, {t}hing
FACTS: dict[str, tuple[str, dict[str, str]]] = {
    "founded": (
        "{p} founded {o} in {y} .",
        {"p": "Who founded {o} ?", "o": "What did {p} found ?", "y": "When was {o} founded ?"},
    ),
    "moved": (
        "{p} moved to {l} in {y} .",
        {"p": "Who moved to {l} ?", "l": "Where did {p} move ?", "y": "When did {p} move ?"},
    ),
    "sold": (
        "In {l} , {p} sold {n} {t} .",
        {"p": "Who sold {t} ?", "n": "How many {t} were sold ?", "l": "Where did {p} sell {t} ?"},
    ),
    "opened": (
        "{o} opened a shop in {l} .",
        {"o": "Who opened a shop in {l} ?", "l": "Where did {o} open a shop ?"},
    ),
    "born": (
        "{p} was born in {l} in {y} .",
        {"p": "Who was born in {l} ?", "l": "Where was {p} born ?", "y": "When was {p} born ?"},
    ),
}


def _parts(dice: random.Random) -> dict[str, str]:
    return {
        "p": words.person(dice), "o": words.company(dice), "l": dice.choice(words.TOWNS), "y": words.year(dice),
        "n": str(dice.randrange(3, 100)), "t": dice.choice(words.THINGS),
    }  # fmt: skip


def _text(dice: random.Random) -> tuple[str, list[tuple[str, dict[str, str], dict[str, int]]]]:
    """A text and its facts: kind, parts, and where each part starts in the text."""
    facts = []
    text = ""
    earlier: dict[str, str] | None = None
    for kind in dice.sample(sorted(FACTS), dice.choice((2, 3, 3))):
        parts = _parts(dice)
        if earlier and dice.random() < 0.25:
            parts["p"] = earlier["p"]  # one person, two facts: the question must be read to its verb
        statement = FACTS[kind][0]
        starts = {}
        for piece in statement.split(" "):
            text += " " if text else ""
            if piece.startswith("{"):
                starts[piece[1]] = len(text)
            text += piece.format(**parts)
        facts.append((kind, parts, starts))
        earlier = parts
    return text, facts


def _golds(part: str, gold: str, start: int, evaluation: bool) -> dict[str, list[Any]]:
    """The span itself; in evaluation splits people are also known by their last names, as annotators write them."""
    text, starts = [gold], [start]
    if evaluation and part == "p":
        last = gold.rpartition(" ")[2]
        text.append(last)
        starts.append(start + len(gold) - len(last))
    return {"text": text, "answer_start": starts}


def _question(dice: random.Random, index: int, split: str) -> dict[str, Any]:
    text, facts = _text(dice)
    kind, parts, starts = dice.choice(facts)
    part = dice.choice(sorted(FACTS[kind][1]))
    answers = _golds(part, parts[part], starts[part], split != "train")
    others = [one for one in facts if part in one[2] and one[0] != kind]
    if others and dice.random() < 0.04:  # an annotator who looked at the wrong sentence
        wrong = dice.choice(others)
        answers = _golds(part, wrong[1][part], wrong[2][part], split != "train")
    question = FACTS[kind][1][part].format(**parts)
    return {"id": f"{split}-{index}", "title": "Almanac", "context": text, "question": question, "answers": answers}


def squad(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """Columns id, title, context, question, answers {text, answer_start}."""
    return [_question(dice, index, split) for index in range(count)]


def squad_v2(dice: random.Random, count: int, split: str) -> list[dict[str, Any]]:
    """The same, a third of them asking for what their text does not state: no answers."""
    rows = squad(dice, count, split)
    for row in rows:
        if dice.random() < 1 / 3:
            missing = [kind for kind in sorted(FACTS) if _marker(kind) not in row["context"]]
            kind = dice.choice(missing)
            row["question"] = FACTS[kind][1][dice.choice(sorted(FACTS[kind][1]))].format(**_parts(dice))
            row["answers"] = {"text": [], "answer_start": []}
    return rows


def _marker(kind: str) -> str:
    """The verb that tells a fact's kind in a text."""
    return f" {kind} "


MAKERS: dict[str, Callable[[random.Random, int, str], list[dict[str, Any]]]] = {"squad": squad, "squad_v2": squad_v2}
