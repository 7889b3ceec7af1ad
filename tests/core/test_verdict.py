"""Promises held against facts, and facts against a baseline: every rule, at its border and beyond."""

import json
import math
import random
from dataclasses import replace

import pytest
import scipy.stats
from making import MACHINE, accuracy, latency, outcomes

from pytest_perfq.core import slowdown
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.finding import STATUSES, Finding, Verdict
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Samples, Score, Visit
from pytest_perfq.core.verdict import Pair, broken, judge, judge_suite, misused


def limit(rule, value, metric=None):
    return Limit(rule, value, metric, "budget 1 for every case")


def only(measurement, *limits, baseline=None, **options):
    """The one finding of a case."""
    verdict = judge(measurement, limits, baseline, **options)
    (finding,) = verdict.findings
    assert verdict.status == finding.status
    return finding


def timed(durations_ms, original_ms=None):
    visit = Visit(
        Samples(tuple(round(one * 1e6) for one in durations_ms)),
        None if original_ms is None else Samples(tuple(round(one * 1e6) for one in original_ms)),
    )
    return replace(latency(), visits=(visit,))


def pairs_of(candidates, baselines, limits=()):
    was = {one.case.id: one for one in baselines}
    found = {one.case.id: Pair(one, limits, was.pop(one.case.id, None)) for one in candidates}
    return {**found, **{name: Pair(None, (), one) for name, one in was.items()}}


# -- verdicts


def test_a_verdict_is_as_bad_as_its_worst_finding():
    for index, worst in enumerate(STATUSES):
        findings = tuple(Finding(rule="p50_ms", status=status) for status in STATUSES[: index + 1])
        verdict = Verdict("case", findings)
        assert verdict.status == worst
        assert verdict.failed == (worst in ("regressed", "fail"))
    assert Verdict("case").status == "pass"


def test_a_verdict_survives_json():
    verdict = judge(latency(ms=9.0), [limit("p95_ms", 6.0), limit("min_speedup", 5.0)], latency())
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict
    assert verdict.limits == (limit("p95_ms", 6.0), limit("min_speedup", 5.0))


def test_an_unknown_status_is_refused():
    with pytest.raises(ValueError, match="status 'fine'; known: pass, improved"):
        Finding(rule="p50_ms", status="fine")


def test_a_case_that_could_not_be_built_fails_with_its_sentence():
    verdict = broken(latency().case, "export failed: no")
    assert (verdict.case_id, verdict.status, verdict.findings[0].note) == (latency().case.id, "fail", "export failed: no")


# -- promises


@pytest.mark.parametrize("right, status", [(9, "pass"), (8, "fail")])
def test_min_score_is_kept_at_its_limit(right, status):
    finding = only(accuracy([1] * right + [0] * (10 - right)), limit("min_score", 0.9))
    assert (finding.status, finding.observed, finding.metric) == (status, right / 10, "exact_match")


def test_max_drop_is_exact_and_names_the_examples_that_went_wrong():
    measurement = accuracy([1] * 95 + [0] * 5, [1] * 97 + [0] * 2 + [1])
    finding = only(measurement, limit("max_drop", 0.02))
    assert finding.status == "fail" and finding.observed == pytest.approx(0.03)
    assert finding.examples == ("q00095", "q00096", "q00099")
    assert "3 of 100 examples went wrong and 0 right" in finding.note
    assert finding.interval == pytest.approx((0.03 - 1.959964 * 0.0171447, 0.03 + 1.959964 * 0.0171447), abs=1e-6)
    assert only(measurement, limit("max_drop", 0.03)).status == "pass"


def test_what_is_held_against_the_original_is_not_about_the_original():
    assert judge(accuracy([1], backend="eager"), [limit("max_drop", 0.0)]).findings == ()
    assert judge(latency(backend="eager"), [limit("min_speedup", 2.0)]).findings == ()
    assert only(accuracy([1], backend="eager"), limit("max_drop", 0.0), limit("min_score", 1.0)).rule == "min_score"


def test_a_case_asked_for_wrongly_is_invalid_and_no_regression():
    verdict = misused(accuracy([1]).case, "samples is 9, and there are 8; ask for 8")
    assert (verdict.status, verdict.failed, verdict.findings[0].rule) == ("invalid", False, "usage")
    assert verdict.findings[0].note == "samples is 9, and there are 8; ask for 8"


