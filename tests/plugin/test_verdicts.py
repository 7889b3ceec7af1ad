"""A failed verdict is a failed item, whatever else runs beside us."""

import xml.etree.ElementTree as ElementTree

import pytest

# One case that keeps its promises, one that does not.
PROMISES = "backend=['eager', 'wrong'], latency=False, budgets=Budget(min_score=0.85)"


def status(result, **wanted):
    outcomes = result.parseoutcomes()
    assert {name: outcomes.get(name, 0) for name in wanted} == wanted, result.stdout.str()


def test_promises_kept_and_broken(house):
    house.suite(PROMISES.replace("min_score=0.85", "min_score=0.85, max_drop=0.05"))
    result = house.run()
    status(result, passed=1, failed=1)
    assert result.ret == 1
    text = result.stdout.str()
    # 36 of 40 examples carry the label of the eager model; the wrong one is right on the other four.
    assert "accuracy score 0.1000, at least 0.8500 promised by budget 1 for every case" in text
    assert "Traceback" not in text
    # The first five that the original had right, with their words.
    shown = [line.strip() for line in text.splitlines() if "'words " in line]
    assert [line.split(" -> ")[0] for line in shown] == [f"tiny-{at} 'words {at}'" for at in range(1, 6)], text
    assert all(line.endswith(("-> 'no', was 'yes'", "-> 'yes', was 'no'")) for line in shown)
    assert sorted(house.records()) == [
        ("test_it.py::test_it[tiny/tiny-model/eager@cpu/fp32/accuracy]".replace("tiny/", "synthetic-tiny/", 1), "pass"),
        ("test_it.py::test_it[tiny/tiny-model/wrong@cpu/fp32/accuracy]".replace("tiny/", "synthetic-tiny/", 1), "fail"),
    ]


@pytest.mark.parametrize(
    "options",
    [("-p", "randomly"), ("--timeout=120",), ("--cov=.", "--cov-report="), ("--benchmark-disable",)],
    ids=["randomly", "timeout", "cov", "benchmark"],
)
def test_beside_other_plugins(house, options):
    house.suite(PROMISES)
    result = house.run("--perf-time=60ms", *options, quick=False)
    status(result, passed=1, failed=1)
    assert result.ret == 1
    assert sorted(one for _, one in house.records()) == ["fail", "pass"]


def test_under_xdist_with_reruns_and_junit_everything_is_recorded_and_the_summary_keeps_the_walk(house):
    """Three plugins that handle reports, and what crosses from the workers: in one run, since each worker loads torch. They
    finish in an order of chance; by their names the original would come first."""
    house.suite("backend=['wrong', 'idle', 'eager'], batch_size=1, budgets=Budget(min_score=0.85)")
    result = house.run("-n", "2", "--reruns", "1", "--junitxml=out.xml", "--perf-save=baselines/x", apart=True)
    status(result, passed=5, failed=1, rerun=1)
    assert result.ret == 1
    assert sorted(one for _, one in house.records()) == ["fail", "fail", *["pass"] * 5]  # both attempts stay
    assert len((house.path / "baselines/x/cases.jsonl").read_text().splitlines()) == 6
    text = result.stdout.str()
    table = text[text.index("accuracy of synthetic-tiny/tiny-model") :]
    assert table.index("wrong@cpu") < table.index("idle@cpu") < table.index("eager@cpu"), text
    cases = {case.get("name"): case for case in ElementTree.parse(house.path / "out.xml").iter("testcase")}
    wrong = next(case for name, case in cases.items() if "wrong" in name and "accuracy" in name)
    failure = wrong.find("failure")
    assert failure is not None and "at least 0.8500 promised" in failure.get("message") + failure.text
    properties = {one.get("name"): one.get("value") for one in wrong.iter("property")}
    assert properties["perfq_status"] == "fail" and float(properties["perfq_accuracy"]) == pytest.approx(0.1)
    assert sum(len(value) for value in properties.values()) < 300  # raw data does not go into JUnit


TWIN = """
T = Sweep(task='tiny', model={'twin': 'tiny-model'}, seq_len=8, backend='wrong', latency=False, budgets=Budget(max_drop=0.1))
@T
def test_twin(case, perfq):
    perfq(case)
"""


def test_examples_that_two_items_lose_are_listed_by_the_first_that_is_read(house):
    house.suite("backend='wrong', latency=False, budgets=Budget(max_drop=0.1)", extra=TWIN)
    text = house.run().stdout.str()
    assert text.count("'words 1' -> ") == 1
    assert text.count("; the same 36 examples as synthetic-tiny/tiny-model/wrong@cpu/fp32/accuracy -> ") == 1
    # What is stored is complete, and what is shown of it again is told once.
    assert house.export("junit").count("'words 1'") == 2
    assert house.perfq("report", "last")[1].count("'words 1'") == 1
    # Of an item that may fail nobody reads the message.
    file = house.path / "test_it.py"
    file.write_text(file.read_text().replace("@S\n", "import pytest\n@pytest.mark.xfail\n@S\n", 1))
    text = house.run().stdout.str()
    assert text.count("'words 1' -> ") == 1 and "the same 36 examples" not in text and "1 failed, 1 xfailed" in text


