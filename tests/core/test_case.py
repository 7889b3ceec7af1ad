import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_perfq import Dynamic, Quantization, Static
from pytest_perfq.core.case import PADDINGS, PRECISIONS, Case
from pytest_perfq.core.quantization import CALIBRATIONS, FORMATS, GROUPS, MODES, TYPES
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import UnknownName, UsageError

NAMES = st.text("abcxyz019-_.", min_size=1, max_size=8)
VALUES = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-5, 5), st.text("abc/:", min_size=1, max_size=5))
SPECS = st.builds(
    lambda name, options: Spec(name).of(**options),
    NAMES,
    st.dictionaries(st.text("klm_", min_size=1, max_size=4), VALUES, max_size=3),
)
QUANTIZATIONS = st.one_of(
    st.none(),
    st.builds(
        Quantization,
        approach=st.sampled_from(["dynamic", "static", "aware"]),
        operators=st.lists(st.sampled_from(["MatMul", "Add", "Gemm"])).map(tuple),
        exclude=st.lists(st.sampled_from(GROUPS)).map(tuple),
        per_channel=st.booleans(),
        calibration=st.sampled_from(CALIBRATIONS),
        calibration_samples=st.integers(1, 500),
        mode=st.sampled_from([None, *MODES]),
        format=st.sampled_from(FORMATS),
        type=st.sampled_from(TYPES),
    ),
)
SIZES = st.one_of(st.tuples(st.none(), st.none()), st.tuples(st.integers(1, 64), st.integers(1, 512)))
CASES = st.builds(
    lambda size, **fields: Case(batch_size=size[0], seq_len=size[1], **fields),
    SIZES, task=SPECS, dataset=NAMES, model=NAMES, model_name=NAMES, backend=SPECS, device=st.sampled_from(["cpu", "cuda"]),
    precision=st.sampled_from(PRECISIONS), quantization=QUANTIZATIONS, padding=st.sampled_from(PADDINGS),
    samples=st.one_of(st.none(), st.integers(1, 10**6)), metrics=st.lists(NAMES, max_size=2).map(tuple),
)  # fmt: skip


def make(**fields):
    return Case(
        **{
            "task": Spec("question-answering"),
            "dataset": "squad",
            "model": "m",
            "model_name": "distilbert",
            "backend": Spec("ort"),
        }
        | fields
    )


@given(SPECS)
def test_a_spec_reads_back_from_its_text(spec):
    assert Spec.parse(str(spec)) == spec


@given(CASES)
def test_a_case_survives_json_and_keeps_its_id(case):
    back = Case.from_json(json.loads(json.dumps(case.to_json())))
    assert back == case and back.id == case.id and hash(back) == hash(case)


@given(CASES)
def test_original_and_program_are_their_own(case):
    assert case.original().is_original and case.original().original() == case.original()
    assert case.program().kind == "accuracy" and case.program().program() == case.program()
    assert case.is_original == (case.backend == Spec("eager") and case.numeric == "fp32") == (case == case.original())


@given(CASES, CASES)
def test_cases_that_differ_on_an_axis_differ_in_id(one, other):
    if one.axes() != other.axes() and one.program().task == other.program().task and one.kind == other.kind == "latency":
        shown = ("model", "backend", "device", "precision", "quantization", "padding", "batch_size", "seq_len")
        if any(one.axes()[axis] != other.axes()[axis] for axis in shown):
            assert one.id != other.id


