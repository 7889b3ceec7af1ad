"""eager, torchscript and compile: what is refused in which words, what fails in which words, and what close gives back."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from tiny_models import eager_logits, make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import _check, _refusals, _torch
from pytest_perfq.contracts import Model, Resources
from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.errors import BuildError, ProgramError, UsageError

TORCH = ["eager", "torchscript", "compile"]


def build(name, model, resources, **fields):
    return registry.load("backend", name).build(make_case(name, **fields), model, resources, no_calibration)


@pytest.mark.parametrize("name", TORCH)
def test_no_quantization_and_one_device(name, monkeypatch):
    backend = registry.load("backend", name)
    assert backend.refuses(make_case(name)) == []
    assert backend.refuses(make_case(name, quantization=Dynamic("MatMul"))) == [
        f"{name} runs in floating point and cannot do int8-dynamic[MatMul]: backend ort can"
    ]
    assert backend.refuses(make_case(name, tp=2)) == [f"{name} runs on one device; tp=2 and pp=1 were asked for: set both to 1"]
    with pytest.raises(UsageError, match="unknown option of backend"):
        backend.refuses(make_case(f"{name}[fast]"))


@pytest.mark.parametrize(
    ("precision", "flags", "reason"),
    [
        ("fp32", set(), None),
        ("tf32", set(), "tf32 is a mode of NVIDIA's tensor cores and no CPU has it: use precision fp32 or device cuda"),
        ("fp16", {"avx512_bf16"}, "fp16 on a CPU is emulated or no faster than fp32: use precision fp32 or device cuda"),
        ("bf16", {"avx2"}, "bf16 needs one of amx_bf16, avx512_bf16, bf16 and this CPU has none, so it would be emulated: use"),
        ("bf16", {"avx512_bf16"}, None),
        ("bf16", {"amx_bf16"}, None),
    ],
)
def test_what_a_cpu_computes(precision, flags, reason):
    reasons = _refusals.cpu_precision(make_case("eager", precision=precision), frozenset(flags))
    assert [one.startswith(reason or "?") for one in reasons] == ([True] if reason else [])


def test_flags_are_read_on_x86_and_arm(tmp_path):
    x86, arm = tmp_path / "x86", tmp_path / "arm"
    x86.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu\n")
    arm.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert _refusals.cpu_flags(str(x86)) == {"fpu", "avx2", "avx512_bf16"}
    assert _refusals.cpu_flags(str(arm)) == {"fp", "asimd", "bf16"}
    assert _refusals.cpu_flags(str(tmp_path / "none")) == frozenset()


def test_cuda_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert _torch.cuda_refusals("fp32") == [
        f"device cuda needs a CUDA build of PyTorch; {torch.__version__} is not one: install one or use device cpu"
    ]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (
        "finds no CUDA device: check nvidia-smi and CUDA_VISIBLE_DEVICES or use device cpu" in _torch.cuda_refusals("fp32")[0]
    )


@pytest.mark.parametrize(
    ("capability", "refused"),
    [((7, 5), {"tf32", "bf16"}), ((7, 0), {"tf32", "bf16"}), ((8, 6), set()), ((5, 2), {"fp16", "tf32", "bf16"})],
    ids=["T4", "V100", "A10", "M40"],
)
def test_what_a_gpu_computes(capability, refused, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    reasons = {precision: _torch.cuda_refusals(precision) for precision in _torch.DTYPES}
    assert {precision for precision, reason in reasons.items() if reason} == refused
    if refused:
        has = f"a GPU has {capability[0]}.{capability[1]}"
        assert reasons["bf16"] == [f"bf16 needs compute capability 8.0; {has}: use precision fp32"]


def test_tf32_is_set_inside_and_restored_outside():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    for wanted in (True, False):
        with _torch.Tf32(wanted):
            assert (matmul.allow_tf32, cudnn.allow_tf32) == (wanted, wanted)
        assert (matmul.allow_tf32, cudnn.allow_tf32) == before


def test_threads_are_set_by_build(bert, tmp_path):
    before = torch.get_num_threads()
    try:
        program = build("eager", bert, Resources(cache=tmp_path, threads=1))
        assert (torch.get_num_threads(), program.facts["threads"]) == (1, 1)
        build("eager", bert, Resources(cache=tmp_path, threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_original_is_the_loaded_module_and_gives_its_bits(bert, resources):
    program = build("eager", bert, resources)
    batch = make_batch(bert, (20, 7), 24)
    wanted = eager_logits(bert, batch)
    for name, logits in program.predict(batch).items():
        np.testing.assert_array_equal(logits, wanted[name])
    assert program.bytes == bert.bytes


def test_a_closed_program_says_so_and_frees_its_graph(bert, resources):
    program = build("torchscript", bert, resources)
    feed = program.feed(make_batch(bert, (5,), 5))
    graph = weakref.ref(program._call)
    program.close()
    gc.collect()
    assert graph() is None
    with pytest.raises(ProgramError, match="this program was closed; build it again"):
        program.run(feed)


class Hungry(torch.nn.Module):
    """Asks for more memory than any machine has, or fails in another way."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def forward(self, **inputs):
        if self.error is not None:
            raise self.error
        return torch.empty(10**15)


def _model(module) -> Model:
    whole = make_model("bert", "question-answering")
    return Model(module, None, whole.config, "key", "tiny:hungry", whole.inputs, whole.outputs, 64, 120, 4)


@pytest.mark.parametrize("error", [None, MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_out_of_memory_names_the_batch_and_what_is_free(error, resources):
    model = _model(Hungry(error))
    program = build("eager", model, resources)
    with pytest.raises(ProgramError) as caught:
        program.run(program.feed(make_batch(model, (5, 5), 8)))
    start, _, advice = str(caught.value).partition("; ")
    assert start.startswith("out of memory on cpu while running a batch of 2 x 8: ") and start.endswith(" GiB are free")
    assert advice == "use a smaller batch_size or seq_len"


def test_other_failures_stay_what_they_are(resources):
    program = build("eager", _model(Hungry(RuntimeError("index out of range in self"))), resources)
    with pytest.raises(RuntimeError, match="index out of range in self"):
        program.run(program.feed(make_batch(_model(None), (5,), 5)))


def test_memory_that_runs_out_while_building(bert, resources, monkeypatch):
    def refuse(module):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(_torch.copy, "deepcopy", refuse)
    with pytest.raises(BuildError, match=r"out of memory on cpu while copying tiny:bert .* use a smaller model"):
        _torch.place(bert, make_case("eager", precision="bf16"), resources)


def test_bf16_programs_are_copies(resources):
    model = make_model("bert", "question-answering")
    program = build("eager", model, resources, precision="bf16")
    batch = make_batch(model, (20, 7), 24)
    gap, scale = _check.difference(batch, program.predict(batch), eager_logits(model, batch))
    assert 1e-4 < gap < _check.TOLERANCE["bf16"] * max(1.0, scale)
    assert program.bytes == model.bytes // 2
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
