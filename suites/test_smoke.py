"""The embedded default: a small trained BERT on generated sentences, on every backend, in about a minute.

    pytest suites/test_smoke.py --perf-gpu=auto

Needs no hub and no data. The budgets are loose enough for any machine: accuracy is what this suite gates. Times are shown
beside the original's, and promised nothing.
"""

from pytest_perfq import Budget, Dynamic, Static, Sweep

SMOKE = Sweep(
    task=["question-answering", "token-classification", "text-classification"],
    model="synthetic:bert",
    backend=["eager", "torchscript", "ort"],
    quantization=[None, Dynamic("MatMul", "Attention")],
    batch_size=[1, 8],
    seq_len=[32, 128],
    exclude=[
        # Only onnxruntime quantizes here; leaving these out keeps the report free of refusals.
        {"backend": ["eager", "torchscript"], "quantization": "int8-*"},
        # One latency shape is enough for the tasks whose program is the same encoder under another head.
        {"task": ["token-classification", "text-classification"], "kind": "latency", "batch_size": 8},
        {"task": ["token-classification", "text-classification"], "kind": "latency", "seq_len": 128},
    ],
    budgets=[
        Budget(where={"kind": "accuracy"}, min_score=0.80, max_drop=0.002),
        Budget(where={"kind": "accuracy", "quantization": "int8-*"}, max_drop=0.03),
    ],
)


@SMOKE
def test_smoke(case, perfq):
    perfq(case)


CALIBRATED = Sweep(
    task="question-answering",
    model="synthetic:bert",
    backend="ort",
    quantization=Static("MatMul", exclude=["layernorm", "gelu", "residual", "gather", "softmax"]),
    batch_size=8,
    seq_len=128,
    budgets=Budget(max_drop=0.05),
)


@CALIBRATED
def test_calibrated(case, perfq):
    perfq(case)