def test_a_drop_over_other_examples_is_invalid():
    measurement = replace(accuracy([1] * 10, [1] * 10), original_outcomes=outcomes([1] * 10, start=5))
    finding = only(measurement, limit("max_drop", 0.1))
    assert finding.status == "invalid" and "10 examples here, 10 of the original, 5 shared" in finding.note


def test_a_metric_that_was_not_measured_is_invalid_and_names_those_that_were():
    finding = only(accuracy([1]), limit("min_score", 0.5, "f1"))
    assert (finding.status, finding.note) == ("invalid", "no score 'f1' was measured; the case has: exact_match")


def test_a_score_that_is_not_a_number_is_invalid():
    measurement = replace(accuracy([1]), scores=(Score("exact_match", float("nan"), 1, None, True),))
    assert only(measurement, limit("min_score", 0.5)).note == "exact_match is nan over 1 examples"


@pytest.mark.parametrize(
    "rounds, misses, status",
    [(90, 0, "pass"), (89, 0, "inconclusive"), (130, 1, "pass"), (129, 1, "inconclusive"), (259, 5, "pass"), (100, 30, "fail")],
)
def test_a_percentile_follows_the_binomial_rule(rounds, misses, status):
    finding = only(timed([9.0] * misses + [4.0] * (rounds - misses)), limit("p95_ms", 5.0))
    assert finding.status == status
    assert f"{misses} of {rounds} calls took longer" in finding.note
    if status == "inconclusive":
        assert "1 more rounds without another would pass it" in finding.note


def test_a_percentile_fails_only_when_chance_cannot_explain_the_misses():
    for misses in range(60):
        finding = only(timed([9.0] * misses + [4.0] * (60 - misses)), limit("p90_ms", 5.0))
        over = scipy.stats.binomtest(misses, 60, 0.1, alternative="greater").pvalue <= 0.01
        under = scipy.stats.binomtest(misses, 60, 0.1, alternative="less").pvalue <= 0.01
        assert finding.status == ("fail" if over else "pass" if under else "inconclusive")


def test_a_call_at_the_limit_keeps_it():
    assert only(timed([5.0] * 44), limit("p90_ms", 5.0)).status == "pass"


@pytest.mark.parametrize("promised, status", [(1.9, "pass"), (2.1, "fail"), (2.0, "inconclusive")])
def test_min_speedup_is_judged_by_the_interval_of_paired_rounds(promised, status):
    dice = random.Random(0)
    common = [dice.uniform(1.0, 3.0) for _ in range(60)]
    original = [10.0 * one for one in common]
    mine = [5.0 * one * dice.gauss(1.0, 0.01) for one in common]
    finding = only(timed(mine, original), limit("min_speedup", promised))
    assert finding.status == status
    # The machine drifted threefold and both sides with it: the pairs do not notice.
    assert finding.observed == pytest.approx(2.0, abs=0.02) and finding.interval[1] - finding.interval[0] < 0.05


def test_min_speedup_of_too_few_rounds_is_inconclusive_and_of_no_original_invalid():
    few = only(timed([1.0] * 7, [9.0] * 7), limit("min_speedup", 2.0))
    assert (few.status, few.note) == ("inconclusive", "7 pairs of rounds are too few for an interval; 8 are needed")
    assert only(timed([1.0] * 8, [9.0] * 8), limit("min_speedup", 2.0)).status == "pass"
    assert only(timed([1.0] * 20), limit("min_speedup", 2.0)).status == "invalid"


@pytest.mark.parametrize("promised, status", [(66_000_000, "pass"), (65_999_999, "fail")])
def test_max_bytes_holds_for_both_kinds(promised, status):
    assert only(latency(), limit("max_bytes", promised)).status == status
    assert only(accuracy([1]), limit("max_bytes", promised)).status == status


def test_promises_about_the_other_kind_are_not_held_against_a_case():
    assert judge(latency(), [limit("min_score", 0.9), limit("max_drop", 0.0)]).findings == ()
    assert judge(accuracy([1]), [limit("p95_ms", 1.0), limit("min_speedup", 9.0), limit("max_slowdown", 0.0)]).findings == ()


