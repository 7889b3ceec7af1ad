"""What holds for every op: the schema is whole, torch can trace it, and neither threads nor strides change an answer."""

import inspect
import re
import subprocess
import sys

import pytest
import tolerance
import torch
from calls import LENGTHS, NAMES, TOKENS, calls
from kept import CACHE
from operands import bounds, normal, one, refused, right_padded, weight, weight_int8, zero

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import build, isas, ops
from pytest_perfq.kernels.fakes import FAKES


def op(name):
    return getattr(torch.ops.perfq, name.split()[0])


def flat(output):
    return list(output) if isinstance(output, tuple) else [output]


# Ops of a GPU alone: what they compute is several ops on a CPU, which has none of them. Their calls are those of their kernels'
# own tests, on the emulation.
GPU_ONLY = {
    *("add_layernorm_levels", "add_layernorm_f8", "add_layernorm_restore", "bias_activation", "bias_activation_levels"),
    *("bias_activation_f8", "linear_fused", "linear_levels", "absmax"),
}


def test_every_op_of_the_schema_has_a_function_a_fake_and_a_call(kernels):
    named = set(re.findall(r'"(\w+)\(', (build.SOURCES / "csrc" / "schema.cpp").read_text()))
    called = {name.split()[0] for name in NAMES}
    assert len(named) == 25 and named == called | GPU_ONLY | {"select_isa"} and not called & GPU_ONLY
    assert named == {fake.__name__ for fake in FAKES} | {"select_isa"}
    assert all(callable(getattr(ops, name)) for name in named)
    assert list(calls(kernels)) == NAMES


@pytest.mark.parametrize("name", sorted(GPU_ONLY))
def test_the_typed_function_of_a_gpus_op_takes_what_the_schema_says_and_a_cpu_refuses_it(name, kernels):
    """In the schema's names and order; and no tensor of a CPU finds a kernel, which would be a silent other way to compute."""
    schema = op(name).default._schema
    assert list(inspect.signature(getattr(ops, name)).parameters) == [argument.name for argument in schema.arguments]
    samples = {"Tensor": normal(2, 2), "Optional[Tensor]": None, "float": 1e-12, "int": 255, "str": "none"}
    arguments = [samples.get(str(argument.type), 1) for argument in schema.arguments]
    with pytest.raises(NotImplementedError, match=f"perfq::{name}"):
        op(name)(*arguments)


