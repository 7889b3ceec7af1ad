"""Sweeps whose models, data and metrics come from a hub: one on this machine (tests/hub.py), asked over HTTP by the libraries
themselves in a process of its own, as people run it."""

import os
import re
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path

import published
import pytest
from hub import Hub
from place import ROOT, Place
from sklearn.metrics import accuracy_score, balanced_accuracy_score, cohen_kappa_score

SUITE = """
from pytest_perfq import Sweep

COMMON = {"task": "text-classification", "backend": "eager", "samples": 40}


def declare(name, **fields):
    sweep = Sweep(**COMMON | fields)

    @sweep
    def test(case, perfq):
        perfq(case)

    globals()[f"test_{name}"] = test


METRICS = ["kappa:kappa", "balanced.py", "accuracy"]
declare("good", model="ours/tiny", dataset="glue/sst2", seq_len=8, metrics=METRICS)
for model in ("former", "ours/pickled", "ours/headless", "ours/missing", "ours/private", "ours/sick", "ours/dying", "not a name"):
    declare(f"model[{model}]", model=model, dataset="glue/sst2", latency=False)
for data in ("ours/plain", "ours/plain:other", "ours/missing", "ours/private", "ours/sick", "ours/dying", "ours/script", "ours/empty"):
    declare(f"data[{data}]", model="ours/tiny", dataset=data, latency=False)
for metric in ("missing", "sick", "words", "nowhere.py"):
    declare(f"metric[{metric}]", model="ours/tiny", dataset="glue/sst2", latency=False, metrics=[metric])
declare("split", model="ours/tiny", dataset="glue/sst2", split="tset", latency=False)
"""


