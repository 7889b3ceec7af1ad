"""pytest runs that measure ahead of their items, end to end: passes, confirmation against a revision, another configuration."""

import re
import subprocess
import sys

import pytest

from pytest_perfq import baselines
from pytest_perfq.store import Store


@pytest.fixture
def run(project, monkeypatch):
    """Runs pytest in the project: (exit status, output). Its visits are not watched: on a busy machine they would be repeated."""
    monkeypatch.setenv("PERFQ_FAKES_CALM", "1")
    # Of all the plugins that are installed here a run needs one, and loading the others takes longer than its visits.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_perfq.plugin")

    def run(*args):
        quick = ("-p", "no:cacheprovider", "--perf-threads=1", "--perf-passes=1", *(("-p", "xdist") if "-n" in args else ()))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quick, *args], cwd=project.path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return run


# Where trials decide, the visits in passes need not be exact.
COARSE = "--perf-precision=20%"
# Both the original's way, torch in and out, and the fakes' own, which needs no torch: the workers of a trial start in a second.
LAYERS = """\
import os, sys, time
import numpy as np
class Layers:
    def parameters(self):
        return []
    def forward(self, ids):
        time.sleep(({ms} if len(ids) == 1 else {others}) / 1e3)
        return np.stack([ids.sum(-1), np.ones(len(ids))], -1).astype(np.float32)
    def __call__(self, input_ids, attention_mask):
        import torch
        return (torch.from_numpy(self.forward(input_ids.numpy())),)
sys.modules[__name__] = Layers()
open("pids", "a").write(f"{{os.getpid()}} ")
"""

# A run that is stopped, once, when its first item is judged.
STOP_ONCE = """\
from pathlib import Path
def pytest_runtest_logreport(report):
    if report.when == "call" and not Path("stopped").exists():
        Path("stopped").touch()
        raise KeyboardInterrupt
"""


def layers(project, ms, others=None):
    """The model of the project, which the original and the fakes' backend both run. others: ms of batches over one."""
    project.write(layers=LAYERS.format(ms=ms, others=ms if others is None else others))


def interrupted(project, loads):
    """A user who has seen enough when the model is loaded for this time; each pass loads it once, in a process of its own."""
    file = project.path / "layers.py"
    stop = f"if len(open('pids').read().split()) == {loads}:\n    import signal\n    os.kill(os.getppid(), signal.SIGINT)\n"
    file.write_text(file.read_text() + stop)


def records(project):
    with Store.open(project.path / ".perfq/results.db", readonly=True) as store:
        return store.records(store.runs()[0].id, latest=True)


def test_passes_visit_every_case_in_fresh_processes_and_items_under_xdist_find_it(project, run):
    project.suite("backend='plume', accuracy=False, batch_size=[1, 2]")
    layers(project, 0.5)
    status, output = run("-n", "2", "--perf-passes=2")
    assert status == 0, output
    found = records(project)
    assert [len(one.measurement["visits"]) for one in found] == [2, 2]
    for one in found:
        first, second = (visit["case"]["started_s"] for visit in one.measurement["visits"])
        assert second > first
        assert all(visit["anchor"] is not None for visit in one.measurement["visits"])
    # Each pass loads the model in a process of its own, and the items' processes never do.
    assert len(set((project.path / "pids").read_text().split())) == 2


def test_a_suspect_of_the_baseline_is_confirmed_against_a_revision(project, run):
    """And what only looks slower beside the baseline, and is the revision as it is, is cleared by the visits side by side."""
    project.suite("backend='plume', accuracy=False, batch_size=[1, 2]")
    layers(project, 2.0)
    base = project.commit("fast")
    layers(project, 2.0, others=1.0)
    assert run("--perf-save=baselines/v1", COARSE)[0] == 0
    layers(project, 6.0, others=2.0)
    status, output = run("--perf-against=baselines/v1", f"--perf-confirm={base}", COARSE)
    assert status == 1, output
    text = " ".join(output.split())
    assert re.search(rf"regressed: slow-down from the base \+\d+\.\d% \[.*\], at most \+5\.0%; against {base[:7]}", text), (
        output
    )
    assert "fresh" in text and "1 failed, 1 passed" in text
    (same,) = (one for one in records(project) if one.status == "pass")
    assert "/b2/" in same.case_id and f"against {base[:7]}" in same.verdict["findings"][0]["note"]


def test_a_configuration_is_held_against_another(project, run):
    """And a case that cannot be in that configuration is named, once, and fails nothing."""
    project.suite("backend='plume[ms=2]', accuracy=False, batch_size=[1, 2]")
    layers(project, 1.0)
    status, output = run("--perf-vs=backend=plume[does=refuse-two]", COARSE)
    text = " ".join(output.split())
    assert status == 1 and "1 failed, 1 passed" in text, output
    assert "regressed: slow-down from the base" in text and "against backend=plume[does=refuse-two], side by side" in text
    refused = "synthetic-feather/light/plume[does=refuse-two]@cpu/fp32/b2/s8"
    assert text.count(refused) == 1
    assert f"1 case is not compared: this run refuses {refused}: plume takes no such thing" in text


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--perf-confirm=main",), "--perf-confirm is 'main', but nothing nominates suspects; give --perf-against DIR as well"),
        (("--perf-vs=plume",), "'plume' names no configuration; give AXIS=VALUE, such as backend=eager, or original"),
        (("--perf-vs=backend=plum",), "unknown backend 'plum'; did you mean 'plume'?"),
        (
            ("--perf-vs=backend=plume[does=refuse-all]",),
            "--perf-vs is 'backend=plume[does=refuse-all]', and the only case is refused in that configuration: plume takes no such "
            "thing; give another configuration, or leave --perf-vs out",
        ),
        (
            ("-n", "1", "--perf-vs=backend=plume[doze=1]"),
            "--perf-vs is 'backend=plume[doze=1]', and the only case is refused in that configuration: ",
        ),
        (("--perf-passes=-1",), "--perf-passes is '-1': give a whole number, 0 for none"),
        (
            ("--perf-vs=backend=plume", "--perf-time=10s"),
            "--perf-time is '10s', which with --perf-vs is that of the whole run, and --perf-passes is 0, by which every test times "
            "its case once more and nobody keeps to it; leave one of the two out",
        ),
        (
            ("--perf-against=v1", "--perf-confirm=main"),
            "--perf-confirm is 'main', and --perf-passes=0 measures nothing that could be suspected; leave that out",
        ),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(project, run, args, sentence):
    project.suite()
    layers(project, 1)
    status, output = run("--perf-passes=0", *args)
    assert status == 4 and sentence in " ".join(output.split()), output
    # Before a run is begun, and a model loaded.
    assert not (project.path / ".perfq").exists() and not (project.path / "pids").exists()


