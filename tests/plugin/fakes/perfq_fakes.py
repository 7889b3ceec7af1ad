"""A package outside, as somebody would write one: a task whose model is tiny, and backends with one thing wrong each.

Found through real entry points (the dist-info beside this file), so the tests also hold for third-party packages.
"""

import os
import time
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from pytest_perfq.backends.eager import BACKEND as EAGER
from pytest_perfq.contracts import Batch, Examples, Model
from pytest_perfq.core import scores
from pytest_perfq.core.measurement import Outcomes, Score
from pytest_perfq.errors import BuildError, Unavailable

LABELLED = 40


def _module():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    config._attn_implementation = "eager"
    return BertForSequenceClassification(config).eval()


class Vocabulary:
    """What latency inputs ask of a tokenizer."""

    all_special_ids = (0, 1, 2, 3, 4)
    pad_token_id = 0

    def __len__(self):
        return 100


class Tiny:
    """Two labels on random token ids; the labels are what the fp32 eager model says, but for every tenth example."""

    name = "tiny"
    metrics = ("accuracy",)

    def load_model(self, case, resources):
        module = _module()
        if os.path.exists(os.environ.get("PERFQ_FAKES_DAMAGE", "")):  # as a broken checkpoint under the same name would be
            with torch.no_grad():
                module.classifier.weight.neg_()
        inputs = ("input_ids", "attention_mask", "token_type_ids")
        return Model(module, Vocabulary(), module.config, case.model, case.model, inputs, ("logits",), 64, 100, 40_000)

    def examples(self, case, split, resources):
        generator = np.random.default_rng(3)
        ids = generator.integers(5, 100, size=(LABELLED, 12))
        logits = self._logits(_module(), ids)
        flip = np.arange(LABELLED) % 10 == 0
        labels = np.where(flip, 1 - logits.argmax(-1), logits.argmax(-1))
        rows = [
            {"ids": row, "label": int(label), "id": f"tiny-{at}", "sentence": f"words {at}"}
            for at, (row, label) in enumerate(zip(ids, labels, strict=True))
        ]
        return Examples("tiny", split, rows[: case.samples], "tiny", ("no", "yes"))

    @staticmethod
    def _logits(module, ids):
        with torch.inference_mode():
            return module(input_ids=torch.from_numpy(ids)).logits.numpy()

    def batches(self, case, model, examples, batch_size):
        for start in range(0, len(examples.rows), batch_size):
            ids = np.stack([row["ids"] for row in examples.rows[start : start + batch_size]]).astype(np.int64)
            arrays = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
            yield Batch(arrays, (ids.shape[1],) * len(ids))

    def evaluate(self, case, model, examples, predict, batch_size):
        logits = np.concatenate([predict(batch)["logits"] for batch in self.batches(case, model, examples, batch_size)])
        predicted = logits.argmax(-1)
        right = tuple(float(one == row["label"]) for one, row in zip(predicted, examples.rows, strict=True))
        margins = tuple(float(np.float16(abs(one[0] - one[1]))) for one in logits)
        names = tuple(examples.labels[one] for one in predicted)
        return Outcomes(tuple(f"tiny-{index}" for index in range(len(right))), names, margins, {"right": right})

    def scores(self, case, examples, outcomes):
        value = scores.score("mean:right", outcomes.columns)
        return (Score("accuracy", value, len(outcomes.ids), "mean:right", primary=True),)

    def token_lengths(self, case, model, examples):
        return (12,) * len(examples.rows)


class Wrapped:
    """The eager backend under another name."""

    name = "wrapped"

    def refuses(self, case):
        return []

    def build(self, case, model, resources, calibration):
        return EAGER.build(case, model, resources, calibration)


class Slow(Wrapped):
    """Sleeps some milliseconds in every call: `slow[ms=5]`, or what the file named by PERFQ_FAKES_MS says. Declares its
    option in perfq_light.py."""

    def build(self, case, model, resources, calibration):
        program, path = super().build(case, model, resources, calibration), os.environ.get("PERFQ_FAKES_MS")
        seconds = float(Path(path).read_text() if path else case.backend.only("backend", ms=2)["ms"]) / 1e3
        run = program.run
        program.run = lambda feed: time.sleep(seconds) or run(feed)
        return program


class Wrong(Wrapped):
    """Gives every logit with the other sign."""

    def build(self, case, model, resources, calibration):
        program = super().build(case, model, resources, calibration)
        fetch = program.fetch
        program.fetch = lambda output: {name: -values for name, values in fetch(output).items()}
        return program


class Nan(Wrapped):
    def build(self, case, model, resources, calibration):
        program = super().build(case, model, resources, calibration)
        fetch = program.fetch
        program.fetch = lambda output: {name: values * np.nan for name, values in fetch(output).items()}
        return program


class Broken(Wrapped):
    def build(self, case, model, resources, calibration):
        raise BuildError("the compiler found no registers; give it some")


class Hungry(Wrapped):
    def build(self, case, model, resources, calibration):
        raise MemoryError("cannot have 9 TiB")


class Away(Wrapped):
    def build(self, case, model, resources, calibration):
        raise Unavailable("org/model cannot be fetched: no network")


class Choosy(Wrapped):
    def refuses(self, case):
        return ["choosy takes no batch over 1"] if (case.batch_size or 1) > 1 else []


class Crash(Wrapped):
    def build(self, case, model, resources, calibration):
        return 1 // 0


class Idle(Wrapped):
    """Says that it quantized nothing, as onnxruntime may."""

    def build(self, case, model, resources, calibration):
        program = EAGER.build(case.original(), model, resources, calibration)
        program.facts = {**program.facts, "quantized_nodes": 0}
        return program


class Picky(Wrapped):
    """Declares no options, so that nobody knows them before it is asked; takes one when it is told to."""

    def refuses(self, case):
        case.backend.only("backend", **({"colour": "blue"} if os.environ.get("PERFQ_FAKES_COLOUR") else {}))
        return []


class Flaky(Wrapped):
    """Wrong in the first process run that asks, right from then on: the folder of the store remembers."""

    def build(self, case, model, resources, calibration):
        mark = Path(os.environ["PERFQ_FAKES_MARK"])
        if mark.exists():
            return super().build(case, model, resources, calibration)
        mark.write_text("asked")
        raise BuildError("not the first time")


CRASH, IDLE, PICKY = Crash(), Idle(), Picky()
TINY, SLOW, WRONG, BROKEN, NAN, HUNGRY, AWAY, CHOOSY, FLAKY = (
    Tiny(), Slow(), Wrong(), Broken(), Nan(), Hungry(), Away(), Choosy(), Flaky(),
)  # fmt: skip
