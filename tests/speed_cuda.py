"""The native encoder on a GPU beside its peers, and its memory-bound kernels beside a copy: one process, rotated rounds, medians.

    python tests/speed_cuda.py                                  some minutes, most of them torch.compile's
    python tests/speed_cuda.py --shapes 32x384 --rounds 100 --programs native torchscript
    python tests/speed_cuda.py --gemms                          2:4 sparse weights beside dense ones too

Times are the GPU's, by CUDA events around one forward pass on a GPU at rest (stopwatch.CudaClock); of a kernel, around enough
calls that launches do not show. Figures join .perfq/speed.json under names that carry the GPU's; every time stands in
.perfq/speed-cuda.json. What a machine cannot run is named with its reason and has no figure. Models are random BERT-base, and
`half` is as in speed_native.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from speed_native import CACHE, ROOT, Figure, Row, Times, batch_of, cosine, geometric, model_of

from pytest_perfq import Dynamic, registry
from pytest_perfq.contracts import Model, Program, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.core.spec import Spec
from pytest_perfq.kernels import cuda_ops
from pytest_perfq.stopwatch import Clock, clock_for

SHAPES = ((1, 32), (1, 128), (8, 128), (32, 384))
# Name here -> backend, precision, quantization.
PROGRAMS: dict[str, tuple[str, str, Quantization | None]] = {
    "eager": ("eager", "fp16", None),
    "torchscript": ("torchscript", "fp16", None),
    "compile": ("compile[mode=max-autotune]", "fp16", None),
    "ort": ("ort", "fp16", None),
    "tensorrt": ("ort[provider=tensorrt]", "fp16", None),
    "native": ("native", "fp16", None),
    "native-bf16": ("native", "bf16", None),
    "native-fp32": ("native", "fp32", None),
    "int8": ("native[bits=w8a8]", "fp16", Dynamic("MatMul")),
    "fp8": ("native", "bf16", Dynamic("MatMul", type="fp8")),
}
OURS = ("native", "native-bf16", "native-fp32", "int8", "fp8")
# Of fp16 and bf16 with random weights, against eager in fp32.
COSINES = {"native": 0.9999, "native-bf16": 0.999, "native-fp32": 0.99999, "int8": 0.999, "fp8": 0.998}
LATENCY_MS = 0.25
# Where a kernel's tensors are far larger than any L2: tokens x features of two bytes are 75 MB.
TOKENS, HIDDEN, INNER, LENGTH = 49152, 768, 3072, 384
COPY_BYTES = 256 << 20
CALLS = 10


def build(name: str, model: Model) -> tuple[Program | None, list[str]]:
    """The program, or why it cannot be."""
    backend, precision, quantization = PROGRAMS[name]
    case = Case(
        task=Spec("question-answering"), dataset="synthetic", model=model.source, model_name=model.source,
        backend=Spec.parse(backend), precision=precision, quantization=quantization, device="cuda",
    )  # fmt: skip
    found = registry.load("backend", case.backend.name)
    if reasons := found.refuses(case):
        return None, reasons
    return found.build(case, model, Resources(CACHE, threads=1, progress=print), lambda: iter(())), []


def timed(calls: dict[str, Callable[[], Any]], rounds: int, clock: Clock) -> Times:
    """Seconds of every call; each round begins one program later."""
    names, found = list(calls), Times()
    for call in calls.values():
        for _ in range(3):
            call()
    for at in range(rounds):
        for name in names[at % len(names) :] + names[: at % len(names)]:
            found.setdefault(name, []).append(clock.time_ns(calls[name]) / 1e9)
    return found


def models(asked: argparse.Namespace) -> tuple[list[Row], dict[str, list[str]]]:
    """Every shape with every program, and the reasons of those that are missing."""
    model, rows, missing = model_of("bert"), [], {}
    programs: dict[str, Program] = {}
    for name in asked.programs:
        program, reasons = build(name, model)
        if program is None:
            missing[name] = reasons
        else:
            programs[name] = program
    clock = clock_for("cuda", asked.l2)
    for text in asked.shapes:
        shape = tuple(int(one) for one in text.split("x"))
        for half in (False, True):
            batch = batch_of(*shape, half)
            calls = {}
            for name, program in programs.items():
                fed = program.feed(batch)
                calls[name] = lambda program=program, fed=fed: program.run(fed)
            times = timed(calls, asked.rounds, clock)
            cosines = {name: cosine(programs[name], batch, model) for name in programs if name in OURS}
            rows.append(Row("bert", 1, (shape[0], shape[1]), half, times, cosines))
            print(rows[-1].line(), flush=True)
    return rows, missing


def kernels() -> dict[str, tuple[Callable[[], Any], int]]:
    """Name -> a call of a memory-bound kernel in fp16, and the bytes that it has to move: each operand read once, each output
    written once."""
    ours = torch.ops.perfq
    x, residual = (torch.randn(TOKENS, HIDDEN, device="cuda").half() for _ in range(2))
    inner = torch.randn(TOKENS, INNER, device="cuda").half()
    bias, weight, wide = (torch.randn(size, device="cuda").half() for size in (HIDDEN, HIDDEN, INNER))
    rows = TOKENS // LENGTH
    mask = (torch.arange(LENGTH, device="cuda") < LENGTH // 2).long().repeat(2 * rows, 1)
    cu_seqlens, index = ours.pack_tokens(mask, TOKENS)
    ids = torch.randint(0, 30000, mask.shape, device="cuda")
    tables = [torch.randn(size, HIDDEN, device="cuda").half() for size in (30522, 512, 2)]
    token = HIDDEN * x.element_size()  # bytes of a row
    norm = (x, residual, bias, weight, bias, 1e-12)
    return {
        "add_layernorm": (lambda: ours.add_layernorm(*norm), 3 * TOKENS * token),
        "add_layernorm_levels": (lambda: ours.add_layernorm_levels(*norm, 255), 3 * TOKENS * token + TOKENS * HIDDEN),
        "add_layernorm_f8": (lambda: ours.add_layernorm_f8(*norm), 3 * TOKENS * token + TOKENS * HIDDEN),
        "bias_activation": (lambda: ours.bias_activation(inner, wide, "gelu"), 2 * inner.nbytes),
        "bias_activation_levels": (lambda: ours.bias_activation_levels(inner, wide, "gelu", 255), 3 * inner.nbytes // 2),
        "embed_layernorm": (
            lambda: ours.embed_layernorm(ids, None, index, *tables, weight, bias, 1e-12), TOKENS * (2 * token + 12)
        ),
        "restore_padding": (lambda: ours.restore_padding(x, index, *mask.shape), 3 * TOKENS * token),
        "pool mean": (lambda: ours.pool(x, cu_seqlens, "mean", True), TOKENS * token + 2 * rows * token),
        "pack_tokens": (lambda: ours.pack_tokens(mask, TOKENS), mask.nbytes + 4 * TOKENS),
    }  # fmt: skip


def bandwidth(rounds: int) -> Iterator[Figure]:
    """Bytes a second of each kernel, as a share of a copy's."""
    clock = clock_for("cuda")
    one, other = (torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda") for _ in range(2))
    measured = {"copy": (lambda: other.copy_(one), 2 * COPY_BYTES)} | kernels()
    calls = {name: lambda call=call: [call() for _ in range(CALLS)] for name, (call, _) in measured.items()}
    times = timed(calls, rounds, clock)
    rate = {name: CALLS * moved / statistics.median(times[name]) / 1e9 for name, (_, moved) in measured.items()}
    print(f"a copy moves {rate['copy']:.0f} GB/s")
    for name, value in rate.items():
        if name != "copy":
            yield Figure(f"{name}, {value:.0f} GB/s, of a copy's", value / rate["copy"], "of copy", 0.85)


def gemms(rounds: int) -> Iterator[Figure]:
    """The linears of BERT-base at 6,144 tokens with 2:4 sparse weights, as many times as fast as dense: an experiment, no goal."""
    from torch.sparse import to_sparse_semi_structured

    clock = clock_for("cuda")
    for inside, outside in ((HIDDEN, 3 * HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, INNER), (INNER, HIDDEN)):
        x = torch.randn(6144, inside, device="cuda").half()
        weight = torch.randn(outside, inside, device="cuda").half()
        weight[:, 0::4] = weight[:, 1::4] = 0
        sparse = to_sparse_semi_structured(weight)
        calls = {
            "dense": lambda x=x, weight=weight: torch.nn.functional.linear(x, weight),
            "sparse": lambda x=x, sparse=sparse: torch.nn.functional.linear(x, sparse),
        }
        times = timed(calls, rounds, clock)
        value = statistics.median(times["dense"]) / statistics.median(times["sparse"])
        yield Figure(f"2:4 sparse 6144 x {inside} -> {outside} / dense", value, "x", 1.0)


def figures(rows: list[Row]) -> Iterator[Figure]:
    """The goals of one H100, for whatever GPU this is."""

    def some(shapes: set[tuple[int, int]], half: bool) -> list[Row]:
        return [row for row in rows if row.shape in shapes and row.half == half and "native" in row.times]

    def ratio(name: str, chosen: list[Row], faster: str, slower: str, goal: float) -> Iterator[Figure]:
        found = [value for row in chosen if (value := row.ratio(faster, slower)) is not None]
        if found:
            yield Figure(name, geometric(found), "x", goal, shapes=len(found))

    small = [row for shape in SHAPES[:3] for row in some({shape}, half=True)]
    for row in small:
        taken_ms = statistics.median(row.times["native"]) * 1e3
        yield Figure(f"fp16 {row.shape[0]}x{row.shape[1]} half", taken_ms, "ms", LATENCY_MS, better="smaller")
    yield from ratio("fp16 / eager, 1x32 to 8x128 half", small, "native", "eager", 8.0)
    yield from ratio("fp16 / torch.compile, 1x32 to 8x128 half", small, "native", "compile", 1.7)
    large = {(32, 384)}
    for half, compiled, scripted in ((False, 1.15, 2.0), (True, 2.3, 4.5)):
        kind = "half" if half else "full"
        yield from ratio(f"fp16 / torch.compile, 32x384 {kind}", some(large, half), "native", "compile", compiled)
        yield from ratio(f"fp16 / TorchScript, 32x384 {kind}", some(large, half), "native", "torchscript", scripted)
        yield from ratio(f"INT8 / fp16, 32x384 {kind}", some(large, half), "int8", "native", 1.25)
    # Half of 32 x 384 are some 6,000 tokens.
    yield from ratio("FP8 / fp16, 32x384 half", some(large, True), "fp8", "native", 1.4)
    for row in some(large, half=True):
        yield Figure("fp16 32x384 half", statistics.median(row.times["native"]) * 1e3, "ms", 2.3, better="smaller")
    for name, goal in COSINES.items():
        worst = [row.cosines[name] for row in rows if name in row.cosines]
        if worst:
            yield Figure(f"{name} with eager, random weights, the lowest", min(worst), "cosine", goal)


def keep(found: list[Figure], rows: list[Row], gpu: str) -> None:
    """Writes both files; figures of an earlier run on this GPU give way."""
    folder = ROOT / ".perfq"
    folder.mkdir(exist_ok=True)
    path = folder / "speed.json"
    others = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    ours = [
        {"name": f"{gpu}: {one.name}", "value": round(one.value, 5), "unit": one.unit, "better": one.better, "goal": one.goal}
        for one in found
    ]
    kept = [one for one in others if not one["name"].startswith(f"{gpu}: ")]
    path.write_text(json.dumps(kept + ours, indent=1) + "\n", encoding="utf-8")
    (folder / "speed-cuda.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="The native encoder on a GPU beside its peers.")
    parser.add_argument("--shapes", nargs="+", metavar="BxS", default=[f"{batch}x{seq}" for batch, seq in SHAPES])
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--l2", choices=("warm", "cold"), default="warm")
    parser.add_argument("--gemms", action="store_true", help="2:4 sparse weights beside dense ones")
    asked = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this machine has no GPU that PyTorch can use; run it on one")
    gpu = torch.cuda.get_device_name()
    cuda_ops.load(CACHE, print)
    rows, missing = models(asked)
    found = [*figures(rows), *bandwidth(asked.rounds), *(gemms(asked.rounds) if asked.gemms else ())]
    print(f"\n{gpu}")
    for figure in found:
        print(figure.line())
    for name, reasons in missing.items():
        print(f"{name} was not run: {'; '.join(reasons)}")
    keep(found, rows, gpu)


if __name__ == "__main__":
    main()
