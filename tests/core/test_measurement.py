import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, precision_score

from pytest_perfq.core import scores
from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Samples, Score, Visit
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import UnknownName

LABELS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(LABELS)
def test_formulas_agree_with_scikit_learn(pairs):
    true, predicted = map(np.array, zip(*pairs, strict=True))
    table = {
        "right": true == predicted, "tp": (true & predicted), "tn": (1 - true) & (1 - predicted), "fp": (1 - true) & predicted,
        "fn": true & (1 - predicted), "positive": true, "called": predicted,
    }  # fmt: skip
    assert scores.score("mean:right", table) == pytest.approx(accuracy_score(true, predicted), abs=1e-12)
    assert scores.score("ratio:tp/called", table) == pytest.approx(
        precision_score(true, predicted, zero_division=0.0), abs=1e-12
    )
    assert scores.score("f1:tp/called/positive", table) == pytest.approx(
        f1_score(true, predicted, zero_division=0.0), abs=1e-12
    )
    assert scores.score("matthews:tp/tn/fp/fn", table) == pytest.approx(matthews_corrcoef(true, predicted), abs=1e-12)


def test_formulas_take_many_sums_at_once():
    sums = {"tp": np.array([3.0, 0.0]), "called": np.array([4.0, 0.0]), "positive": np.array([5.0, 0.0])}
    np.testing.assert_allclose(scores.apply("f1:tp/called/positive", sums, 10), [6 / 9, 0.0])


def test_an_unknown_formula_is_named():
    with pytest.raises(UnknownName, match="unknown formula 'median'"):
        scores.apply("median:right", {"right": 1.0}, 1)


def test_a_measurement_survives_json():
    case = Case(task=Spec("t"), dataset="d", model="m", model_name="m", backend=Spec("ort"), batch_size=1, seq_len=8)
    samples = Samples((5, 6, 7), (90,), 1.5)
    outcomes = Outcomes(("a", "b"), ("x", "y"), (0.5, -1.25), {"right": (1.0, 0.0)})
    measurement = Measurement(
        case=case, fingerprint=Fingerprint({"cpu": "c"}, {"torch": "2"}, {"load": 0.5}), visits=(Visit(samples, None, samples), Visit(samples)),
        scores=(Score("f1", 0.5, 2, "mean:f1", True), Score("em", 0.25, 2)), outcomes=outcomes, original_scores=(Score("f1", 0.75, 2, "mean:f1", True),),
        original_outcomes=outcomes, model_bytes=10, peak_memory_bytes=20, load_ns=30, first_call_ns=40, facts={"provider": "CPU", "share": 0.5},
        churn={"n": 2, "flips": 0, "margin_noise": 0.0}, unmeasured=None,
    )  # fmt: skip
    back = Measurement.from_json(json.loads(json.dumps(measurement.to_json())))
    assert back == measurement
    assert back.score().metric == "f1" and back.score("em").value == 0.25 and back.score(original=True).value == 0.75
    assert back.score("other") is None
    assert (
        back.durations_ns() == [5, 6, 7, 5, 6, 7]
        and back.durations_ns("anchor") == [5, 6, 7]
        and back.durations_ns("original") == []
    )


def test_the_volatile_tier_is_no_key():
    one, other = Fingerprint({"cpu": "c"}, {"torch": "2"}, {"load": 1}), Fingerprint({"cpu": "c"}, {"torch": "3"}, {"load": 2})
    assert one.key == other.key and len(one.key) == 12
    assert one.differences(other, "identity") == {} and one.differences(other, "stack") == {"torch": ("2", "3")}
    assert one.key != Fingerprint({"cpu": "d"}).key