def test_what_was_not_measured_is_unmeasured_with_the_reason():
    nothing = Measurement(case=latency().case, fingerprint=MACHINE, unmeasured="asserted t4, found cpu")
    for rule in ("p50_ms", "p99_ms", "min_speedup", "max_bytes", "max_slowdown"):
        finding = only(nothing, limit(rule, 1.0))
        assert (finding.status, finding.note) == ("unmeasured", "asserted t4, found cpu"), rule
    assert (only(nothing).rule, only(nothing).status) == ("measured", "unmeasured")


def test_a_case_without_timing_and_without_a_reason_is_invalid():
    assert only(Measurement(case=latency().case, fingerprint=MACHINE), limit("p50_ms", 1.0)).status == "invalid"


def test_max_slowdown_without_a_baseline_is_unmeasured():
    finding = only(latency(), limit("max_slowdown", 0.05))
    assert finding.status == "unmeasured" and finding.note.startswith("no baseline to hold it against")


# -- a suite against a baseline


def test_new_and_missing_cases_are_findings():
    pairs = pairs_of([latency(0), latency(1)], [latency(1), latency(2)])
    found = judge_suite(pairs, against=True)
    assert found[latency(0).case.id].findings[-1].note == "new: not in the baseline"
    slow = Limit("max_slowdown", 0.1, None, "budget 1")
    for against, note in (
        (True, "it is not in the baseline; save a new one"),
        (False, "no baseline to hold it against; give one with --perf-against"),
    ):
        promised = judge_suite({"x": Pair(latency(0), (slow,), None)}, against=against)["x"].findings[0]
        assert (promised.rule, promised.status, promised.note) == ("max_slowdown", "unmeasured", note)
    assert found[latency(0).case.id].status == "pass"
    assert found[latency(2).case.id].status == "invalid"
    subset = judge_suite(pairs, against=True, subset=True)
    assert set(subset) == {latency(0).case.id, latency(1).case.id}


def test_another_machine_is_refused_by_name():
    other = Fingerprint({**MACHINE.identity, "cpu_model": "Other CPU"}, MACHINE.stack)
    finding = only(latency(ms=50.0), baseline=latency(machine=other))
    assert finding.status == "invalid"
    assert "cpu_model is 'Test CPU 9000' here and 'Other CPU' in the baseline; measure both on one machine" in finding.note


def test_other_software_is_named_and_never_gates():
    other = Fingerprint(MACHINE.identity, {**MACHINE.stack, "torch": "2.12.1"})
    finding = only(latency(ms=50.0), baseline=latency(machine=other))
    assert finding.status == "inconclusive"
    assert "torch is '2.13.0' here and '2.12.1' in the baseline" in finding.note


def test_another_revision_is_what_comparing_is_for():
    other = Fingerprint(MACHINE.identity, {**MACHINE.stack, "revision": "b" * 40, "dirty": True})
    assert only(latency(ms=50.0), baseline=latency(machine=other)).status == "regressed"


def test_a_baseline_without_a_timing_leaves_the_case_unmeasured():
    nothing = Measurement(case=latency().case, fingerprint=MACHINE, unmeasured="no gpu")
    finding = only(latency(), limit("max_slowdown", 0.1), baseline=nothing)
    assert (finding.status, finding.rule) == ("unmeasured", "max_slowdown")
    assert "the baseline has no timing: no gpu" in finding.note


def test_other_examples_than_the_baselines_are_invalid_with_counts():
    finding = only(accuracy([1] * 10), baseline=replace(accuracy([1] * 8), case=accuracy([1] * 10).case))
    assert finding.status == "invalid" and "10 examples here, 8 in the baseline, 8 shared" in finding.note


# -- accuracy by pairs

STILL = {"n": 1000, "flips": 0, "margin_noise": 0.0}
OTHER_STACK = Fingerprint(MACHINE.identity, {**MACHINE.stack, "torch": "2.12.1"})


def lose(n, lost, won=0):
    """1000 answers, of which the first `won` are wrong in the baseline and the next `lost` become wrong."""
    was = [0] * won + [1] * (n - won)
    now = [1] * won + [0] * lost + [1] * (n - won - lost)
    return was, now