def test_ids_are_the_documented_ones():
    case = make(quantization=Dynamic("MatMul", "Add"), batch_size=8, seq_len=128)
    assert case.id == "squad/distilbert/ort@cpu/int8-dynamic[Add,MatMul]/b8/s128"
    assert make(samples=1000).id == "squad/distilbert/ort@cpu/fp32/accuracy-n1000"
    assert make(dataset="glue/sst2", batch_size=1, seq_len=32, padding="half").id == "sst2/distilbert/ort@cpu/fp32/b1/s32/half"
    assert (
        make(dataset="synthetic", device="cuda", precision="fp16").id
        == "synthetic-question-answering/distilbert/ort@cuda/fp16/accuracy"
    )
    exclude = ["softmax", "gelu"]
    static = Static("Add", exclude=exclude, per_channel=True, calibration="percentile", percentile=99.9, calibration_samples=10)
    assert static.id == "int8-static[Add]-x[gelu,softmax]-perchannel-percentile99.9-n10"


def test_fp8_is_named_and_int8_is_written_as_it_was_before_there_was_fp8():
    eight = Dynamic("MatMul", type="fp8")
    assert make(backend=Spec("native"), device="cuda", precision="bf16", quantization=eight, samples=9).id == (
        "squad/distilbert/native@cuda/bf16-fp8-dynamic[MatMul]/accuracy-n9"
    )
    assert set(eight.to_json()) - set(Dynamic("MatMul").to_json()) == {"type"}
    assert Quantization.from_json(Dynamic("MatMul").to_json()).type == "int8"


def test_operators_in_any_order_are_one_quantization():
    assert Dynamic("MatMul", "Add") == Dynamic("Add", "MatMul", "Add")


def test_an_edited_record_is_refused_by_id():
    values = make().to_json() | {"precision": "bf16"}
    with pytest.raises(UsageError, match=r"'squad/distilbert/ort@cpu/fp32/accuracy' holds the fields of '.*bf16/accuracy'"):
        Case.from_json(values)


@pytest.mark.parametrize(
    "make_it, sentence",
    [
        (lambda: Quantization(approach="dynamc"), r"unknown quantization approach 'dynamc'; did you mean 'dynamic'\? known: aware, dynamic, static"),
        (lambda: Static(calibration="minmx"), r"unknown calibration 'minmx'; did you mean 'minmax'\?"),
        (lambda: Dynamic(type="float8"), r"unknown quantization type 'float8'; known: fp8, int8"),
        (lambda: Static(perchannel=True), r"unknown quantization field 'perchannel'; did you mean 'per_channel'\?"),
        (lambda: Quantization(aproach="dynamic"), r"unknown quantization field 'aproach'; did you mean 'approach'\?"),
        (lambda: Quantization("dynamic"), r"a quantization was given 'dynamic' without a keyword; write Dynamic\(...\) or Static\(...\)"),
        (lambda: Dynamic(["MatMul"]), r"operators holds \['MatMul'\]; give names, such as 'MatMul'"),
        (lambda: Static(calibration_samples=0), r"calibration_samples is 0; static calibration needs at least 1 example"),
        (lambda: Static(exclude="gelu"), r"exclude is the text 'gelu'; give a list of names"),
        (lambda: Static(percentile=10), r"percentile is 10; give a per cent over 50"),
        (lambda: Spec.parse("ort[opset=11"), r"cannot read 'ort\[opset=11' as a name with options"),
        (lambda: Spec.parse("ort[a=1,a=2]"), r"option 'a' stands twice"),
        (lambda: Spec.parse("ort[opst=1]").only("backend", opset=17), r"unknown option of backend ort 'opst'; did you mean 'opset'\?"),
        (lambda: Spec.parse("ort[opset=new]").only("backend", opset=17), r"option opset of backend ort is 'new'; it takes a whole number, such as 17"),
    ],
)  # fmt: skip
def test_bad_words_get_one_sentence(make_it, sentence):
    with pytest.raises(UsageError, match=sentence):
        make_it()


def test_unknown_name_offers_the_nearest():
    error = UnknownName("backend", "nativ", ["eager", "native", "ort"])
    assert str(error) == "unknown backend 'nativ'; did you mean 'native'? known: eager, native, ort"
    assert "did you mean 'CUDA'?" in str(UnknownName("provider", "cuda", ["CPU", "CUDA"]))  # letters in the wrong case
