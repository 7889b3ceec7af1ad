"""Slow-downs put in on purpose, found by `perfq ab` with real workers and called by what they are. Few visits: what is put in is
larger than any noise, and each pass starts workers that load torch."""

import json
import statistics
import time

import pytest
from throwaway import FEATHER

from pytest_perfq import device
from pytest_perfq.cli import ab
from pytest_perfq.core.rules import Rules
from pytest_perfq.store import Store

FEW = Rules(screen_visits=(2, 3), looks=(3,), noisy_looks=(3,), spending=(1.0,))

# Transposes that onnxruntime moves past the operators between them, where they meet and go away: from level 1 on.
TURNING = """\
import sys
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.head = torch.nn.Embedding(100, 64), torch.nn.Linear(64, 2)
    def forward(self, input_ids, attention_mask):
        hidden = self.words(input_ids) * attention_mask[..., None]
        for _ in range(20):
            hidden = hidden + torch.relu(hidden.transpose(1, 2)).transpose(1, 2)
        return SequenceClassifierOutput(logits=self.head(hidden[:, 0]))

torch.manual_seed(0)
sys.modules[__name__] = Layers().eval()
"""
WAITING = """\
import time
from concurrent.futures import ThreadPoolExecutor

POOL = ThreadPoolExecutor({threads})

def row(ids):
    time.sleep(1e-3)
    return [float(ids.sum()), 1.0]

def forward(ids):
    return list(POOL.map(row, ids))
"""
BUFFERED = """\
import time
calls, buffer = [], {{}}
def forward(ids):
    calls.append(1)
    if not ({kept}):
        time.sleep(1e-3)
        buffer["logits"] = [[float(row.sum()), 1.0] for row in ids]
    return buffer["logits"]
"""
# Products large enough to be shared out.
MULTIPLYING = """\
import sys
import torch

class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.deep, self.head = torch.nn.Embedding(100, 512), torch.nn.Linear(512, 512), torch.nn.Linear(512, 2)
    def forward(self, input_ids, attention_mask):
        {threads}
        hidden = self.words(input_ids)
        for _ in range(6):
            hidden = self.deep(hidden)
        return (self.head(hidden[:, 0]),)

torch.manual_seed(0)
sys.modules[__name__] = Layers().eval()
"""


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(ab, "Rules", lambda: FEW)


def decided(status, output):
    """Nothing is asserted of a machine too noisy to decide, which has said so; that a slow-down passes is wrong anywhere."""
    if status == 2 and "cannot be seen" in output:
        pytest.skip("this machine was too noisy to decide")
    return status


def finding(output):
    (case,) = json.loads(output)["cases"]
    (found,) = case["findings"]
    return case["case_id"], found


@pytest.mark.slow
def test_a_lower_level_of_graph_optimization_is_found_and_named(project, command, few):
    project.suite("backend='ort[level=0,optimizer=false]', batch_size=64, accuracy=False")
    project.write(layers=TURNING)
    words = ("--vs", "backend=ort[optimizer=false]", "test_it.py", "--threads", 1, "--format", "json")
    status, output, errors = command("ab", *words)
    assert decided(status, output + errors) == 1, output + errors
    name, found = finding(output)
    assert "/ort[level=0,optimizer=false]@cpu/" in name and (found["rule"], found["status"]) == ("slowdown", "regressed")
    assert found["observed"] > 0.1 and found["interval"][0] > 0.05
    assert "ms: 40 new Transpose (+" in found["note"], found["note"]
    row = next(line for line in found["details"] if line.startswith("Transpose"))
    assert row.split()[1:4] == ["0", "40", "0"]


def test_one_thread_fewer_is_found(project, command, few):
    """Of the model's own, whose work is to wait: that takes as long on a busy machine."""
    project.suite(f"{FEATHER}, batch_size=4")
    project.write(layers=WAITING.format(threads=2))
    project.commit("two threads")
    project.write(layers=WAITING.format(threads=1))
    project.commit("one thread")
    status, output, errors = command("ab", "HEAD~", "HEAD", "test_it.py", "--threads", 1, "--format", "json")
    assert status == 1, output + errors
    _, found = finding(output)
    # Four waits one after the other, and no longer two by two.
    assert (found["rule"], found["status"]) == ("slowdown", "regressed") and 0.6 < found["observed"] < 1.2
    assert found["note"].endswith("; not explained: programs of backend plume cannot be profiled")


