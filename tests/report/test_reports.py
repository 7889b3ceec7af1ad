"""What people and trackers read, against the numbers it was made from and the readers of others."""

import csv
import io
import json
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from making import MACHINE, accuracy, case, latency

from pytest_perfq.core import permutation
from pytest_perfq.core.benchmarks import case_of, read
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import speedup, summarize
from pytest_perfq.core.verdict import broken, judge, misused
from pytest_perfq.report import exports
from pytest_perfq.report.explain import explain, line, milliseconds, size
from pytest_perfq.report.grid import Column, fitting, render
from pytest_perfq.report.markdown import model_card
from pytest_perfq.report.terminal import summary
from pytest_perfq.report.undecided import undecided

WHEN = "2026-11-24 10:00"
LIMITS = (Limit("p95_ms", 6.0, None, "budget 1 for every case"), Limit("max_drop", 0.01, None, "budget 2 where backend=ort"))


def records():
    """A sweep as a run gives it: one broken promise, one unmeasured case, one too short for percentiles."""
    found = [
        accuracy([1] * 750 + [0] * 250, [1] * 1000),
        accuracy([1] * 1000, backend="eager"),
        latency(0, rounds=60),
        latency(1, rounds=60, ms=12.0),
        latency(2, rounds=1, visits=2),
        Measurement(case=case(3), fingerprint=MACHINE, unmeasured="asserted t4, found cpu"),
    ]
    return [(one, judge(one, LIMITS)) for one in found]


def exported():
    return [exports.Exported(f"test_a.py::test[{one.case.id}]", one, verdict, 1.7e9) for one, verdict in records()]


# -- the numbers


def test_a_summary_is_numpys():
    measurement = latency(rounds=60)
    durations = np.asarray(measurement.durations_ns()) / 1e6
    found = summarize(measurement)
    assert found.rounds == 180
    assert found.percentiles_ms["p50"] == pytest.approx(np.median(durations))
    assert found.percentiles_ms["p95"] == np.percentile(durations, 95, method="inverted_cdf")
    assert set(found.percentiles_ms) == {"p50", "p90", "p95"}
    assert found.mean_ms == pytest.approx(durations.mean())
    assert found.sequences_per_s == pytest.approx(1000.0 / durations.mean())


def test_the_speedup_is_that_of_pairs():
    measurement = latency(rounds=60)
    ratios = np.asarray(measurement.durations_ns("original")) / np.asarray(measurement.durations_ns())
    ratio, (low, high) = speedup(measurement)
    assert ratio == pytest.approx(np.exp(np.median(np.log(ratios))))
    assert low < ratio < high
    assert speedup(latency(original_ms=None)) is None


# -- explanations


def test_a_failure_says_what_was_seen_what_was_promised_by_whom_and_what_next():
    text = explain(judge(latency(ms=7.0, rounds=60, noise=0.0), LIMITS))
    assert text == (
        "squad/bert/ort@cpu/int8-dynamic[Add,MatMul]/b1/s32: fail\n"
        "  p95 7 ms [7 ms, 7 ms], at most 6 ms promised by budget 1 for every case; 180 of 180 calls took longer -> "
        "profile the case, or raise the promise in review"
    )


def test_a_drop_lists_the_examples_and_counts_the_rest():
    text = explain(judge(accuracy([1] * 80 + [0] * 20, [1] * 100), LIMITS))
    low, high = permutation.drop_interval("mean:right", {"right": [1.0] * 100}, {"right": [1.0] * 80 + [0.0] * 20})
    assert (
        f": fail\n  exact_match drop from the original 0.2000 [{low:.4f}, {high:.4f}], at most 0.0100 promised by budget 2 where backend=ort"
        in text
    )
    assert "examples: q00080, q00081, q00082, q00083, q00084, q00085, q00086, q00087, q00088, q00089 and 10 more ->" in text


def test_a_broken_case_gives_its_sentence():
    assert explain(broken(case(), "export failed")) == f"{case().id}: fail\n  case: export failed"


