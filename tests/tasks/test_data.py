"""Where examples come from, and what is said of data that is not what a task needs."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tiny_tasks import case_of, predict_of

from pytest_perfq import registry
from pytest_perfq.contracts import Resources
from pytest_perfq.errors import DataError, Unavailable, UnknownName, UsageError
from pytest_perfq.tasks import _evaluate, _hub


def examples(task, resources, dataset="synthetic", split="validation"):
    return registry.load("task", task).examples(case_of(task, dataset=dataset), split, resources)


def write(folder, columns, split="validation"):
    folder.mkdir(exist_ok=True, parents=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / f"{split}.parquet")


@pytest.fixture
def home(tmp_path):
    return Resources(cache=tmp_path / "cache", data=tmp_path / "data")


@pytest.mark.parametrize(
    ("dataset", "task", "rows", "labels"),
    [
        ("conll2003", "token-classification", 3250, 9),
        ("glue-sst2", "text-classification", 872, 2),
        ("glue/mrpc", "text-classification", 400, 2),
        ("glue-cola", "text-classification", 1301, 2),
        ("squad", "question-answering", 400, 0),
    ],
)
def test_the_real_data_sets(mirror, resources, dataset, task, rows, labels):
    found = examples(task, dataclasses.replace(resources, data=mirror), dataset)
    assert len(found.rows) == rows
    assert len(found.labels) == labels


def test_the_class_names_of_the_real_data_sets(mirror, resources):
    real = dataclasses.replace(resources, data=mirror)
    assert examples("text-classification", real, "glue-mrpc").labels == ("not_equivalent", "equivalent")
    assert examples("token-classification", real, "conll2003").labels[:3] == ("O", "B-PER", "I-PER")
    first = examples("token-classification", real, "conll2003", "train").rows[0]
    assert first["tokens"][:3] == ("EU", "rejects", "German")
    assert first["ner_tags"][:3] == ("B-ORG", "O", "B-MISC")


def test_every_real_answer_stands_where_it_is_said_to(mirror, resources):
    for row in examples("question-answering", dataclasses.replace(resources, data=mirror), "squad").rows:
        for text, start in zip(row["answers"], row["starts"], strict=True):
            assert row["context"][start : start + len(text)] == text


def test_answers_in_flat_columns(home):
    write(home.data / "flat", {
        "id": ["a"], "question": [" Who ?"], "context": ["Ada did ."],
        "answers.text": [["Ada"]], "answers.answer_start": [[0]],
    })  # fmt: skip
    row = examples("question-answering", home, "flat").rows[0]
    assert (row["answers"], row["starts"], row["question"]) == (("Ada",), (0,), "Who ?")


@pytest.mark.parametrize(
    ("task", "columns", "message"),
    [
        ("question-answering", {"question": ["q"], "text": ["t"]}, "has columns question, text; task "
         "question-answering needs question, context, answers and lacks context, answers"),
        ("token-classification", {"tokens": [["a"]]}, "needs tokens, ner_tags and lacks ner_tags"),
        ("text-classification", {"body": ["a"], "label": [0]}, "has columns body, label; task "
         r"text-classification needs label and one of: sentence1 \+ sentence2"),
        ("text-classification", {"sentence": ["a"]}, "needs sentence, label and lacks label"),
        ("text-classification", {"sentence": ["a", "b"], "label": [-1, 1]}, "example 0 of split 'validation' of 'odd' has "
         "label -1, but there are 2 classes; choose a split whose labels are published"),
        ("text-classification", {"sentence": ["a", "b"], "label": [1, None]}, "example 1 of split 'validation' of 'odd' has "
         "label None, and labels are texts, or whole numbers from 0 on; mend column 'label'"),
        ("text-classification", {"sentence": ["a", "b"], "label": [1.0, 3.8]}, "example 0 .* has label 1.0, and labels are texts"),
        ("text-classification", {"sentence": ["a", "b"], "label": ["no", None]}, "example 1 .* has label None, and those before or"),
        ("token-classification", {"tokens": [["a", "b"]], "ner_tags": [["O"]]},
         "has 2 tokens and 1 ner_tags; give one tag a token"),
        ("token-classification", {"tokens": [["a"]], "ner_tags": [[4]]}, "has ner_tag 4, but 0 tags have names"),
        ("text-classification", {"sentence": pyarrow.array([], "string"), "label": pyarrow.array([], "int64")}, "is empty"),
    ],
)  # fmt: skip
def test_data_that_is_not_what_the_task_needs(home, task, columns, message):
    write(home.data / "odd", columns)
    with pytest.raises(DataError, match=message):
        examples(task, home, "odd")


def test_labels_written_as_words(home):
    write(home.data / "words", {"sentence": ["a", "b"], "label": ["yes", "no"]})
    found = examples("text-classification", home, "words")
    assert found.labels == ("no", "yes")
    assert [row["label"] for row in found.rows] == [1, 0]


def test_labels_that_are_counted_are_those_that_the_model_was_trained_on(home):
    """Whatever names its configuration gives them; where both have names these decide."""
    write(home.data / "counted", {"sentence": ["a", "b", "c"], "label": [0, 2, 1]})
    write(home.data / "words", {"sentence": ["a", "b", "c"], "label": ["low", "mid", "top"]})
    task, config = registry.load("task", "text-classification"), SimpleNamespace(id2label={0: "top", 1: "mid", 2: "low"})
    model = SimpleNamespace(source="mine", config=config)
    logits = [{"logits": np.eye(3, dtype=np.float32)[best]} for best in (0, 2, 0)]
    answers = {}
    for name in ("counted", "words"):
        found = examples("text-classification", home, name)
        task.fits(model, found)
        case = case_of("text-classification", dataset=name)
        answers[name] = list(task.outcomes(case, model, found, found.rows, [], logits).predictions)
    assert answers == {"counted": ["0", "2", "0"], "words": ["top", "low", "top"]}
    config.id2label = {0: "top", 1: "mid"}
    with pytest.raises(UsageError, match=r"tells 2 classes apart \(top, mid\), but counted has 3 \(0, 1, 2\)"):
        task.fits(model, examples("text-classification", home, "counted"))


def test_a_data_set_that_the_mirror_lacks(home):
    write(home.data / "here", {"sentence": ["a"], "label": [0]})
    with pytest.raises(
        UsageError, match=r"data set 'owner/there' is not in the mirror .*, which holds here; add owner-there/validation.parq"
    ):
        examples("text-classification", home, "owner/there")


@pytest.mark.parametrize("name", ["glue-sst", "glue/sst", "glue-stt2", "sst2"])
def test_a_misspelt_data_set_of_the_mirror(home, name):
    write(home.data / "glue-sst2", {"sentence": ["a"], "label": [0]})
    write(home.data / "conll2003", {"sentence": ["a"], "label": [0]})
    message = (
        rf"^data set '{name}' is not in the mirror .*, which holds conll2003, glue-sst2; did you mean 'glue-sst2'\? else add "
    )
    with pytest.raises(UsageError, match=message):
        examples("text-classification", home, name)


@pytest.mark.parametrize("name", ["squad_v2", "glue-rte"])
def test_a_known_data_set_that_the_mirror_lacks_is_no_misspelling(home, name):
    write(home.data / "squad", {"sentence": ["a"], "label": [0]})
    write(home.data / "glue-rt", {"sentence": ["a"], "label": [0]})
    with pytest.raises(UsageError, match=rf"data set '{name}' is not in the mirror .*, which holds glue-rt, squad; add "):
        examples("text-classification", home, name)


def test_a_split_that_the_mirror_lacks(home):
    write(home.data / "here", {"sentence": ["a"], "label": [0]}, "train")
    with pytest.raises(DataError, match=r"data set 'here' in .* has no split 'validation'; it has train"):
        examples("text-classification", home, "here")


def test_a_torn_file(home):
    write(home.data / "torn", {"sentence": ["a"], "label": [0]})
    path = home.data / "torn" / "validation.parquet"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"torn/validation.parquet is not a parquet file that can be read .*; copy it again"):
        examples("text-classification", home, "torn")


@pytest.mark.parametrize(("name", "folder"), [("squad", "squad"), ("glue-sst2", "glue-sst2"), ("glue/sst2", "glue-sst2")])
def test_the_hub_out_of_reach(resources, monkeypatch, name, folder):
    monkeypatch.setattr(_hub, "reachable", lambda: False)
    message = (
        f"^data set '{name}' cannot be fetched: the hub is out of reach and its cache here lacks it; without the hub, "
        f"--perf-data=DIR reads DIR/{folder}/validation.parquet$"
    )
    with pytest.raises(Unavailable, match=message):
        examples("question-answering", resources, name)


def test_an_unknown_synthetic_data_set(resources):
    with pytest.raises(UnknownName, match=r"unknown synthetic data set 'sqad'; did you mean 'squad'\?"):
        examples("question-answering", resources, "synthetic:sqad")


def test_a_metric_of_the_hub_out_of_reach(loaded, resources, monkeypatch):
    monkeypatch.setattr(_hub, "reachable", lambda: False)
    case = case_of("question-answering", samples=8, metrics=("rouge",))
    task, model = loaded(case)
    found = task.examples(case, "validation", resources)
    outcomes = task.evaluate(case, model, found, predict_of(model), 8)
    with pytest.raises(
        Unavailable, match=r"^metric 'rouge' cannot be fetched: the hub is out of reach and its cache here lacks it$"
    ):
        task.scores(case, found, outcomes)


@pytest.mark.parametrize("task", ["question-answering", "token-classification", "text-classification"])
def test_evaluate_gets_predictions_and_references(loaded, resources, monkeypatch, task):
    import evaluate

    class Agreement:
        def compute(self, predictions, references):
            right = [
                one in two if isinstance(one, str) else one == two for one, two in zip(predictions, references, strict=True)
            ]
            return {"agreement": sum(right) / len(right), "count": len(right)}

    monkeypatch.setattr(_hub, "reachable", lambda: True)
    monkeypatch.setattr(evaluate, "load", lambda name: {"agreement": Agreement()}[name])
    case = case_of(task, samples=20, metrics=("agreement", "agreement:count"))
    solver, model = loaded(case)
    found = solver.examples(case, "validation", resources)
    outcomes = solver.evaluate(case, model, found, predict_of(model), 8)
    first, second = solver.scores(case, found, outcomes)
    assert (first.metric, first.formula, first.primary) == ("agreement", None, True)
    # the text must be a gold as it stands here, so normalisation cannot help: never more than the task's own count
    assert first.value <= sum(outcomes.right) / 20 if task == "question-answering" else first.value == sum(outcomes.right) / 20
    assert second.value == 20


def test_a_metric_with_several_numbers_must_be_told_which():
    assert _evaluate.pick("squad:f1", "f1", {"f1": 80.0, "exact_match": 70.0}) == 80.0
    assert _evaluate.pick("odd", "odd", {"value": 0.25}) == 0.25
    with pytest.raises(UsageError, match=r"metric 'seqeval' answers with f1, recall; name one of them as seqeval:KEY"):
        _evaluate.pick("seqeval", "seqeval", {"f1": 0.5, "recall": 0.5})
