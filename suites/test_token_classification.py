"""Token classification, as the DistilBERT CoNLL-2003 model card measured it: dynamic and static INT8 of Add, and of Add
and MatMul, each with and without the five groups of excluded nodes, opset 11, graph optimization level 1, the whole
validation split, batch 1, 4, 8 x length 32, 64, 128, 15 seconds a configuration.

    pytest suites/test_token_classification.py --perf-gpu=t4
    pytest suites/test_token_classification.py -k synthetic --perf-time=1s

The first sweep needs the hub; the second is the same on a small model that is trained here at first use.
"""

from model_card import AXES

from pytest_perfq import Budget, Sweep

AXES = {"task": "token-classification", **AXES}

CONLL = Sweep(
    model={"distilbert": "elastic/distilbert-base-uncased-finetuned-conll03-english"},
    dataset="conll2003",
    metrics=["f1", "precision", "recall", "accuracy"],
    budgets=[
        Budget(where={"kind": "accuracy"}, max_drop=0.001),
        # The card: 0.938 of 0.940 for dynamic.
        Budget(where={"kind": "accuracy", "quantization": "int8-dynamic*"}, max_drop=0.005),
        # The card: 0.912 with exclusion; 0.103 and 0.076 without, a collapse that this suite expects and only reports.
        Budget(where={"kind": "accuracy", "quantization": "int8-static*x[*"}, max_drop=0.04),
        Budget(where={"kind": "accuracy", "quantization": ["int8-static[Add,MatMul]", "int8-static[Add]"]}, max_drop=1.0),
    ],
    **AXES,
)


@CONLL
def test_conll(case, perfq):
    perfq(case)


SYNTHETIC = Sweep(model="synthetic:distilbert", dataset="synthetic", budgets=Budget(min_score=0.0), **AXES)


@SYNTHETIC
def test_synthetic(case, perfq):
    """Carries no promise about quantized accuracy: it shows what each choice of the card does to a small model."""
    perfq(case)