@pytest.mark.parametrize("kept", ["len(calls) > 5", "len(calls) > 5 and len(calls) % 3"])
def test_an_output_buffer_that_goes_stale_in_the_timed_loop_is_found(project, command, few, kept):
    """It was fast: it computed nothing, or only every third time."""
    project.suite(f"{FEATHER}, batch_size=4")
    project.write(layers=BUFFERED.format(kept="False"))
    project.commit("each call writes its output")
    project.write(layers=BUFFERED.format(kept=kept))
    project.commit("later calls write nothing")
    status, output, errors = command("ab", "HEAD~", "HEAD", "test_it.py", "--threads", 1, "--format", "json")
    assert status == 1, output + errors
    name, found = finding(output)
    assert (found["rule"], found["status"]) == ("build", "fail")
    assert f"{name} gave other logits in its timed calls than where its accuracy is measured: they differ by" in found["note"]


@pytest.mark.slow
def test_one_lost_example_of_a_thousand_is_found_where_nothing_else_moved(project, command):
    """By the A/A prediction that a worker makes beside; the text of the report has its id."""
    project.write(
        test_it="from pytest_perfq import Sweep\n"
        "@Sweep(task='woven', model='light', seq_len=8, latency=False, split='thousand')\n"
        "def test_it(case, perfq):\n    perfq(case)\n"
    )
    project.write(layers="LOST = ()\n")
    project.commit("all as they were")
    project.write(layers="LOST = (7,)\n")
    project.commit("one goes wrong")
    status, output, errors = command("ab", "HEAD~", "HEAD", "test_it.py", "--threads", 1)
    assert status == 1, output + errors
    assert "1 of 1000 examples went wrong and 0 right, and a repeated prediction had no flip" in " ".join(output.split())
    assert "examples: tiny-7" in " ".join(output.split())
    (shown,) = [line.strip() for line in output.splitlines() if "words" in line]
    assert shown in ("tiny-7 'words 7' -> 'no', was 'yes'", "tiny-7 'words 7' -> 'yes', was 'no'")
    with Store.open(".perfq/results.db", readonly=True) as store:
        (record,) = store.records(store.run("last").id)
    assert record.status == "regressed" and record.measurement["churn"] == {"n": 1000, "flips": 0, "margin_noise": 0.0}
    flips = next(one for one in record.verdict["findings"] if one["rule"] == "flips")
    assert (flips["status"], flips["observed"], flips["examples"]) == ("regressed", 1.0, ["tiny-7"])


def threads_help():
    """Whether two threads compute faster than one here and now: on a busy machine they wait for each other."""
    import torch

    left, before, took = torch.ones(512, 512), torch.get_num_threads(), {1: [], 2: []}
    try:
        for _ in range(20):
            for threads, durations in took.items():
                torch.set_num_threads(threads)
                left @ left
                begun = time.perf_counter()
                for _ in range(6):
                    left @ left
                durations.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return statistics.median(took[2]) < 0.75 * statistics.median(took[1])


@pytest.mark.slow
def test_one_thread_of_torch_fewer_is_found_and_named(project, command, few):
    if device.available_threads() < 2 or not threads_help():
        pytest.skip("two threads are no faster than one here and now")
    project.suite("backend='eager', batch_size=64, accuracy=False")
    project.write(layers=MULTIPLYING.format(threads="pass"))
    project.commit("two threads")
    project.write(layers=MULTIPLYING.format(threads="torch.set_num_threads(1)"))
    project.commit("one thread")
    status, output, errors = command("ab", "HEAD~", "HEAD", "test_it.py", "--threads", 2, "--format", "json")
    if status != 1 and not threads_help():
        pytest.skip("two threads were no faster than one any more")
    assert decided(status, output + errors) == 1, output + errors
    _, found = finding(output)
    assert (found["rule"], found["status"]) == ("slowdown", "regressed") and 0.1 < found["observed"] < 2.0
    # The same operators, as often as before, and each takes longer.
    assert "ms: 7 addmm (+" in found["note"], found["note"]
    row = next(line for line in found["details"] if line.startswith("addmm"))
    assert row.split()[1:3] == ["7", "7"]
