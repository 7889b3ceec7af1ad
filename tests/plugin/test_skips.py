"""What is left out says why, and under --perf-strict what only this machine lacks is not left out."""

import xml.etree.ElementTree as ElementTree

import pytest

REFUSED = "backend=['compile', 'eager'], precision=['fp32', 'fp16'], latency=False"
NEEDS = "torch.compile needs a C++ compiler: no-such-compiler is not on the PATH"


@pytest.mark.parametrize("option, failed, skipped", [("--no-perf-strict", 0, 3), ("--perf-strict", 1, 2)])
def test_what_this_machine_lacks_fails_under_strict_and_what_none_can_is_skipped(house, option, failed, skipped):
    """compile without a compiler in fp32, and in fp16, which no CPU has; eager in fp16, and in fp32, which runs."""
    house.monkeypatch.setenv("CXX", "no-such-compiler")
    house.suite(REFUSED)
    result = house.run(option, "-rs")
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes.get("failed", 0), outcomes["skipped"]) == (1, failed, skipped)
    assert result.ret == failed
    text = result.stdout.str()
    assert NEEDS in text and "fp16 on a CPU is emulated or no faster than fp32" in text
    # What fails is remembered as what it is: not measured. What is skipped is no record.
    assert sorted(status for _, status in house.records()) == ["pass"] + ["unmeasured"] * failed


@pytest.mark.parametrize(("strict", "ended"), [("false", 0), ("true", 1)])
def test_what_cannot_be_fetched_is_skipped_and_fails_in_ci(house, strict, ended):
    """And what a backend can do nowhere is skipped in both."""
    house.suite("backend=['choosy', 'away'], batch_size=2")
    house.monkeypatch.setenv("CI", strict)
    result = house.run("-rs")
    counted = {"passed": 1, "skipped": 1, **({"failed": 2} if ended else {"skipped": 3})}
    assert (result.ret, result.parseoutcomes()) == (ended, counted)
    text = result.stdout.str()
    assert "unavailable: org/model cannot be fetched: no network" in text and "refused: choosy takes no batch over 1" in text
    assert sorted(one for _, one in house.records()) == ["pass"] + ["unmeasured"] * (2 * ended)


def test_a_sweep_that_perf_only_leaves_empty_says_so(house):
    house.suite("backend='eager', latency=False")
    result = house.run("--perf-only=latency", "-rs")
    assert result.parseoutcomes() == {"skipped": 1} and result.ret == 0
    assert "--perf-only=latency leaves none of the sweep's 1 cases: all of them are about accuracy" in result.stdout.str()


@pytest.mark.parametrize("option, ret", [("--no-perf-strict", 0), ("--perf-strict", 1)])
def test_latency_on_the_cpu_is_unmeasured_where_a_cold_l2_is_asked_for(house, option, ret):
    house.suite("backend='eager', batch_size=[1], accuracy=False")
    result = house.run("--perf-l2=cold", option, "-rs", "--junitxml=live.xml")
    assert result.ret == ret
    reason = "this case runs on the CPU, whose caches are not emptied; run it with --perf-l2=warm"
    assert reason in result.stdout.str()
    assert [status for _, status in house.records()] == ["unmeasured"]
    # An export of the run knows how it was shown.
    live, exported = (
        ElementTree.fromstring(text)[0] for text in ((house.path / "live.xml").read_text(), house.export("junit"))
    )
    for name in ("tests", "failures", "errors", "skipped"):
        assert exported.get(name) == live.get(name), name
    for root in (live, exported):
        (case,) = root.iter("testcase")
        assert [child.tag for child in case] == ["properties", "failure" if ret else "skipped"]
        assert case.get("classname") == "test_it" and reason in case[-1].get("message")


def test_junit_of_the_run_and_of_the_export_say_the_same(house):
    house.suite("backend=['eager', 'slow[ms=4]', 'broken'], batch_size=[1], budgets=Budget(min_score=0.5)")
    house.run("--junitxml=live.xml")
    live = properties(ElementTree.parse(house.path / "live.xml").getroot())
    exported = properties(ElementTree.fromstring(house.export("junit")))
    assert live == exported and len(live) == 6
    timed = next(one for one in live if "slow" in one["perfq_case"] and "perfq_p50_ms" in one)
    assert float(timed["perfq_p50_ms"]) >= 4 and float(timed["perfq_speedup"]) < 1
    assert {one["perfq_status"] for one in live if "broken" in one["perfq_case"]} == {"fail"}
    assert all("perfq_drop" in one for one in live if "slow" in one["perfq_case"] and "perfq_accuracy" in one)


def properties(root):
    """Those of every test case, by the case they are of."""
    found = [{one.get("name"): one.get("value") for one in case.iter("property")} for case in root.iter("testcase")]
    return sorted(found, key=lambda one: one["perfq_case"])
