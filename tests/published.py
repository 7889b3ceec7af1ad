"""What the hub of the tests holds: tiny models, data sets of the embedded corpus as parquet, metrics as scripts. Each is made
as files by the library that would have made them, and given as path -> content."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import datasets
import torch
import transformers
from datasets import ClassLabel, Features, List, Value
from hub import PARQUET_BRANCH, Hub

from pytest_perfq.tasks import _synthetic, _vocabulary
from pytest_perfq.tasks._table import texts

DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
# What the suites of the two model cards ask for, and the former name of the first.
ANSWERING, FORMER = "distilbert/distilbert-base-uncased-distilled-squad", "distilbert-base-uncased-distilled-squad"
TAGGING = "elastic/distilbert-base-uncased-finetuned-conll03-english"
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FEATURES = {
    "squad": Features(
        id=Value("string"), title=Value("string"), context=Value("string"), question=Value("string"),
        answers={"text": List(Value("string")), "answer_start": List(Value("int32"))},
    ),
    "conll2003": Features(
        id=Value("string"), tokens=List(Value("string")),
        ner_tags=List(ClassLabel(names=["O", *(f"{at}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for at in "BI")])),
    ),
    "sst2": Features(sentence=Value("string"), label=ClassLabel(names=["negative", "positive"]), idx=Value("int32")),
}  # fmt: skip
METRIC = """
import datasets
import evaluate


class Metric(evaluate.Metric):
    def _info(self):
        features = datasets.Features(predictions=datasets.Value("int32"), references=datasets.Value("int32"))
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        {body}
"""
# Written out here, so that scikit-learn can be held against them.
KAPPA = METRIC.format(body='''
        n = len(references)
        agreed = sum(one == other for one, other in zip(predictions, references)) / n
        chance = sum(predictions.count(label) * references.count(label) for label in set(references)) / n**2
        return {"kappa": (agreed - chance) / (1 - chance), "n": n}
''')  # fmt: skip
BALANCED = METRIC.format(body='''
        recalls = []
        for label in sorted(set(references)):
            found = [one == label for one, other in zip(predictions, references) if other == label]
            recalls.append(sum(found) / len(found))
        return {"balanced": sum(recalls) / len(recalls)}
''')  # fmt: skip


def rows(name: str, split: str, most: int) -> list[dict[str, object]]:
    """The first rows of an embedded data set in the columns of FEATURES, classes as indices."""
    table = _synthetic.table(name, split)
    columns = FEATURES[name]
    assert set(columns) <= set(table.columns), (set(columns), table.columns)
    return [{column: row[column] for column in columns} for row in table.rows[:most]]


def parquet(name: str, split: str, most: int) -> bytes:
    """A split as the hub keeps it, with the features in its metadata."""
    written = io.BytesIO()
    datasets.Dataset.from_list(rows(name, split, most), features=FEATURES[name]).to_parquet(written)
    return written.getvalue()


@cache
def tokenizer(name: str) -> object:
    """A cased WordPiece tokenizer over the training texts of an embedded data set."""
    return _vocabulary.tokenizer(texts(rows(name, "train", 300)), 512)


def model(name: str, architecture: str, pickle: bool = False) -> dict[str, bytes]:
    """A repository of a model with random weights and the vocabulary of an embedded data set. architecture: a class of
    transformers. pickle: its weights as pytorch_model.bin instead of safetensors."""
    made = getattr(transformers, architecture)
    sizes = DISTILBERT if architecture.startswith("Distil") else BERT
    words, labels = tokenizer(name), classes(name)
    named = {"id2label": dict(enumerate(labels)), "label2id": {one: at for at, one in enumerate(labels)}} if labels else {}
    torch.manual_seed(3)
    module = made(made.config_class(vocab_size=len(words), max_position_embeddings=512, **sizes, **named))
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 2:
                weight.mul_(8.0)  # so that predictions differ from one example to the next
    with tempfile.TemporaryDirectory() as folder:
        module.save_pretrained(folder)
        words.save_pretrained(folder)
        if pickle:
            torch.save(module.state_dict(), Path(folder) / "pytorch_model.bin")
            (Path(folder) / "model.safetensors").unlink()
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def classes(name: str) -> list[str]:
    """Class names of a data set; empty where it has none."""
    for feature in FEATURES[name].values():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, ClassLabel):
            return list(inner.names)
    return []


def card(*configurations: str) -> bytes:
    """A README that says which configuration's files are where, as data sets of several have."""
    lines = ["---", "configs:"]
    for name in configurations:
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for split in ("train", "validation") for line in (f"  - split: {split}", f"    path: {name}/{split}-*")]
    return "\n".join([*lines, "---", ""]).encode()


