"""Packing keeps every bit and little space."""

import random

import numpy as np
from generated import VISITS, outcomes
from hypothesis import given
from making import accuracy, latency

from pytest_perfq.core import packing
from pytest_perfq.core.measurement import Outcomes, Samples, Visit


@given(VISITS)
def test_visits_come_back_exactly(visits):
    assert packing.unpack_visits(packing.pack_visits(visits)) == visits


@given(outcomes())
def test_outcomes_come_back_exactly(found):
    ids = packing.unpack_texts(packing.pack_texts(found.ids))
    assert packing.unpack_outcomes(packing.pack_outcomes(found), ids) == found


def test_the_sign_of_zero_and_infinities_survive():
    found = Outcomes(("a", "b", "c"), ("", "", ""), (-0.0, float("inf"), 0.0), {"right": (0.0, 1.0, 1.0)})
    back = packing.unpack_outcomes(packing.pack_outcomes(found), found.ids)
    assert [str(one) for one in back.margins] == ["-0.0", "inf", "0.0"]


def test_a_thousand_outcomes_take_a_few_kilobytes():
    dice = random.Random(1)
    ids = tuple(f"{dice.getrandbits(96):024x}" for _ in range(1000))
    margins = tuple(float(np.float16(dice.uniform(0, 12))) for _ in ids)
    right = tuple(float(dice.random() < 0.85) for _ in ids)
    words = [f"the answer {dice.randrange(400)}" for _ in ids]
    found = Outcomes(ids, tuple(words), margins, {"right": right, "f1": tuple(dice.choice([0.0, 0.5, 1.0]) for _ in ids)})
    assert len(packing.pack_outcomes(found)) < 8_000
    assert len(packing.pack_texts(ids)) < 16_000


def test_samples_of_three_visits_take_a_few_kilobytes():
    assert len(packing.pack_visits(latency(rounds=60).visits)) < 3_000


def test_the_same_content_has_the_same_bytes():
    found = accuracy([1, 0, 1]).outcomes
    again = accuracy([1, 0, 1]).outcomes
    assert packing.digest(packing.pack_outcomes(found)) == packing.digest(packing.pack_outcomes(again))
    assert packing.digest(packing.pack_outcomes(found)) != packing.digest(packing.pack_outcomes(accuracy([1, 1, 1]).outcomes))


def test_visits_packed_before_a_side_was_known_are_read(monkeypatch):
    samples = Samples((1, 2, 3), (9,), 1.5)
    monkeypatch.setattr(packing, "SIDES", ("case", "original", "anchor"))
    packed = packing.pack_visits([Visit(samples, samples, None)])
    monkeypatch.undo()
    assert packing.unpack_visits(packed) == (Visit(samples, samples, None, None),)


def test_a_side_by_side_visit_keeps_its_base():
    visit = Visit(Samples((1, 2), (9,), 1.5), base=Samples((3, 4), (), 1.5))
    assert packing.unpack_visits(packing.pack_visits([visit])) == (visit,)
