"""What a model card says beside its figures: when and on what, and of each row whether it passed."""

from dataclasses import replace

from making import MACHINE, accuracy, case, latency

from pytest_perfq.core.budget import Limit
from pytest_perfq.core.conditions import Conditions, CpuConditions
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import summarize
from pytest_perfq.core.verdict import broken, judge
from pytest_perfq.report.markdown import model_card

WHEN = "2026-11-24 10:00"


def rows_of(text):
    """The cells of every row, by their column."""
    found, titles = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else []
        if line.startswith("| program "):
            titles = cells
        elif cells and not cells[0].startswith(":-"):
            found.append(dict(zip(titles, cells, strict=True)))
    return found


def test_a_row_says_whether_it_passed_and_what_has_no_figures_has_a_row():
    limits = (Limit("p95_ms", 6.0, None, "budget 1"), Limit("max_drop", 0.01, None, "budget 2"))
    nothing = Measurement(case=case(3), fingerprint=MACHINE, unmeasured="it crashed")
    measured = [accuracy([1] * 75 + [0] * 25, [1] * 100), latency(0, rounds=60), latency(1, rounds=60, ms=12.0)]
    found = [(one, judge(one, limits)) for one in measured] + [(nothing, broken(case(3), "it crashed"))]
    text = model_card(found, WHEN)
    assert [row["status"] for row in rows_of(text)] == ["fail", "pass", "fail", "fail"]
    assert "\n4 cases: 1 pass, 3 fail.\n" in text
    assert set(rows_of(text)[-1].values()) == {"`ort@cpu int8-dynamic[Add,MatMul]`", "", "fail"}


def test_it_says_when_it_was_measured_and_on_which_machines():
    named = Fingerprint({"cpu": "Test CPU 9000", "gpu": "Tesla T4", "threads": 4})
    found = [(one, judge(one, ())) for one in (latency(0), latency(1), latency(2, machine=named))]
    assert model_card(found, WHEN).startswith(
        f"Measured on {WHEN} on 1 thread (machine {MACHINE.key}); "
        f"Tesla T4, Test CPU 9000, 4 threads (machine {named.key}).\n\n3 cases: "
    )


def test_what_is_invalid_has_no_figures():
    timed = latency(0, rounds=60)
    conditions = Conditions(duration_s=5.0, readings=21, cpu=CpuConditions(cpus=2, threads=2, steal=0.5))
    spoilt = replace(timed, visits=tuple(replace(visit, conditions=conditions) for visit in timed.visits))
    (row,) = rows_of(model_card([(spoilt, judge(spoilt, ()))], WHEN))
    assert row.pop("program") and row.pop("status") == "invalid" and set(row.values()) == {""}
    # What was held against a baseline in vain was measured all the same.
    elsewhere = Finding(rule="slowdown", status="invalid", note="another machine")
    (row,) = rows_of(model_card([(timed, Verdict(timed.case.id, (elsewhere,)))], WHEN))
    assert row["status"] == "invalid" and row["speed-up"] == f"{summarize(timed).speedup:.2f}x"


def test_scores_that_are_invalid_are_not_shown_either():
    found = accuracy([1] * 75 + [0] * 25, [1] * 100)
    odd = Finding(rule="max_drop", status="invalid", limit=0.01, note="the original saw other examples")
    (row,) = rows_of(model_card([(found, Verdict(found.case.id, (odd,)))], WHEN))
    assert row["exact_match (optimized)"] == "" and row["status"] == "invalid"
