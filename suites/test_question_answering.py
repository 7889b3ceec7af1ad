"""Question answering, as the DistilBERT SQuAD model card measured it: dynamic and static INT8 of Add, and of Add and
MatMul, each with and without the five groups of excluded nodes, opset 11, graph optimization level 1, 1,000 validation
questions, batch 1, 4, 8 x length 32, 64, 128, 15 seconds a configuration.

    pytest suites/test_question_answering.py --perf-gpu=t4
    pytest suites/test_question_answering.py -k synthetic --perf-time=1s

The first sweep needs the hub; the second is the same on a small model that is trained here at first use.
"""

from model_card import AXES

from pytest_perfq import Budget, Sweep

AXES = {"task": "question-answering", "samples": 1000, **AXES}

SQUAD = Sweep(
    model={"distilbert": "distilbert-base-uncased-distilled-squad"},
    dataset="squad",
    budgets=[
        Budget(where={"kind": "accuracy"}, metric="f1", max_drop=0.001),
        # The card's own optimized rows, dynamic: 86.097 of 87.232.
        Budget(where={"kind": "accuracy", "quantization": "int8-dynamic*"}, metric="f1", max_drop=0.015),
        # Static loses much on this model, and without exclusion nearly all: reported, and only a broken one fails.
        Budget(where={"kind": "accuracy", "quantization": "int8-static*"}, metric="f1", max_drop=0.30),
    ],
    **AXES,
)


@SQUAD
def test_squad(case, perfq):
    perfq(case)


SYNTHETIC = Sweep(model="synthetic:distilbert", dataset="synthetic", budgets=Budget(min_score=0.0), **AXES)


@SYNTHETIC
def test_synthetic(case, perfq):
    """Carries no promise about quantized accuracy: it shows what each choice of the card does to a small model."""
    perfq(case)
