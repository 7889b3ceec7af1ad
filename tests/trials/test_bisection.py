"""The search for the first bad commit: git's own choice of commits, with scripted decisions, then one with real workers."""

import math

import pytest

from pytest_perfq.cli.bisect import Held, report
from pytest_perfq.core.finding import Finding, Verdict
from pytest_perfq.core.rules import RULES
from pytest_perfq.errors import UsageError
from pytest_perfq.store import Store
from pytest_perfq.trials.bisection import Bisection, ends

CASE = "synthetic-feather/light/plume@cpu/fp32/b1/s8"


@pytest.fixture
def commits(project):
    """Eight commits in a line, the first one good and the last one bad."""
    return [project.commit(f"commit {number}") for number in range(8)]


def searched(project, good, bad, decide):
    found = Bisection(project.path, good, bad, decide)
    found.run()
    return found


def untouched(project):
    assert project.git("worktree", "list").count("\n") == 0 and project.git("status", "--porcelain") == ""
    assert project.git("rev-parse", "--abbrev-ref", "HEAD") == "main" and project.git("for-each-ref", "refs/bisect") == ""


@pytest.mark.parametrize("first", range(1, 8))
def test_the_first_bad_commit_is_found_in_as_many_steps_as_halving_takes(project, commits, first):
    found = searched(
        project, commits[0], commits[-1], lambda one: ("bad" if commits.index(one) >= first else "good", "as told")
    )
    assert found.first == commits[first]
    assert math.floor(math.log2(7)) <= len(found.steps) <= math.ceil(math.log2(7))
    assert {(step.subject, step.why) for step in found.steps} <= {(f"commit {number}", "as told") for number in range(1, 7)}
    assert str(found.steps[0]).startswith(f"{found.steps[0].answer:<9} {found.steps[0].commit[:10]} commit ")
    untouched(project)


def test_a_commit_that_cannot_be_measured_is_gone_around(project, commits):
    def decide(one):
        number = commits.index(one)
        return ("skip", "does not build") if number in (3, 4) else ("bad" if number >= 6 else "good", "")

    assert searched(project, commits[0], commits[-1], decide).first == commits[6]


def test_where_only_skipped_commits_are_left_they_are_named(project, commits):
    def decide(one):
        number = commits.index(one)
        return ("skip", "does not build") if number in (3, 4) else ("bad" if number >= 4 else "good", "")

    found = searched(project, commits[0], commits[-1], decide)
    assert found.first is None and found.left == [commits[5], commits[4], commits[3]]
    untouched(project)


def test_a_commit_that_stays_undecided_ends_the_search_with_what_is_left(project, commits):
    asked = []

    def decide(one):
        asked.append(one)
        return ("bad", "") if len(asked) == 1 else ("undecided", "too noisy")

    found = searched(project, commits[0], commits[-1], decide)
    assert found.first is None and [step.answer for step in found.steps] == ["bad", "undecided"]
    # Everything up to the commit that was bad, the latest first.
    assert found.left == commits[1 : commits.index(asked[0]) + 1][::-1]


def test_a_side_branch_is_searched_too(project):
    good = project.commit("good")
    project.git("checkout", "-q", "-b", "side")
    side = [project.commit(f"side {number}") for number in range(3)]
    project.git("checkout", "-q", "main")
    project.commit("main 1")
    project.git("merge", "-q", "--no-ff", "-m", "merge", "side")
    bad = project.git("rev-parse", "HEAD")
    slow = {side[1], side[2], bad}
    assert searched(project, good, bad, lambda one: ("bad" if one in slow else "good", "")).first == side[1]
    untouched(project)


def test_the_commit_after_the_good_one_needs_no_step(project, commits):
    found = searched(project, commits[0], commits[1], None)
    assert found.first == commits[1] and found.steps == []


def test_a_search_that_breaks_off_leaves_no_tree_behind(project, commits):
    def decide(one):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(project, commits[0], commits[-1], decide)
    untouched(project)


def test_a_bisection_of_the_users_own_goes_on(project, commits):
    project.git("bisect", "start", commits[-1], commits[0])
    before = project.git("bisect", "log")
    assert searched(project, commits[0], commits[-1], lambda one: ("bad", "")).first == commits[1]
    assert project.git("bisect", "log") == before


def test_ends_that_enclose_nothing_are_one_sentence(project, commits):
    assert ends(project.path, "HEAD~7", "main") == (commits[0], commits[7])
    with pytest.raises(UsageError, match="HEAD~2 comes before main; give the good revision first, then the bad one"):
        ends(project.path, "main", "HEAD~2")
    with pytest.raises(UsageError, match=r"HEAD and main are the same revision .*give one before and one after the change"):
        ends(project.path, "HEAD", "main")
    project.git("checkout", "-q", "-b", "other", "HEAD~3")
    project.commit("elsewhere")
    with pytest.raises(UsageError, match=rf"other is no ancestor of main; the last commit that both have is {commits[4][:10]}"):
        ends(project.path, "other", "main")
    with pytest.raises(UsageError, match="there is no revision 'gone'"):
        ends(project.path, "gone", "main")