def test_what_passed_is_counted():
    assert explain(judge(latency(rounds=60), LIMITS)) == f"{case().id}: pass\n  1 passed"


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (66_000_000, "66 MB"),
        (4.38e8, "438 MB"),
        (1.34e9, "1.34 GB"),
        (999_600, "1 MB"),
    ],
)
def test_sizes_in_decimal_units(value, text):
    assert size(value) == text


@pytest.mark.parametrize("value, text", [(0.01234, "0.0123 ms"), (12.345, "12.3 ms"), (999.4, "999 ms"), (1234.5, "1234 ms")])
def test_milliseconds_with_digits_that_mean_something(value, text):
    assert milliseconds(value) == text


def test_every_rule_has_a_name_for_people():
    from pytest_perfq.core.budget import RULES

    for rule in (*RULES, "flips", "accuracy", "slowdown", "measured", "build"):
        text = line(Finding(rule=rule, status="inconclusive", observed=1.0, limit=2.0, metric="f1"))
        assert not text.startswith(f"inconclusive: {rule} "), text


# -- the terminal


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_tables_fit_their_width_and_never_say_nan(width):
    text = summary(records(), width)
    tables = text.split("\n6 cases:")[0]
    assert max(len(one) for one in tables.splitlines()) <= width
    assert "nan" not in text.lower() and "None" not in text


def test_the_summary_shows_each_number_once_in_its_place():
    text = summary(records(), 140)
    (row,) = [one for one in text.splitlines() if "b2 s32" in one]
    numbers = summarize(latency(1, rounds=60, ms=12.0))
    for name in ("p50", "p90", "p95"):
        assert f"{numbers.percentiles_ms[name]:.3g}" in row
    assert f"{numbers.speedup:.2f}x" in row and "66 MB" in row and row.endswith("fail")
    (score,) = [one for one in text.splitlines() if "0.7500" in one]
    assert re.split(r" {2,}", score) == [
        "ort@cpu int8-dynamic[Add,MatMul]",
        "exact_match",
        "0.7500",
        "1.0000",
        "+0.2500",
        "1000",
        "66 MB",
        "fail",
    ]
    assert "6 cases: 2 pass, 1 unmeasured, 1 inconclusive, 2 fail" in text
    # No column of p99: nobody had 459 rounds.
    assert "p99" not in text
    assert "asserted t4, found cpu" in " ".join(text.split())


def test_percentiles_without_enough_rounds_are_left_empty():
    (row,) = [one for one in summary(records(), 140).splitlines() if "b3 s32" in one]
    assert row.split()[:2] == ["b3", "s32"] and row.split()[2].endswith("x")


def test_alike_reasons_are_said_once():
    verdicts = [judge(Measurement(case=case(number), fingerprint=MACHINE, unmeasured="no gpu"), ()) for number in range(5)]
    assert undecided(verdicts) == ["5 cases: unmeasured: no gpu"]


def test_columns_that_matter_least_leave_first():
    columns = (Column("a"), Column("b", spare=1), Column("c", spare=2), Column("empty"))
    rows = [["x" * 10, "y" * 10, "z" * 10, ""]]
    assert [fitting(columns, rows, width) for width in (60, 30, 20, 1)] == [[0, 1, 2], [0, 1], [0], [0]]
    assert "[red]" in render((Column("name", right=False),), [["[red]"]], 40)


# -- the model card


def test_the_card_has_the_original_beside_the_optimized():
    text = model_card(records(), WHEN)
    assert "| program | exact_match (original) | exact_match (optimized) |" in text
    assert "| `ort@cpu int8-dynamic[Add,MatMul]` | 1.0000 | 0.7500 |" in text
    assert "Times for batch size = 2, input length = 32." in text
    measurement = latency(1, rounds=60, ms=12.0)
    was = statistics.median(measurement.durations_ns("original")) / 1e6
    now = statistics.median(measurement.durations_ns()) / 1e6
    rate = 2 / statistics.fmean(measurement.durations_ns()) * 1e9
    assert f"| `ort@cpu int8-dynamic[Add,MatMul]` | {was:#.3g} | {now:#.3g} |" in text and f" {rate:.1f} |" in text
    assert "nan" not in text.lower()