# One program of each model card: static INT8 of Add and MatMul without the excluded groups.
CARD = "distilbert/ort[level=1,opset=11,optimizer=false]@cpu/int8-static[Add,MatMul]-x[gather,gelu,layernorm,residual,softmax]"
CARDS = {
    "test_question_answering.py": [f"test_squad[squad/{CARD}/{rest}]" for rest in ("accuracy-n1000", "b1/s32")],
    "test_token_classification.py": [f"test_conll[conll2003/{CARD}/{rest}]" for rest in ("accuracy", "b1/s32")],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    hub, folder = Hub(), tmp_path_factory.mktemp("hub")
    server = hub.start()
    (folder / "test_it.py").write_text(SUITE)
    (folder / "balanced.py").write_text(published.BALANCED)
    yield Place(hub, folder, published.publish(hub))
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def online(place):
    """Everything in one run, since starting a process costs more than all it measures."""
    suites = ROOT / "suites"
    return place.run("test_it.py", *(f"{suites / file}::{item}" for file, items in CARDS.items() for item in items))


def end_of(run, name):
    """(outcome, message) of the one item of a test."""
    (found,) = [end for test, end in run.ends.items() if test.startswith(f"test_{name}[")]
    return found


ACCURACY, LATENCY = (f"test_good[sst2/tiny/eager@cpu/fp32/{rest}]" for rest in ("accuracy-n40", "b1/s8"))


def test_a_sweep_from_the_hub_is_measured_and_stored(online, place):
    assert online.ends[ACCURACY] == online.ends[LATENCY] == ("passed", "")
    commits = {"model_revision": place.commits["ours/tiny"], "data_revision": place.commits["nyu-mll/glue"]}
    assert online.measured[ACCURACY].facts.items() >= commits.items()
    assert online.measured[LATENCY].facts["model_revision"] == commits["model_revision"]
    assert len(online.measured[LATENCY].durations_ns()) > 0
    # Weights and rows are the published ones: the model's own forward pass on them gives the stored predictions.
    assert online.measured[ACCURACY].outcomes.predictions == predicted_by_transformers()


def predicted_by_transformers():
    """Classes of the published examples by the published model, one at a time, read by transformers alone."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    with tempfile.TemporaryDirectory() as folder:
        for name, content in published.model("sst2", "BertForSequenceClassification").items():
            (Path(folder) / name).write_bytes(content)
        module, words = BertForSequenceClassification.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = [
            module(**words(row["sentence"], return_tensors="pt")).logits for row in published.rows("sst2", "validation", 40)
        ]
    return tuple(("negative", "positive")[int(one.argmax())] for one in logits)


def test_metrics_of_evaluate_are_scikit_learns(online):
    """One from the hub by its name, one from a script beside the suite, one built in."""
    scores = {score.metric: score.value for score in online.measured[ACCURACY].scores}
    found = [("negative", "positive").index(name) for name in online.measured[ACCURACY].outcomes.predictions]
    gold = [row["label"] for row in published.rows("sst2", "validation", 40)]
    assert 0 < sum(found) < 40
    assert scores["kappa:kappa"] == pytest.approx(cohen_kappa_score(gold, found), abs=1e-9)
    assert scores["balanced.py"] == pytest.approx(balanced_accuracy_score(gold, found), abs=1e-9)
    assert scores["accuracy"] == pytest.approx(accuracy_score(gold, found), abs=1e-9)


def test_a_renamed_model_is_found_under_its_former_name(online, place):
    assert end_of(online, "model[former]") == ("passed", "")
    (name,) = [name for name in online.measured if name.startswith("test_model[former]")]
    assert online.measured[name].facts["model_revision"] == place.commits["ours/tiny"]


def test_files_that_run_code_are_not_even_fetched(online):
    fetched = [
        line.split("/resolve/")[1].partition("/")[2] for line in online.asked if line.startswith("GET") and "/resolve/" in line
    ]
    assert "model.safetensors" in fetched and not [name for name in fetched if name.endswith(".bin")]


LOG_IN = "to this account; check the name or log in with `hf auth login`"
LACKS = r", and its cache here lacks it"
MIRROR = "; without the hub, --perf-data=DIR reads DIR/.*"


@pytest.mark.parametrize(
    ("name", "outcome", "message"),
    [
        ("model[ours/pickled]", "failure", r"model 'ours/pickled' has no safetensors weights \(pickle files: not fetched\); .*"),
        ("model[ours/headless]", "failure", r"model 'ours/headless' is a BertModel, but task text-classification needs a .*"),
        ("model[ours/missing]", "failure", f"the hub shows no model 'ours/missing' {LOG_IN}"),
        ("model[ours/private]", "failure", f"the hub shows no model 'ours/private' {LOG_IN}"),
        ("model[ours/sick]", "skipped", rf"model 'ours/sick' cannot be fetched: Server error '500 .*{LACKS}"),
        ("model[ours/dying]", "skipped", rf"model 'ours/dying' cannot be fetched: .*{LACKS}"),
        ("model[not a name]", "failure", r"model 'not a name' is neither here nor a name that the hub could have: .*"),
        ("data[ours/plain:other]", "failure", r"data set .* cannot be loaded from the hub: .*'other' not found. Available: .*"),
        ("data[ours/missing]", "failure", f"the hub shows no data set 'ours/missing' {LOG_IN}"),
        ("data[ours/private]", "failure", f"the hub shows no data set 'ours/private' {LOG_IN}"),
        ("data[ours/sick]", "skipped", rf"data set 'ours/sick' cannot be fetched: Server error '500 .*{LACKS}{MIRROR}"),
        ("data[ours/dying]", "skipped", rf"data set 'ours/dying' cannot be fetched: .*{LACKS}{MIRROR}"),
        ("data[ours/script]", "failure", r"data set 'ours/script' is a script at the hub, .* DIR/ours-script/validation.parquet, .*"),
        ("data[ours/empty]", "failure", r"data set 'ours/empty' cannot be loaded from the hub: .* doesn't contain any data files"),
        ("split", "failure", r"data set 'glue/sst2' cannot be loaded from the hub: Unknown split .tset.*"),
        ("metric[missing]", "failure", f"the hub shows no metric 'missing' {LOG_IN}"),
        ("metric[sick]", "skipped", rf"metric 'sick' cannot be fetched: Server error '500 .*{LACKS}"),
        ("metric[words]", "failure", r"metric 'words' cannot be computed from what task text-classification predicts: .*another metric"),
        ("metric[nowhere.py]", "failure", r"metric script 'nowhere.py' does not exist; give a script, or a name that the hub .*"),
    ],
)  # fmt: skip
def test_what_the_hub_does_not_give_is_told_in_one_sentence(online, name, outcome, message):
    found, said = end_of(online, name)
    assert found == outcome
    assert re.fullmatch((r"Failed: usage error: " if outcome == "failure" else "unavailable: ") + message, said), said


def test_the_second_run_needs_no_hub(online, place):
    again = place.run("test_it.py", "-k", "good or former or plain or missing", HF_HUB_OFFLINE="1")
    assert again.asked == []
    passed = [name for name, end in online.ends.items() if end[0] == "passed" and name not in chain(*CARDS.values())]
    assert len(passed) == 4
    for name in passed:
        assert again.ends[name] == ("passed", "")
        assert again.measured[name].scores == online.measured[name].scores
        assert again.measured[name].facts == online.measured[name].facts
    for name, what in (("model", "model"), ("data", "data set"), ("metric", "metric")):
        missing = "missing" if name == "metric" else "ours/missing"
        outcome, said = end_of(again, f"{name}[{missing}]")
        absent = f"unavailable: {what} '{missing}' cannot be fetched: the hub is out of reach and its cache here lacks it"
        assert (outcome, said.partition("; without")[0]) == ("skipped", absent)


def test_the_suites_of_the_model_cards_run_under_the_names_they_ask_for(online, place):
    assert {end for file in CARDS.values() for end in map(online.ends.get, file)} == {("passed", "")}
    for (accuracy, latency), model, data, examples in zip(
        CARDS.values(),
        (published.ANSWERING, published.TAGGING),
        ("rajpurkar/squad", "eriktks/conll2003"),
        (1000, 100),
        strict=True,
    ):
        found = online.measured[accuracy]
        assert found.facts["model_revision"] == online.measured[latency].facts["model_revision"] == place.commits[model]
        assert found.facts["data_revision"] == place.commits[data]
        assert {score.n for score in found.scores} == {examples} == {len(found.outcomes.predictions)}
        assert found.facts["quantized_nodes"] > 0
        assert online.measured[latency].durations_ns("original")


def test_tags_of_the_hub_are_scored_as_seqeval_does(online):
    from seqeval.metrics import f1_score

    found = online.measured[CARDS["test_token_classification.py"][0]]
    names = published.classes("conll2003")
    gold = [[names[tag] for tag in row["ner_tags"]] for row in published.rows("conll2003", "validation", 100)]
    predicted = [text.split() for text in found.outcomes.predictions]
    assert found.score("f1").value == pytest.approx(f1_score(gold, predicted), abs=1e-9)


def test_a_token_shows_what_is_private_and_pickle_files_come_when_allowed(place):
    """In one process that loads no framework."""
    script = "from pytest_perfq.tasks import _hub; print(_hub.folder('ours/private', False), _hub.folder('ours/pickled', True))"
    environment = {"HF_ENDPOINT": place.hub.url, "HF_HOME": str(place.folder / "other"), "HF_TOKEN": place.hub.token}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
    )
    private, pickled = map(Path, done.stdout.split())
    assert private.name == place.commits["ours/tiny"] and (private / "model.safetensors").is_file()
    assert (pickled / "pytorch_model.bin").is_file() and not list(pickled.glob("*.safetensors"))