def test_one_lost_example_fails_where_nothing_else_differs():
    was, now = lose(1000, 1)
    verdict = judge(accuracy(now), (), accuracy(was, churn=STILL))
    flips = next(one for one in verdict.findings if one.rule == "flips")
    assert (verdict.status, flips.observed, flips.examples) == ("regressed", 1.0, ("q00000",))


def test_flips_that_cancel_out_are_no_loss_and_a_net_gain_is_improved():
    was, now = lose(1000, 3, 3)
    assert judge(accuracy(now), (), accuracy(was, churn=STILL)).status == "pass"
    was, now = lose(1000, 1, 3)
    assert judge(accuracy(now), (), accuracy(was, churn=STILL)).status == "improved"


def test_flips_within_the_noise_of_a_repeated_prediction_are_not_real():
    was, now = lose(1000, 2)
    churn = {"n": 1000, "flips": 3, "margin_noise": 0.01}
    close = [0.03] * 2 + [2.0] * 998
    shaken = judge(accuracy(now, margins=close), (), accuracy(was, margins=close, churn=churn))
    assert shaken.status == "inconclusive"
    far = [0.5] * 2 + [2.0] * 998
    assert judge(accuracy(now, margins=far), (), accuracy(was, margins=far, churn=churn)).status == "regressed"


@pytest.mark.parametrize("lost, status", [(1, "inconclusive"), (4, "inconclusive"), (8, "regressed"), (20, "regressed")])
def test_on_other_software_a_loss_must_be_beyond_chance(lost, status):
    """One case: two looks (flips, margins) at .01, so that McNemar alone needs eight one-way flips."""
    was, now = lose(1000, lost)
    finding = only(accuracy(now), baseline=accuracy(was, machine=OTHER_STACK, margins=[0.0] * 1000))
    assert finding.status == status
    assert finding.observed == pytest.approx(lost / 1000)
    if status == "inconclusive":
        assert finding.note.endswith("of as many other examples, a drop under 0.0080 could as well be chance")


def test_margins_that_weaken_together_confirm_a_small_loss():
    dice = random.Random(3)
    was, now = lose(1000, 3)
    strong = [abs(dice.gauss(2.0, 0.5)) for _ in was]
    weak = [one * dice.uniform(0.7, 0.95) for one in strong]
    assert (
        only(accuracy(now, margins=strong), baseline=accuracy(was, machine=OTHER_STACK, margins=strong)).status
        == "inconclusive"
    )
    assert only(accuracy(now, margins=weak), baseline=accuracy(was, machine=OTHER_STACK, margins=strong)).status == "regressed"
    # Weaker margins alone, with nothing lost, are no loss.
    assert only(accuracy(was, margins=weak), baseline=accuracy(was, machine=OTHER_STACK, margins=strong)).status == "pass"


def test_a_suite_needs_more_evidence_than_a_case():
    was, now = lose(1000, 8)
    candidates = [accuracy(now, number=0)] + [accuracy(was, number=number) for number in range(1, 30)]
    baselines = [accuracy(was, number=number, machine=OTHER_STACK) for number in range(30)]
    found = judge_suite(pairs_of(candidates, baselines))
    assert found[candidates[0].case.id].status == "inconclusive"
    assert {found[one.case.id].status for one in candidates[1:]} == {"pass"}
    assert only(candidates[0], baseline=baselines[0], suite=30).status == "inconclusive"


def test_random_churn_on_other_software_seldom_accuses_anyone():
    """150 suites of 4 cases; predictions flip either way with equal chance: far fewer than 5 % of suites alarm."""
    dice = random.Random(11)
    alarms = 0
    for _ in range(150):
        candidates, baselines = [], []
        for number in range(4):
            was = [int(dice.random() < 0.8) for _ in range(200)]
            now = [1 - one if dice.random() < 0.05 else one for one in was]
            # Which of the two came first is a coin's choice: the null hypothesis, exactly.
            swapped = [dice.random() < 0.5 for _ in was]
            one = [b if s else a for a, b, s in zip(was, now, swapped, strict=True)]
            other = [a if s else b for a, b, s in zip(was, now, swapped, strict=True)]
            candidates.append(accuracy(one, number=number))
            baselines.append(accuracy(other, number=number, machine=OTHER_STACK))
        found = judge_suite(pairs_of(candidates, baselines))
        alarms += any(verdict.failed for verdict in found.values())
    assert alarms <= 4


