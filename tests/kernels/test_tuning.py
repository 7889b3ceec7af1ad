"""Tuning with a clock that is given, on emulated kernels: what is timed, what is chosen, and where it is found again."""

import json

import pytest
import torch
from operands import normal, weight
from tiny_models import make_model

from pytest_perfq.errors import DataError
from pytest_perfq.kernels import choices, cuda_ops, products, reference, tuning, weights
from pytest_perfq.kernels.cuda_ops import Problem

CPU = torch.device("cpu")
UP = Problem(64, 64, 32, "float16", True, "gelu")
WHO = {"gpu": "NVIDIA H100", "torch": "2.13.0", "cublas": "13.1"}


@pytest.fixture
def poisonless():
    """mm on a CPU asks for no deterministic twin, but _addmm_activation may."""
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


class Clock:
    """Says what it was told, one call after the other, and runs each once."""

    def __init__(self, *ns):
        self.ns, self.outputs = list(ns), []

    def __call__(self, call):
        self.outputs.append(call())
        return self.ns.pop(0)


def test_the_problems_are_the_products_of_a_layer_by_bucket():
    whole = weights.read(make_model("bert", "question-answering"))
    assert tuning.problems(whole, "float16", 100) == tuple(
        Problem(rows, *kind)
        for rows in (64, 128)
        for kind in (
            (96, 32, "float16", True, "none"), (32, 32, "float16", False, "none"),
            (64, 32, "float16", True, "gelu"), (32, 64, "float16", False, "none"),
        )
    )  # fmt: skip


def test_every_way_that_serves_is_timed_and_gives_the_same(emulated, poisonless):
    """blas, cublas and the four tiles in float16; no product of ours in float32, and no epilogue for GELU by erf."""
    clock = Clock(60.0, 50.0, 30.0, 20.0, 40.0, 10.0)
    (timed,) = tuning.tune([UP], tuning.Bench(emulated, clock, CPU))
    assert timed.ns == {"blas": 60.0, "cublas": 50.0, "fused": 30.0, "fused1": 20.0, "fused2": 40.0, "fused3": 10.0}
    assert (timed.usual, timed.best, timed.saved_ns) == ("fused", "fused3", 20.0)
    for output in clock.outputs[1:]:
        torch.testing.assert_close(output, clock.outputs[0], atol=2e-2, rtol=0.0)
    (full,) = tuning.tune([UP._replace(dtype="float32")], tuning.Bench(emulated, Clock(2.0, 1.0), CPU))
    assert (list(full.ns), full.usual, full.best) == (["blas", "cublas"], "blas", "cublas")
    (relu,) = tuning.tune([UP._replace(activation="relu")], tuning.Bench(emulated, Clock(*range(9, 2, -1)), CPU))
    assert relu.usual == "epilogue" and set(relu.ns) == set(products.WAYS)


def test_a_way_that_gives_something_else_is_left_out(emulated, monkeypatch):
    wrong = dict(products.WAYS, fused2=lambda *given: products.WAYS["fused"](*given) * 1.5)
    monkeypatch.setattr(products, "WAYS", wrong)
    (timed,) = tuning.tune([UP], tuning.Bench(emulated, Clock(*[5.0] * 5), CPU))
    assert "fused2" not in timed.ns and len(timed.ns) == 5


def test_tf32_is_a_precision_of_its_own(emulated):
    """What was timed in float32 does not serve TF32, nor the other way round."""
    x, matrix = normal(3, 32), weight(32, 32)
    before = torch.backends.cuda.matmul.allow_tf32
    named = []
    try:
        for allowed in (False, True):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            named.append(cuda_ops.problem(x, matrix, None, "none").dtype)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    assert named == ["float32", "tf32"]
    (timed,) = tuning.tune([Problem(64, 32, 32, "tf32", False, "none")], tuning.Bench(emulated, Clock(2.0, 1.0), CPU))
    assert set(timed.ns) == {"blas", "cublas"}


def test_what_is_hardly_faster_is_noise():
    assert tuning.Timed(UP, {"fused": 100.0, "blas": 98.5}, "fused").best == "fused"
    assert tuning.Timed(UP, {"fused": 100.0, "blas": 97.5}, "fused").best == "blas"


@pytest.mark.parametrize("name", products.WAYS)
def test_every_way_is_the_oracles(name, emulated, poisonless):
    for activation, given in (("none", None), ("none", normal(24)), ("relu", normal(24)), ("gelu", normal(24)), ("tanh", None)):
        x, matrix = normal(5, 32).half(), weight(24, 32).half()
        bias = None if given is None else given.half()
        if products.serves(name, x, bias, activation):
            got = products.WAYS[name](emulated, x, matrix, bias, activation)
            wanted = reference.linear(x.double(), matrix.double(), None if bias is None else bias.double(), activation)
            assert got.dtype == torch.float16 and float((got.double() - wanted).abs().max()) < 4e-3
        else:
            assert name == "epilogue" and activation != "relu"


def test_torchs_library_is_as_it_was(emulated):
    before = torch.backends.cuda.preferred_blas_library()
    products.cublas(emulated, normal(2, 8), weight(3, 8), None, "none")
    assert torch.backends.cuda.preferred_blas_library() == before


def test_choices_are_found_again_by_a_packed_batch_of_the_same_bucket(tmp_path, emulated):
    slow, fast = {"fused": 2.0, "cublas": 1.0}, {"fused": 1.0, "cublas": 2.0}
    path = choices.save(tmp_path, WHO, [tuning.Timed(UP, slow, "fused")])
    choices.save(tmp_path, WHO, [tuning.Timed(UP._replace(rows=128), fast, "fused")])
    found = choices.choices(tmp_path, WHO)
    assert found == {UP: "cublas", UP._replace(rows=128): "fused"}
    assert json.loads(path.read_text())["identity"] == WHO
    assert json.loads(path.read_text())["products"][0]["ns"] == slow
    # Another GPU, or another version of a library: nothing was timed.
    assert choices.choices(tmp_path, WHO | {"cublas": "13.2"}) == choices.choices(tmp_path, WHO | {"gpu": "Tesla T4"}) == {}
    ops = cuda_ops.CudaOps(emulated, cuda_ops.ours(emulated), found)
    matrix, bias = weight(64, 32).half(), normal(64).half()
    for tokens, tuned in ((1, 1), (40, 2), (64, 3), (65, 4), (129, 4)):
        ops.linear(normal(tokens, 32).half(), matrix, bias, 64, "gelu")
        assert ops.served["tuned"] == tuned
    assert ops.served["usual"] == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "does not hold choices of perfq tune (JSONDecodeError); remove it and tune again"),
        ('{"products": [{"rows": 1}]}', "does not hold choices of perfq tune (KeyError); remove it and tune again"),
        (
            json.dumps({"products": [UP._asdict() | {"way": "magic", "usual": "blas", "ns": {}}]}),
            "chooses magic, which no product here is computed by; remove it and tune again",
        ),
    ],
)
def test_a_broken_file_is_one_sentence(text, sentence, tmp_path):
    path = choices.file_of(tmp_path, WHO)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        choices.choices(tmp_path, WHO)
    assert str(caught.value) == f"{path} {sentence}"