def test_a_ctrl_c_keeps_what_was_measured_and_a_resumed_run_measures_the_rest(project, run):
    project.suite("backend='plume', accuracy=False, batch_size=[1, 2]")
    layers(project, 0.5)
    interrupted(project, 2)
    status, output = run("--perf-passes=2")
    assert status == 2, output  # pytest's own for a keyboard interrupt
    found = records(project)
    assert [len(one.measurement["visits"]) for one in found] == [1, 1]
    assert {one.verdict["findings"][0]["note"] for one in found} == {"cut off before it was judged, after 1 of 2 visits"}
    status, output = run("--perf-passes=2", "--perf-resume")
    assert status == 0, output
    last = records(project)
    assert [len(one.measurement["visits"]) for one in last] == [2, 2] and all(one.judged for one in last)
    # What was measured before counts: one more pass, which is one more process.
    assert [one.measurement["visits"][0] for one in last] == [one.measurement["visits"][0] for one in found]
    assert len((project.path / "pids").read_text().split()) == 3


def test_a_case_that_crashes_from_its_second_pass_on_fails_whatever_its_first_visit_gave(project, run):
    project.suite("backend='plume', accuracy=False")
    layers(project, 0.5)
    die = "\nimport signal\nif len(open('pids').read().split()) >= 2:\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    file = project.path / "layers.py"
    file.write_text(file.read_text() + die)
    status, output = run("--perf-passes=2")
    text = " ".join(output.split())
    assert status == 1 and "1 failed" in text, output
    assert "the worker of this run was ended by SIGKILL while asked to 'time'" in text and "(twice)" in text
    # Tried in two workers, and not once more in the process of the items.
    assert len((project.path / "pids").read_text().split()) == 3
    with Store.open(project.path / ".perfq/results.db", readonly=True) as store:
        found = store.records(store.runs()[0].id)
    # What was measured is not lost, and says what it is.
    assert [(one.status, len(one.measurement["visits"])) for one in found] == [("inconclusive", 1), ("fail", 0)]


def test_time_that_is_used_up_is_told_and_leaves_what_it_did_not_reach_undecided(project, run):
    project.suite("backend='plume', accuracy=False, batch_size=[1, 2, 3]")
    layers(project, 0.5)
    status, output = run("--perf-passes=2", "--perf-time=500ms", "--perf-save=baselines/v1")
    text = " ".join(output.split())
    assert status == 0, output
    assert "--perf-time of 0.5s is used up: 2 cases got no visit and 1 case fewer than 2; all visits of this suite" in text
    assert "2 cases: inconclusive: no time was left: give --perf-time more than 0.5s; all visits of this suite take" in text
    # Nobody timed them in the process of the items.
    assert len((project.path / "pids").read_text().split()) == 1
    assert sorted((one.status, len(one.measurement["visits"])) for one in records(project)) == [
        ("inconclusive", 0), ("inconclusive", 0), ("pass", 1),
    ]  # fmt: skip
    saved = baselines.load(project.path / "baselines/v1")
    held = [saved.get(one.case_id) for one in records(project)]
    assert [(len(one.visits), "no time was left" in (one.unmeasured or "")) for one in held] == [(1, False), *[(0, True)] * 2]


def test_a_run_cut_off_beside_another_configuration_is_resumed_with_that_comparison(project, run):
    project.suite("backend='plume[ms=2]', accuracy=False")
    layers(project, 1.0)
    interrupted(project, 3)  # as the visits side by side begin
    varied = ("--perf-passes=2", "--perf-vs=backend=plume", COARSE)
    assert run(*varied)[0] == 2
    (found,) = records(project)
    assert not found.judged and len(found.measurement["visits"]) == 2
    status, output = run(*varied, "--perf-resume")
    assert status == 1 and "against backend=plume, side by side" in " ".join(output.split()), output
    (last,) = records(project)
    assert last.judged and last.status == "regressed"
    # Its visits in passes are not made once more.
    assert last.measurement["visits"] == found.measurement["visits"]


def test_what_was_seen_side_by_side_before_a_run_was_cut_off_still_stands_when_it_is_resumed(project, run):
    project.suite("backend='plume[ms=2]', accuracy=False, batch_size=[1, 2]")
    layers(project, 1.0)
    project.write(conftest=STOP_ONCE)
    varied = ("--perf-vs=backend=plume", COARSE)
    assert run(*varied)[0] == 2
    assert sorted(one.judged for one in records(project)) == [False, True]
    status, output = run(*varied, "--perf-resume")
    text = " ".join(output.split())
    assert status == 1 and "2 failed" in text and "resumed: 1 of 2 cases had been measured before" in text, output
    assert [one.status for one in records(project)] == ["regressed", "regressed"]