def test_a_metric_without_a_formula_cannot_be_tested_and_says_so():
    def scored(value):
        return replace(accuracy([1] * 9 + [0]), scores=(Score("rouge", value, 10, None, True),))

    was = replace(scored(0.5), outcomes=outcomes([1] * 10))
    finding = only(scored(0.4), baseline=was)
    assert finding.status == "inconclusive" and "rouge" == finding.metric and "no formula" in finding.note
    assert only(scored(0.5), baseline=was).status == "pass"


# -- latency by visits


def statuses(candidates, baselines, **options):
    return {name: verdict.status for name, verdict in judge_suite(pairs_of(candidates, baselines), **options).items()}


def test_unchanged_suites_never_alarm_whatever_the_day():
    """200 suites of 20 cases; the day shifts case and anchor together by up to 60 %, visits differ by 3 % on their own, and a
    process by 1 %."""
    dice = random.Random(2)
    alarms = 0
    for _suite in range(200):
        runs = []
        for _ in range(2):
            day = dice.uniform(-0.5, 0.5)
            runs.append(
                [
                    latency(
                        number,
                        rounds=6,
                        noise=0.005,
                        original_ms=None,
                        day=day,
                        visit_noise=0.03,
                        process=dice.gauss(0.0, 0.01),
                        seed=dice.random(),
                    )
                    for number in range(20)
                ]
            )
        alarms += "regressed" in statuses(*runs).values()
    assert alarms == 0


def test_a_case_twice_as_slow_among_fifty_is_caught_every_time():
    dice = random.Random(4)
    for _ in range(10):
        day = dice.uniform(-0.3, 0.3)
        baseline = [latency(number, rounds=10, visit_noise=0.03, seed=dice.random()) for number in range(50)]
        candidate = [
            latency(number, rounds=10, ms=10.0 if number == 7 else 5.0, day=day, visit_noise=0.03, seed=dice.random())
            for number in range(50)
        ]
        found = statuses(candidate, baseline)
        assert [name for name, status in found.items() if status == "regressed"] == [latency(7).case.id]
        assert only(candidate[7], baseline=baseline[7], suite=50).status == "regressed"


def test_a_case_twice_as_fast_is_improved():
    assert only(latency(ms=2.5), baseline=latency(), suite=50).status == "improved"


def test_without_an_anchor_nothing_is_called_slower():
    finding = only(latency(ms=20.0, anchor_ms=None), baseline=latency())
    assert finding.status == "inconclusive"
    assert "there is no anchor in every visit" in finding.note and "cannot be seen with 3 visits" in finding.note


@pytest.mark.parametrize("visits", [1, 2])
def test_few_visits_nominate_and_do_not_accuse(visits):
    finding = only(latency(ms=20.0, visits=visits), baseline=latency())
    assert finding.status == "inconclusive" and "at least 3 visits a side are needed to gate" in finding.note
    told = "1 visit" if visits == 1 else "2 visits"
    assert finding.note.startswith(f"{told} here, 3 in the baseline; ") and f"cannot be seen with {told};" in finding.note


def test_few_rounds_nominate_and_do_not_accuse():
    finding = only(latency(ms=20.0, rounds=2), baseline=latency())
    assert finding.status == "inconclusive" and "at least 3 are needed to gate" in finding.note


@pytest.mark.parametrize("rounds", [3, 5, 6, 20, 61])
def test_the_error_of_a_median_is_that_of_medians(rounds):
    """The spread of ln(median) over many visits of normal rounds, against what each of them says of itself on average."""
    dice = random.Random(rounds)
    visits = [Samples(tuple(round(5e6 * dice.gauss(1.0, 0.03)) for _ in range(rounds))) for _ in range(1500)]
    spread = math.sqrt(sum(math.log(one.median_ns / 5e6) ** 2 for one in visits) / len(visits))
    said = math.sqrt(sum(one.median_error**2 for one in visits) / len(visits))
    # Ranks are whole numbers, so that the promise is kept with something to spare.
    assert spread <= said * 1.05 and said <= spread * 1.6
    assert Samples((5, 6)).median_error is None