def publish(hub: Hub) -> dict[str, str]:
    """Fills a hub with what is right and what is wrong in one way each; gives the commits by name."""
    tiny = model("sst2", "BertForSequenceClassification")
    data = {
        f"sst2/{split}-00000-of-00001.parquet": parquet("sst2", split, rows)
        for split, rows in (("train", 60), ("validation", 40))
    }
    plain = {path.replace("sst2/", "data/"): content for path, content in data.items()}
    commits = {
        "ours/tiny": hub.publish("models", "ours/tiny", tiny),
        "nyu-mll/glue": hub.publish("datasets", "nyu-mll/glue", data | {"README.md": card("sst2")}),
        "ours/plain": hub.publish("datasets", "ours/plain", plain),
    }
    hub.moved["former"] = "ours/tiny"
    hub.publish("models", "ours/pickled", model("sst2", "BertForSequenceClassification", pickle=True))
    hub.publish("models", "ours/headless", model("sst2", "BertModel"))
    hub.publish("datasets", "ours/script", {"README.md": b"", "script.py": b"raise RuntimeError('this must not run')"})
    hub.publish("datasets", "ours/empty", {"README.md": b"# nothing\n"})
    for name, fault in (("private", "private"), ("sick", "down"), ("dying", "dying")):
        hub.publish("models", f"ours/{name}", tiny, fault=fault)
        hub.publish("datasets", f"ours/{name}", plain, fault=fault)
    hub.publish("spaces", "evaluate-metric/kappa", {"kappa.py": KAPPA.encode()})
    hub.publish("spaces", "evaluate-metric/sick", {"sick.py": KAPPA.encode()}, fault="down")
    words = KAPPA.replace('datasets.Value("int32")', 'datasets.Sequence(datasets.Value("string"))')
    hub.publish("spaces", "evaluate-metric/words", {"words.py": words.encode()})
    return commits | _publish_cards(hub)


def _publish_cards(hub: Hub) -> dict[str, str]:
    """What the two suites of the model cards ask for, under the names they ask for: tiny weights, our own text."""
    squad = {
        f"plain_text/{split}-00000-of-00001.parquet": parquet("squad", split, rows)
        for split, rows in (("train", 100), ("validation", 1000))
    }
    conll = {f"conll2003/{split}/0000.parquet": parquet("conll2003", split, 100) for split in ("train", "validation")}
    answering = model("squad", "DistilBertForQuestionAnswering")
    tagging = model("conll2003", "DistilBertForTokenClassification")
    hub.moved[FORMER] = ANSWERING
    hub.publish("datasets", "eriktks/conll2003", {"README.md": b"", "conll2003.py": b"raise RuntimeError('not this')"})
    return {
        ANSWERING: hub.publish("models", ANSWERING, answering),
        "rajpurkar/squad": hub.publish("datasets", "rajpurkar/squad", squad | {"README.md": card("plain_text")}),
        TAGGING: hub.publish("models", TAGGING, tagging),
        "eriktks/conll2003": hub.publish("datasets", "eriktks/conll2003", conll, branch=PARQUET_BRANCH),
    }