def test_the_card_says_of_each_score_over_how_many_examples_where_they_differ():
    found = [accuracy([1] * 90 + [0] * 10), accuracy([1] * 80, samples=80)]
    text = model_card([(one, judge(one, ())) for one in found], WHEN)
    assert "Scores over 80 to 100 examples." in text and "(optimized) | examples | status |" in text
    assert [line.split(" | ")[-3:-1] for line in text.splitlines() if line.startswith("| `")] == [
        ["0.9000", "100"],
        ["1.0000", "80"],
    ]
    alike = model_card([(found[0], judge(found[0], ()))], WHEN)
    assert "Scores over 100 examples." in alike and "examples |" not in alike


# -- exports


def test_pytest_benchmark_reads_its_export_and_agrees_on_the_statistics(tmp_path):
    """pytest-benchmark's own statistics of the same rounds, and its own command on the file."""
    from pytest_benchmark.stats import Stats

    text = exports.pytest_benchmark(exported())
    values = json.loads(text)
    assert [one["name"] for one in values["benchmarks"]] == [case(0).id, case(1).id, case(2).id]
    for one in values["benchmarks"]:
        theirs = Stats()
        for duration in one["stats"]["data"]:
            theirs.update(duration)
        for name in ("min", "max", "mean", "median", "q1", "q3", "iqr", "total", "ops", "ld15iqr", "hd15iqr", "stddev"):
            assert one["stats"][name] == pytest.approx(getattr(theirs, name), rel=1e-9, abs=1e-15), name
        assert one["stats"]["rounds"] == theirs.rounds
        assert one["stats"]["outliers"] == theirs.outliers
    assert values["benchmarks"][1]["extra_info"]["status"] == "fail"
    assert values["commit_info"] == {
        "id": "a" * 40,
        "time": None,
        "author_time": None,
        "dirty": False,
        "project": None,
        "branch": None,
    }
    file = tmp_path / "run.json"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "b2/s32" in done.stdout + done.stderr


def test_an_export_says_of_how_many_calls_a_round_is_the_mean():
    """A test of pytest-benchmark's whose call is short; a case's round is one call."""
    several = replace(latency(), case=case_of("test_sort.py::test_sort"), facts={"iterations": 25})
    records = [exports.Exported("a", one, judge(one, ())) for one in (several, latency(1))]
    values = json.loads(exports.pytest_benchmark(records))
    assert [one["stats"]["iterations"] for one in values["benchmarks"]] == [25, 1]
    assert [one.facts["iterations"] for one in read(values)] == [25, 1]


def test_junit_counts_what_failed_and_what_was_skipped():
    root = ElementTree.fromstring(exports.junit(exported()))
    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("6", "2", "1")
    found = {one.get("name"): one for one in suite}
    assert found[case(1).id].find("failure").text == explain(records()[3][1])
    assert "asserted t4, found cpu" in found[case(3).id].find("skipped").get("message")
    assert found[case(2).id].find("failure") is None and "inconclusive" in found[case(2).id].find("system-out").text
    assert [child.tag for child in found[case(0).id]] == ["properties"]
    # What was timed says how long; what was not says nothing.
    timed = {one.measurement.case.id: sum(one.measurement.durations_ns()) / 1e9 for one in exported()}
    assert {name: float(one.get("time", 0)) for name, one in found.items()} == pytest.approx(timed, abs=0.0005)
    assert "time" not in found[case(3).id].attrib and "time" not in found[records()[0][0].case.id].attrib


@pytest.mark.parametrize("strict, of_the_machine", [(False, "skipped"), (True, "failure")])
def test_junit_has_what_is_not_known_as_pytest_showed_it(strict, of_the_machine):
    nothing = Measurement(case=case(3), fingerprint=MACHINE, unmeasured="asserted t4, found cpu")
    disturbed = Verdict(case(4).id, (Finding(rule="measured", status="invalid", note="throttled"),))
    wanted = {
        case(3).id: ("nothing", judge(nothing, LIMITS), of_the_machine),
        case(4).id: ("disturbed", disturbed, of_the_machine),
        case(5).id: ("misused", misused(case(5), "400 examples were asked for"), "failure"),
    }
    given = [exports.Exported(name, nothing, verdict, strict=strict) for name, verdict, _ in wanted.values()]
    (suite,) = ElementTree.fromstring(exports.junit(given))
    assert {one.get("classname"): one[-1].tag for one in suite} == {name: tag for name, _, tag in wanted.values()}
    assert int(suite.get("skipped")) + int(suite.get("failures")) == 3 and suite.get("errors") == "0"
    assert "throttled" in suite[1][-1].get("message") and "400 examples were asked for" in suite[2][-1].get("message")