def test_rounds_that_jump_widen_the_interval_of_visits_that_agree():
    """Every visit the same 40 rounds of 3 to 9 ms: no spread between visits, all of it within."""

    def busy(factor):
        rounds = Samples(tuple(round(factor * 1e6 * (3 + 6 * index / 39)) for index in range(40)))
        anchor = Samples((3_000_000,) * 40)
        return replace(latency(), visits=(Visit(rounds, None, anchor),) * 3)

    assert only(busy(1.45), baseline=busy(1.0)).status == "inconclusive"
    assert only(latency(ms=7.25), baseline=latency()).status == "regressed"
    finding = only(busy(1.0), baseline=busy(1.0))
    ordered = [3 + 6 * index / 39 for index in range(40)]
    low, high = scipy.stats.quantile_test(ordered, p=0.5).confidence_interval(0.95)
    visits = (math.log(high / low) / (2 * 1.959964)) ** 2 * 2 / 3
    runs = 2 * 0.023**2
    df = max(one for one in slowdown.TABLE_DF if one <= 7 * ((visits + runs) / visits) ** 2)
    assert finding.interval[1] == pytest.approx(math.exp(scipy.stats.t.isf(0.025, df) * (visits + runs) ** 0.5) - 1.0, rel=1e-4)


def test_noisy_visits_of_an_unchanged_case_are_inconclusive_with_what_could_be_seen():
    finding = only(latency(visit_noise=0.08, process=0.03, seed=1), baseline=latency(visit_noise=0.08, seed=1))
    assert finding.status == "inconclusive" and "cannot be seen with 3 visits; two stored runs alarm from +" in finding.note


def test_a_stored_baseline_clears_like_a_screen_and_keeps_most_that_are_slower_by_the_effect():
    """Visits vary by 2 % and runs by 2.3 %, as beside an anchor of similar operators: 400 cases in suites of 40."""

    def open_share(slower):
        dice, undecided = random.Random(5), 0
        for _ in range(10):
            runs = []
            for by in (slower, 0.0):
                made = [(number, dice.gauss(by, 0.023), dice.random()) for number in range(40)]
                runs.append(
                    [
                        latency(number, rounds=5, noise=0.001, original_ms=None, visit_noise=0.02, process=at, seed=seed)
                        for number, at, seed in made
                    ]
                )
            undecided += sum(status != "pass" for status in statuses(*runs).values())
        return undecided / 400

    assert open_share(math.log(1.05)) > 0.75 and open_share(0.0) < 0.35


def test_many_visits_of_an_unchanged_case_pass():
    assert only(latency(visits=20, seed=1), baseline=latency(visits=20, seed=2)).status == "pass"


@pytest.mark.parametrize("promised, status", [(0.05, "regressed"), (1.5, "pass"), (0.9, "inconclusive")])
def test_max_slowdown_takes_the_place_of_the_default_effect(promised, status):
    finding = only(latency(ms=10.0), limit("max_slowdown", promised), baseline=latency())
    assert (finding.rule, finding.status, finding.limit) == ("max_slowdown", status, promised)
    assert finding.entry == "budget 1 for every case"


def test_the_error_is_never_under_what_was_measured_between_runs():
    """Noiseless visits, and runs that vary by 2.3 %: next to the normal distribution. What alarms counts 10 %."""
    finding = only(latency(noise=0.0), baseline=latency(noise=0.0))
    # The clock's coarseness counts as a spread of 0.1 % in each of three visits a side.
    half = scipy.stats.t.isf(0.025, 1000) * (2 * 0.023**2 + 0.001**2 * 2 / 3) ** 0.5
    assert finding.interval[1] == pytest.approx(math.exp(half) - 1.0, rel=1e-6)
    alarm = math.exp(math.log(1.01) + scipy.stats.t.isf(0.01, 1000) * 0.10 * 2**0.5)
    assert only(latency(ms=5.0 * alarm * 1.01, noise=0.0), baseline=latency(noise=0.0)).status == "regressed"
    finding = only(latency(ms=5.0 * alarm * 0.99, noise=0.0), baseline=latency(noise=0.0))
    assert finding.status == "inconclusive" and f"two stored runs alarm from {alarm - 1:+.0%}; confirm less" in finding.note