@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name, isa, kernels):
    torch.library.opcheck(op(name).default, calls(kernels)[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_typed_function_is_the_op(name, isa, kernels):
    arguments = calls(kernels)[name]
    for ours, theirs in zip(flat(getattr(ops, name.split()[0])(*arguments)), flat(op(name)(*arguments)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads_gives_the_same_bits(name, isa, kernels):
    arguments = calls(kernels)[name]
    by_threads = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            by_threads.append(flat(op(name)(*arguments)))
    finally:
        torch.set_num_threads(1)
    for others in by_threads[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(by_threads[0], others, strict=True))


def test_threads_on_more_work_than_one_of_them_takes(isa, kernels):
    """Enough tokens and columns that the work is divided, along both."""
    x, qkv = normal(700, 96), normal(700, 3 * 96)
    lengths = [300, 1, 0, 150, 249]
    packed, wide = kernels.pack_weight(weight(96, 96)), kernels.pack_weight(weight(1500, 96))
    matrix, scales = weight_int8(200, 96, "w7a7")
    int8 = (kernels.pack_weight_int8(matrix, "w7a7"), scales, matrix.sum(1, dtype=torch.int32))
    index = torch.arange(700, dtype=torch.int32) * 2
    levels = kernels.quantize(x, one(0.04), zero(64), 127)
    outputs = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            outputs.append(
                [
                    kernels.linear(x, packed, None, 96, "gelu"),
                    kernels.linear(x[:3], wide, None, 1500, "none"),
                    kernels.add_layernorm(x, x, None, x[0], x[1], 1e-12),
                    kernels.varlen_attention(qkv, bounds(lengths), 3, 0.2),
                    kernels.pool(x, bounds(lengths), "mean", True),
                    kernels.restore_padding(x, index, 2, 700),
                    kernels.linear_int8(x, *int8, None, None, None, None, None, "w7a7", "gelu"),
                    kernels.quantize(x, one(0.04), zero(64), 127),
                    kernels.dequantize(levels, one(0.04), zero(64)),
                ]
            )
    finally:
        torch.set_num_threads(1)
    for others in outputs[1:]:
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs[0], others, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_both_instruction_sets_agree(name, kernels):
    """To the rounding of a fused multiply-add, or to one level."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this CPU has no AVX2")
    arguments, outputs = calls(kernels)[name], []
    for isa in ("avx2", "portable"):
        kernels.select_isa(isa)
        outputs.append(flat(op(name)(*arguments)))
    kernels.select_isa("auto")
    for fast, plain in zip(*outputs, strict=True):
        assert fast.dtype == plain.dtype
        near = tolerance.SETS if fast.is_floating_point() and name != "pack_weight" else int(fast.dtype == torch.uint8)
        assert (fast.double() - plain.double()).abs().max() <= near


@pytest.mark.parametrize("name", NAMES)
def test_strides_do_not_change_an_answer(name, isa, kernels):
    """Every tensor as a view with gaps between its values."""

    def gapped(value):
        if not isinstance(value, torch.Tensor) or value.ndim == 0:
            return [gapped(one) for one in value] if isinstance(value, list) else value
        wide = torch.stack([value, torch.zeros_like(value)], dim=-1)
        return wide[..., 0]

    arguments = calls(kernels)[name]
    views = [gapped(value) for value in arguments]
    assert any(isinstance(view, torch.Tensor) and not view.is_contiguous() for view in views)
    for ours, theirs in zip(flat(op(name)(*views)), flat(op(name)(*arguments)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_as_they_were(name, isa, kernels):
    arguments = calls(kernels)[name]
    before = [value.clone() if isinstance(value, torch.Tensor) else value for value in arguments]
    op(name)(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(before, arguments, strict=True) if isinstance(a, torch.Tensor))


# Arguments that the refusal names by their kind.
KINDS = {
    "input_scale": "scale",
    "input_zero": "zero",
    "output_scale": "scale",
    "output_zero": "zero",
    "scales": "scale",
    "zeros": "zero",
}


@pytest.mark.parametrize("name", NAMES)
def test_wrong_types_are_refused_by_name(name, kernels):
    """A float64 where float32 stands, an int64 where int32 does, and so on, in every argument."""
    wrong = {torch.float32: torch.float64, torch.int32: torch.int64, torch.int64: torch.int32}
    arguments = calls(kernels)[name]
    names = [argument.name for argument in op(name).default._schema.arguments]
    tensors = 0
    for place, value in enumerate(arguments):
        first = value[0] if isinstance(value, list) else value
        if isinstance(first, torch.Tensor):
            other = first.to(wrong.get(first.dtype, torch.int16))
            changed = [*arguments[:place], [other, *value[1:]] if isinstance(value, list) else other, *arguments[place + 1 :]]
            refused(lambda changed=changed: op(name)(*changed), name.split()[0], KINDS.get(names[place], names[place]))
            tensors += 1
    assert tensors >= 1


def test_a_compiled_function_is_one_graph(kernels):
    """Two ops and a sum, traced whole, with a size that changes from call to call."""

    def layer(x, packed, weight, bias):
        hidden = ops.linear(x, packed, None, 24, "gelu")
        return ops.add_layernorm(hidden, x, None, weight, bias, 1e-12) + 1

    packed, (scale, bias) = kernels.pack_weight(weight(24, 24)), normal(2, 24)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for tokens in (5, 9, 30):
        x = normal(tokens, 24)
        assert torch.equal(compiled(x, packed, scale, bias), layer(x, packed, scale, bias))


def test_the_whole_walk_compiles(kernels):
    """From a mask to one vector a sequence; the sizes are the caller's."""

    def walk(mask, x):
        cu_seqlens, index = ops.pack_tokens(mask, TOKENS)
        attended = ops.varlen_attention(x, cu_seqlens, 2, 0.3)
        return ops.restore_padding(attended, index, 4, 15), ops.pool(attended, cu_seqlens, "cls", True)

    mask, x = right_padded(LENGTHS, 15), normal(TOKENS, 48)
    compiled = torch.compile(walk, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(compiled(mask, x), walk(mask, x), strict=True):
        assert torch.equal(ours, theirs)


def test_an_unknown_instruction_set_is_refused(kernels):
    refused(lambda: kernels.select_isa("sse9"), "sse9", "avx2", "portable")
    assert kernels.select_isa("auto") == isas.runnable(isas.cpu_flags())[-1]


def test_load_answers_the_same_library_twice(kernels):
    assert ops.load(CACHE) == ops.load(CACHE) and ops.load(CACHE).name == build.LIBRARY


def test_a_library_that_does_not_load_is_one_sentence(tmp_path, monkeypatch):
    broken = tmp_path / build.LIBRARY
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(ops, "_loaded", [])
    monkeypatch.setattr(build, "library", lambda *arguments: broken)
    monkeypatch.setattr(build, "recipe", lambda **options: None)
    with pytest.raises(KernelsUnavailable) as caught:
        ops.load(tmp_path)
    line = str(caught.value)
    assert line.startswith("the native kernels were built and cannot be loaded: ") and "\n" not in line
    assert line.endswith(f"remove {tmp_path} to build them again")


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys; import pytest_perfq.kernels, pytest_perfq.kernels.build, pytest_perfq.kernels.toolchain;"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