def test_junit_groups_cases_as_pytest_groups_tests(tmp_path):
    """And writes no element or attribute that pytest itself does not write."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "test_a.py").write_text(
        "import pytest\n\nclass TestOf:\n    @pytest.mark.parametrize('x', ['a/b[c.d]'])\n"
        "    def test_it(self, x, record_property):\n        record_property('a', 1)\n\n"
        "def test_skip():\n    pytest.skip('no')\n\ndef test_fail():\n    print('said')\n    assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\njunit_logging = system-out\n")
    words = [sys.executable, "-m", "pytest", "--junitxml=all.xml", *(f"-pno:{one}" for one in ("cacheprovider", "randomly"))]
    subprocess.run(words, cwd=tmp_path, capture_output=True)
    theirs = ElementTree.parse(tmp_path / "all.xml").getroot()
    nodeids = ["sub/test_a.py::TestOf::test_it[a/b[c.d]]", "sub/test_a.py::test_skip", "sub/test_a.py::test_fail"]
    ours = ElementTree.fromstring(
        exports.junit([replace(one, nodeid=name) for one, name in zip(exported()[3:], nodeids, strict=True)])
    )
    names = [[one.get("classname") for one in root.iter("testcase")] for root in (ours, theirs)]
    assert names[0] == names[1] == ["sub.test_a.TestOf", "sub.test_a", "sub.test_a"]
    known = {one.tag: set() for one in theirs.iter()}
    for one in theirs.iter():
        known[one.tag] |= set(one.attrib)
    assert all(set(one.attrib) <= known[one.tag] for one in ours.iter())


def test_csv_has_a_line_for_each_record_and_nothing_for_nothing():
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(exported()))))
    assert [row["case"] for row in rows] == [one.case.id for one, _ in records()]
    assert float(rows[3]["p50_ms"]) == summarize(records()[3][0]).percentiles_ms["p50"]
    assert rows[0]["score"] == "0.75" and rows[0]["drop"] == "0.25" and rows[0]["p50_ms"] == ""
    assert exports.as_csv([]) == ""


def test_json_holds_everything():
    values = json.loads(exports.as_json(exported()))
    assert [(Measurement.from_json(one["measurement"]), Verdict.from_json(one["verdict"])) for one in values] == records()


def test_a_score_in_another_formula_is_exported_as_it_is():
    measurement = replace(accuracy([1, 0]), scores=())
    one = exports.Exported("n", measurement, judge(measurement, ()))
    assert json.loads(exports.as_json([one]))[0]["score"] is None


def test_junit_properties_are_the_numbers_of_the_summary():
    root = ElementTree.fromstring(exports.junit(exported()))
    told = {
        one.get("name"): {value.get("name"): value.get("value") for value in one.find("properties")}
        for one in root.iter("testcase")
    }
    scored, timed = summarize(records()[0][0]), summarize(records()[3][0])
    assert told[records()[0][0].case.id] == {
        "perfq_case": records()[0][0].case.id,
        "perfq_status": "fail",
        "perfq_exact_match": str(scored.score),
        "perfq_drop": "0.25",
        "perfq_bytes": str(scored.bytes),
    }
    assert float(told[case(1).id]["perfq_speedup"]) == timed.speedup
    assert float(told[case(1).id]["perfq_p95_ms"]) == timed.percentiles_ms["p95"]
    # Too few rounds for a percentile, nothing at all: no property, and never an empty one.
    assert "perfq_p95_ms" not in told[case(2).id] and "perfq_speedup" in told[case(2).id]
    assert set(told[case(3).id]) == {"perfq_case", "perfq_status"}