@pytest.mark.slow
def test_a_real_slow_down_is_tracked_to_its_commit(project, command):
    project.suite()
    project.layers(2.0)
    project.commit("begin")
    project.write(notes="X = 1")
    project.commit("take notes")
    project.layers(2.9)
    slow = project.commit("say everything twice")
    status, output, errors = command("bisect", CASE, "HEAD~2", "HEAD", "--threads", 1)
    assert status == 0, output + errors
    lines = output.splitlines()
    assert lines[:2] == [f"first bad commit of {CASE}:", f"  {slow[:10]} say everything twice"]
    # Both medians, the change and its interval: 2.9 over 2 ms, and a little for every sleep.
    was, now = (float(part.split()[0]) for part in lines[2].split(",")[0].split(" -> "))
    change = float(lines[2].split(",")[1].split("%")[0]) / 100
    assert 2.0 < was < now and change == pytest.approx(now / was - 1, abs=0.1) and 0.25 < change < 0.55 and "[+" in lines[2]
    assert lines[3] == "steps:" and lines[4].startswith(f"  bad       {slow[:10]} say everything twice: ")
    assert len(lines) == 7 and lines[5].startswith("  good      ") and " take notes: " in lines[5]
    # What was measured is in the store, a run a commit, and no step of the course of time.
    with Store.open(".perfq/results.db", readonly=True) as store:
        runs = store.runs()[::-1]
        found = [store.records(run.id, latest=True)[0] for run in runs]
        assert {one.looked_back for one in store.history(CASE)} == {True}
    assert lines[6] == f"kept as runs {runs[0].id}, {runs[1].id}; see one with: perfq report {runs[1].id}"
    assert [one.status for one in found] == ["regressed", "pass"] and all(run.finished_s is not None for run in runs)
    assert [run.revision for run in runs] == [slow, project.git("rev-parse", "HEAD~")]
    assert len(found[0].measurement["visits"]) == 8
    assert runs[0].settings["trial"] == {
        "base": project.git("rev-parse", "HEAD~2")[:10], "candidate": slow[:10], "vs": None, "bisect": CASE,
    }  # fmt: skip


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["no/such/case", "HEAD~", "HEAD"], f"unknown case 'no/such/case'; known: {CASE}"),
        ([CASE, "HEAD", "HEAD~"], "HEAD~ comes before HEAD; give the good revision first, then the bad one"),
        ([CASE, "HEAD~", "HEAD"], f"HEAD cannot be measured: unknown case '{CASE}'"),
        ([CASE, "HEAD~", "HEAD", "--time", "soon"], "--time is 'soon': give a duration over zero"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(project, command, words, sentence):
    project.suite()
    project.layers(1.0)
    project.commit("one")
    project.suite("backend='plume', batch_size=2, accuracy=False")
    project.commit("the case is gone")
    status, _, errors = command("bisect", *words)
    assert status == 3 and sentence in errors


def test_an_undecided_search_says_why_and_what_is_left(project, commits):
    answers = iter([("good", "2.00 ms -> 2.01 ms"), ("undecided", "a slow-down under 9.0% cannot be seen with 32 visits")])
    found = searched(project, commits[0], commits[-1], lambda one: next(answers))
    lines = report(found, lambda one: "2.00 ms -> 2.20 ms, +10.0%", CASE).splitlines()
    assert lines[0] == "undecided: a slow-down under 9.0% cannot be seen with 32 visits"
    assert lines[1] == f"the first bad commit of {CASE} is one of {len(found.left)}:"
    assert lines[2] == f"  {commits[-1][:10]} commit 7" and lines[2 + len(found.left)] == "steps:"
    assert lines[-3:] == [
        f"  bad       {commits[-1][:10]} commit 7: 2.00 ms -> 2.20 ms, +10.0%",
        *(f"  {step}" for step in found.steps),
    ]


def test_what_a_step_must_lack_follows_from_what_was_found(project):
    """Half of the bad revision's slow-down, never under the floor; the chance of a false alarm is shared among the steps."""
    held = Held(None, None, {}, (), None, None, None, None)
    for observed, effect in ((0.4, 0.05), (0.06, 0.03), (0.012, 0.015)):
        held.found["x"] = None, Verdict(CASE, (Finding(rule="slowdown", status="regressed", observed=observed),))
        held.sharpen("x", 4)
        assert held.rules.effect == pytest.approx(effect) and held.rules.alpha == pytest.approx(RULES.alpha / 4)
