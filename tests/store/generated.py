"""Measurements as hypothesis makes them: every field, and numbers that do not fit small types."""

from hypothesis import strategies as st
from making import case

from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Samples, Score, Visit

TEXT = st.text(max_size=8)
NUMBER = st.floats(allow_nan=False)
FACTS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers(-(2**40), 2**40) | NUMBER | TEXT, max_size=3)
SAMPLES = st.builds(
    Samples,
    st.lists(st.integers(0, 2**62) | st.integers(0, 10**7), min_size=1, max_size=6).map(tuple),
    st.lists(st.integers(0, 10**7), max_size=3).map(tuple),
    st.floats(0, 2e9),
)
VISITS = st.lists(st.builds(Visit, SAMPLES, st.none() | SAMPLES, st.none() | SAMPLES), max_size=3).map(tuple)
SCORES = st.lists(
    st.builds(Score, TEXT, NUMBER, st.integers(0, 10**6), st.none() | st.just("mean:right"), st.booleans()), max_size=2
).map(tuple)


@st.composite
def outcomes(draw):
    ids = draw(st.lists(TEXT, max_size=5, unique=True).map(tuple))

    def column(values):
        return st.lists(values, min_size=len(ids), max_size=len(ids)).map(tuple)

    columns = draw(st.dictionaries(TEXT.filter(bool), column(NUMBER), max_size=2))
    columns["right"] = draw(column(st.sampled_from([0.0, 1.0])))
    return Outcomes(ids, draw(column(TEXT)), draw(column(NUMBER | st.floats(width=16, allow_nan=False))), columns)


SIZE = st.none() | st.integers(0, 2**50)
MEASUREMENTS = st.builds(
    Measurement,
    case=st.builds(lambda number, kind: case(number, kind=kind), st.integers(0, 50), st.sampled_from(["latency", "accuracy"])),
    fingerprint=st.builds(Fingerprint, FACTS, FACTS, FACTS),
    visits=VISITS,
    scores=SCORES,
    outcomes=st.none() | outcomes(),
    original_scores=SCORES,
    original_outcomes=st.none() | outcomes(),
    model_bytes=SIZE,
    original_bytes=SIZE,
    peak_memory_bytes=SIZE,
    load_ns=SIZE,
    first_call_ns=SIZE,
    facts=st.dictionaries(TEXT, st.booleans() | st.integers(-(2**40), 2**40) | NUMBER | TEXT, max_size=3),
    churn=st.none() | st.just({"n": 3, "flips": 0, "margin_noise": 0.5}),
    unmeasured=st.none() | TEXT,
)