def test_a_rerun_is_measured_again_and_both_attempts_stay(house):
    house.monkeypatch.setenv("PERFQ_FAKES_MARK", str(house.path / "mark"))
    house.suite("backend='flaky', latency=False, budgets=Budget(min_score=0.85)")
    result = house.run("--reruns", "2")
    status(result, passed=1, rerun=1)
    assert result.ret == 0
    assert [one for _, one in house.records()] == ["fail", "pass"]


def test_last_failed_selects_the_failed_case_only(house):
    house.suite(PROMISES)
    house.run("-p", "cacheprovider")
    status(house.run("--lf", "-p", "cacheprovider"), passed=0, failed=1)


def test_exit_first_stops(house):
    house.suite("backend=['wrong', 'eager'], latency=False, budgets=Budget(min_score=0.85)")
    status(house.run("-x"), passed=0, failed=1)


def test_selection_by_name_and_mark(house):
    house.suite(PROMISES + ", quantization=None", extra="def test_other():\n    pass\n")
    status(house.run("-k", "wrong"), passed=0, failed=1, deselected=2)
    status(house.run("-m", "perfq and not slow", "-k", "eager"), passed=1, failed=0, deselected=2)
    status(house.run("-m", "not perfq"), passed=1, deselected=2)
    assert house.run("--strict-markers", "-k", "eager").ret == 0


def test_the_marker_overrides_the_sweep(house):
    body = "@pytest.mark.perfq(min_score=0.05)\n@S\ndef test_low(case, perfq):\n    perfq(case)\n"
    house.suite(PROMISES, extra="import pytest\n" + body)
    status(house.run("-k", "wrong"), passed=1, failed=1)


def test_an_unknown_marker_keyword_is_named(house):
    house.suite(
        PROMISES, extra="import pytest\n@pytest.mark.perfq(min_scor=0.05)\n@S\ndef test_low(case, perfq):\n    perfq(case)\n"
    )
    result = house.run("-k", "test_low and eager")
    result.stdout.fnmatch_lines(["*unknown keyword of the perfq marker 'min_scor'; did you mean 'min_score'?*"])
    assert result.ret == 2  # before anything is measured


def test_a_marker_without_a_keyword_is_no_promise(house):
    house.suite(PROMISES, extra="import pytest\n@pytest.mark.perfq(0.05)\n@S\ndef test_low(case, perfq):\n    perfq(case)\n")
    result = house.run()
    result.stdout.fnmatch_lines(
        ["*test_low: the perfq marker was given 0.05 without a keyword; write perfq(max_drop=...) or such"]
    )
    assert result.ret == 2


def test_the_markers_of_class_and_module_count_and_the_nearest_wins(house):
    body = "pytestmark = pytest.mark.perfq(min_score=0.95)\n@pytest.mark.perfq(min_score=0.05)\n@S\nclass TestLow:\n"
    body += "    def test_a(self, case, perfq):\n        perfq(case)\n"
    house.suite(PROMISES, extra="import pytest\n" + body)
    # The module's 0.95 is over both programs, the class's 0.05 under both.
    status(house.run(), passed=2, failed=2)


def test_a_class_can_be_decorated(house):
    house.suite(
        "latency=False",
        extra="@S\nclass TestAll:\n    def test_a(self, case, perfq):\n        perfq(case)\n    def test_b(self):\n        pass\n",
    )
    status(house.run("-k", "TestAll"), passed=2)


def test_the_summary_has_a_table(house):
    house.suite("backend=['eager', 'wrong'], batch_size=[1, 2]")
    text = house.run().stdout.str()
    assert "tiny-model" in text and "p50" in text and "wrong@cpu" in text


def test_measurement_and_verdict_are_returned(house):
    house.suite("backend='eager'", extra=(
        "@S\ndef test_numbers(case, perfq):\n    measurement, verdict = perfq(case)\n"
        "    assert verdict.status == 'pass' and measurement.case == case\n"
        "    if case.kind == 'accuracy':\n        assert measurement.score().value == 0.9 and len(measurement.outcomes.ids) == 40\n"
        "    else:\n        assert len(measurement.visits) == 2 and min(measurement.durations_ns()) > 0\n"
        "        assert measurement.visits[0].original is None and measurement.visits[0].anchor.durations_ns\n"
    ))  # fmt: skip
    status(house.run("-k", "numbers"), passed=2)
