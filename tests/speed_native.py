"""The native encoder beside its peers at their best: one process, rotated rounds, medians. Its figures join those of speed.py
in .perfq/speed.json; every time stands in .perfq/speed-native.json.

    python tests/speed_native.py                  what `make speed` runs: some minutes
    python tests/speed_native.py --all            every shape of every model, one thread and all: an hour
    python tests/speed_native.py --models minilm --shapes 8x128 --rounds 50

Peers: TorchScript frozen, in fp32 and, on a processor that has it, bf16; onnxruntime in fp32 and INT8 with every fusion; the same INT8 fed one sequence at a time, which
needs no padding either; torch.compile and OpenVINO (`pip install openvino`) where `--programs` names them. Models are random: speed does not depend on
the weights, and what the bits cost in accuracy is measured on trained ones in suites/test_native.py.

`half` is the batch that padding='half' names: half of it is padding. A ratio is of medians; a figure is the geometric mean over shapes, with that of the minima in brackets.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from multiply_peak import MultiplyPeak

from pytest_perfq import Dynamic, registry
from pytest_perfq.contracts import Batch, Model, Program, Resources
from pytest_perfq.core.case import Case
from pytest_perfq.core.spec import Spec
from pytest_perfq.inputs import half_lengths
from pytest_perfq.kernels import isas, ops
from pytest_perfq.kernels.bits import BITS
from pytest_perfq.kernels.packing import quantize_weight

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("PERFQ_CACHE", ROOT / ".perfq" / "cache"))
SHAPES = ((1, 32), (1, 128), (1, 384), (8, 32), (8, 128), (8, 384))
QUICK = {"bert": SHAPES[:2] + SHAPES[3:4], "minilm": SHAPES[:5]}
# Hidden size, layers, heads, inner size.
MODELS = {"bert": (768, 12, 12, 3072), "minilm": (384, 6, 12, 1536)}
# Name here -> backend, and what it multiplies.
PROGRAMS: dict[str, tuple[str, str]] = {
    "torchscript": ("torchscript", "fp32"),
    "torchscript-bf16": ("torchscript", "bf16"),
    "ort": ("ort", "fp32"),
    "ort-int8": ("ort", "int8"),
    "compile": ("compile", "fp32"),
    "native": ("native", "fp32"),
    "bf16": ("native", "bf16"),
    "w8a8": ("native[bits=w8a8]", "int8"),
    "w8a7": ("native[bits=w8a7]", "int8"),
    "w7a7": ("native[bits=w7a7]", "int8"),
}
HERE = isas.runnable(isas.cpu_flags())
USUAL = [name for name in PROGRAMS if name != "compile" and (PROGRAMS[name][1] != "bf16" or set(HERE) & set(isas.BF16))]
OPENVINO = "openvino"  # no backend of ours
ROUNDED = (*BITS, "bf16")
FP32_PEERS = ("torchscript", "ort", "compile", OPENVINO)
# Three multiplies for 64 products at 3.23 GHz, one Zen 3 core by itself; w7a7 needs 2.5 since, and could reach 331.
PEAK_GOPS = 275.0
PRIMED_S = 0.05

Times = dict[str, list[float]]


def model_of(name: str) -> Model:
    """A random BERT of the model's shape with a question-answering head."""
    hidden, layers, heads, inner = MODELS[name]
    config = transformers.BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner,
        attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    module = transformers.BertForQuestionAnswering(config).eval()
    size = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    return Model(
        module=module, tokenizer=None, config=config, key=f"speed-{name}-{transformers.__version__}", source=f"random {name}",
        inputs=("input_ids", "attention_mask", "token_type_ids"), outputs=("start_logits", "end_logits"),
        max_positions=512, vocab_size=config.vocab_size, bytes=size,
    )  # fmt: skip


def batch_of(rows: int, columns: int, half: bool) -> Batch:
    """Random ids; the same lengths for every program and run."""
    dice = np.random.default_rng([7, rows, columns])
    lengths = half_lengths(dice, rows, columns) if half else [columns] * rows
    mask = (np.arange(columns)[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.where(mask == 1, dice.integers(1000, 30000, (rows, columns)), 0).astype(np.int64)
    arrays = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return Batch(arrays, tuple(lengths))


def rows_of(batch: Batch) -> list[Batch]:
    """Each sequence as a batch of its own, without padding."""
    return [
        Batch({name: array[row : row + 1, :length] for name, array in batch.arrays.items()}, (length,))
        for row, length in enumerate(batch.lengths)
    ]


class OpenVino:
    """The model as OpenVINO compiles it for latency in fp32."""

    def __init__(self, model: Model, threads: int) -> None:
        import openvino

        from pytest_perfq.backends._torch import Head

        self._inputs, self._outputs = model.inputs, model.outputs
        example = {name: torch.from_numpy(array) for name, array in batch_of(2, 16, half=True).arrays.items()}
        with torch.no_grad():
            graph = openvino.convert_model(Head(model.module, model).eval(), example_input=tuple(example.values()))
        options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(graph, "CPU", options | {"INFERENCE_PRECISION_HINT": "f32"})
        self._request = compiled.create_infer_request()

    def feed(self, batch: Batch) -> list[Any]:
        return [batch.arrays[name] for name in self._inputs]

    def run(self, feed: list[Any]) -> Any:
        return self._request.infer(dict(enumerate(feed)), share_inputs=True, share_outputs=True)

    def fetch(self, output: Any) -> dict[str, Any]:
        return {name: np.array(output[number]) for number, name in enumerate(self._outputs)}

    def close(self) -> None:
        del self._request


def build(name: str, model: Model, resources: Resources) -> Any:
    """The program, or the end of this run with its reasons: a peer that is missing is not a faster one."""
    if name == OPENVINO:
        program = OpenVino(model, resources.threads)
        if (alike := cosine(program, batch_of(2, 40, half=True), model)) < 0.99999:
            raise SystemExit(f"OpenVINO's logits have a cosine of {alike:.6f} with eager's: it is not the same model")
        return program
    backend, multiplies = PROGRAMS[name]
    case = Case(
        task=Spec("question-answering"), dataset="synthetic", model=model.source, model_name=model.source,
        backend=Spec.parse(backend), quantization=Dynamic() if multiplies == "int8" else None,
        precision="bf16" if multiplies == "bf16" else "fp32",
    )  # fmt: skip
    found = registry.load("backend", case.backend.name)
    if reasons := found.refuses(case):
        raise SystemExit(f"{name}: {'; '.join(reasons)}; leave it out with --programs")
    no_calibration: Callable[[], Iterator[Batch]] = lambda: iter(())  # noqa: E731
    return found.build(case, model, resources, no_calibration)


def calls_of(programs: dict[str, Program], batch: Batch) -> dict[str, Callable[[], Any]]:
    """What is timed, fed ahead."""
    calls: dict[str, Callable[[], Any]] = {}
    for name, program in programs.items():
        fed = program.feed(batch)
        calls[name] = lambda program=program, fed=fed: program.run(fed)
        if name.startswith("ort") and batch.shape[0] > 1:
            each = [program.feed(one) for one in rows_of(batch)]
            calls[f"{name}-each"] = lambda program=program, each=each: [program.run(one) for one in each]
    return calls


def timed(calls: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Seconds of every call; each round begins one program later. A call shorter than PRIMED_S is made once untimed before it
    counts: what the program before left in the caches and its threads is not this one's, and to a longer one next to nothing."""
    names, found = list(calls), Times()
    for at in range(rounds):
        for name in names[at % len(names) :] + names[: at % len(names)]:
            if name not in found or found[name][-1] < PRIMED_S:
                calls[name]()
            start = clock()
            calls[name]()
            found.setdefault(name, []).append(clock() - start)
    return found


def cosine(program: Any, batch: Batch, model: Model) -> float:
    """Of the program's logits of real tokens with eager's."""
    with torch.inference_mode():
        output = model.module(**{name: torch.from_numpy(batch.arrays[name]) for name in model.inputs})
    mask = batch.arrays["attention_mask"].astype(bool)
    got = program.fetch(program.run(program.feed(batch)))
    one = np.concatenate([got[name][mask].astype(np.float64) for name in model.outputs])
    other = np.concatenate([getattr(output, name).numpy()[mask].astype(np.float64) for name in model.outputs])
    return float(one @ other / math.sqrt((one @ one) * (other @ other)))


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One shape of one model: its times by program, and the cosine of each native program."""

    model: str
    threads: int
    shape: tuple[int, int]
    half: bool
    times: Times
    cosines: dict[str, float]

    def ratio(self, faster: str, slower: str, pick: Callable[[list[float]], float] = statistics.median) -> float | None:
        """How many times faster; None where one of them was not run."""
        both = faster in self.times and slower in self.times
        return pick(self.times[slower]) / pick(self.times[faster]) if both else None

    def line(self) -> str:
        """Medians in milliseconds."""
        shape = f"{self.model} {self.shape[0]}x{self.shape[1]} {'half' if self.half else 'full'}, {self.threads} thread"
        cells = [f"{name} {statistics.median(values) * 1e3:.2f}" for name, values in self.times.items()]
        return f"{shape + ('s' if self.threads > 1 else ''):<32}" + "  ".join(cells)


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One row of `make speed`. goal: None for what has none. best: the same from the minima, where that makes sense. shapes: how
    many it is a mean of. cosine: with eager, the lowest over those shapes, where a ratio was bought with bits."""

    name: str
    value: float
    unit: str
    goal: float | None
    best: float | None = None
    better: str = "larger"
    shapes: int = 1
    cosine: float | None = None

    def line(self) -> str:
        """For a person."""
        best = "" if self.best is None else f" ({self.best:.2f})"
        digits = 5 if self.unit == "cosine" else 2
        value = f"{self.value:.{digits}f}{best} {self.unit}"
        name = self.name if self.shapes == 1 else f"{self.name}, {self.shapes} shapes"
        told = "" if self.cosine is None else f"   cosine {self.cosine:.5f}"
        return f"{name:<66}{value:>22}{told}{self._held()}"

    def _held(self) -> str:
        if self.goal is None:
            return ""
        met = self.value >= self.goal if self.better == "larger" else self.value <= self.goal
        return f"   goal {self.goal:g}{'' if met else '   MISSED'}"

    def plain(self) -> dict[str, object]:
        """As the file of figures has it."""
        found = {"name": self.name, "value": round(self.value, 5), "unit": self.unit, "better": self.better, "goal": self.goal}
        found["shapes"] = self.shapes
        return found if self.cosine is None else found | {"cosine": round(self.cosine, 5)}


def geometric(values: list[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, values)))


def ratios(rows: list[Row], name: str, faster: str, slower: str, goal: float | None) -> Iterator[Figure]:
    """The figure, or nothing where no row has both programs."""
    found = [one for row in rows if (one := row.ratio(faster, slower)) is not None]
    least = [one for row in rows if (one := row.ratio(faster, slower, min)) is not None]
    alike = [row.cosines[faster] for row in rows if faster in row.cosines and slower in row.times]
    if found:
        cosine = min(alike) if faster in ROUNDED and alike else None
        yield Figure(f"native {name}", geometric(found), "x", goal, geometric(least), shapes=len(found), cosine=cosine)


def best_fp32(row: Row) -> float | None:
    """Native fp32 against the best other fp32 program of the run."""
    others = [statistics.median(row.times[name]) for name in FP32_PEERS if name in row.times]
    return min(others) / statistics.median(row.times["native"]) if others and "native" in row.times else None


def figures(rows: list[Row]) -> Iterator[Figure]:
    """Every figure of every model and number of threads."""
    for model in sorted({row.model for row in rows}):
        for threads in sorted({row.threads for row in rows}):
            some = [row for row in rows if row.model == model and row.threads == threads]
            yield from _figures(some, f"{model}, {threads} thread{'s' if threads > 1 else ''}", model)


def _figures(some: list[Row], at: str, model: str) -> Iterator[Figure]:
    full, half = [row for row in some if not row.half], [row for row in some if row.half]
    # bits -> goals against onnxruntime's INT8: padded at full length, padded at half, each sequence alone at half.
    # One of the two with eight-bit weights is to meet them, and w8a8 has no int16 to spare without VNNI.
    goals: dict[str, tuple[float | None, ...]] = {
        "w8a8": (None, None, None), "w8a7": (1.3, 2.8, 1.4), "w7a7": (1.6, 3.3, 1.7)
    }  # fmt: skip
    for bits, (one, two, three) in goals.items():
        yield from ratios(full, f"{bits} / ort INT8 padded, full; {at}", bits, "ort-int8", one)
        yield from ratios(half, f"{bits} / ort INT8 padded, half; {at}", bits, "ort-int8", two)
        yield from ratios(half, f"{bits} / ort INT8 each alone, half; {at}", bits, "ort-int8-each", three)
    yield from ratios(full, f"w7a7 / ort INT8 each alone, full; {at}", "w7a7", "ort-int8-each", 1.6)
    yield from ratios(full, f"w7a7 / TorchScript, full; {at}", "w7a7", "torchscript", 2.7)
    yield from ratios(half, f"w7a7 / TorchScript, half; {at}", "w7a7", "torchscript", 5.7)
    yield from ratios(half, f"fp32 / TorchScript, half; {at}", "native", "torchscript", 2.25 if model == "bert" else 2.6)
    yield from ratios(full, f"bf16 / TorchScript bf16, full; {at}", "bf16", "torchscript-bf16", None)
    yield from ratios(half, f"bf16 / TorchScript bf16, half; {at}", "bf16", "torchscript-bf16", None)
    best = [one for row in full if (one := best_fp32(row)) is not None]
    if best:
        yield Figure(f"native fp32 / best other fp32, full; {at}", geometric(best), "x", 1.0, shapes=len(best))
        yield Figure(f"native fp32 / best other fp32, full, the lowest; {at}", min(best), "x", 0.97)
    for name in ("native", "bf16", "w8a8", "w8a7", "w7a7"):
        worst = [row.cosines[name] for row in some if name in row.cosines]
        if worst:
            shown = "fp32" if name == "native" else name
            yield Figure(f"native {shown} with eager, random weights, the lowest; {at}", min(worst), "cosine", 0.999)


def linears(clock: Callable[[], float]) -> Iterator[Figure]:
    """The w7a7 linears of BERT-base, quantizing their input included, on one thread. With AVX2 alone: of what the multipliers gave
    right before and after each call, and of what a core of its own gives. Other sets have other units, and no share of those."""
    torch.set_num_threads(1)
    runs = ops.select_isa("auto")
    peak = MultiplyPeak(clock) if runs == "avx2" else None
    for tokens, inside, outside in ((32, 768, 2304), (128, 768, 3072), (128, 3072, 768), (1024, 768, 2304), (1024, 3072, 768)):
        x = torch.randn(tokens, inside)
        whole, scale = quantize_weight(torch.randn(outside, inside), BITS["w7a7"])
        weight, total = ops.pack_weight_int8(whole, "w7a7"), whole.sum(1, dtype=torch.int32)
        rates, beside = [], [peak.gops() if peak else 0.0]
        for _ in range(60):
            start = clock()
            ops.linear_int8(x, weight, scale, total, None, None, None, None, None, "w7a7", "none")
            rates.append(2e-9 * tokens * inside * outside / (clock() - start))
            beside.append(peak.gops() if peak else 0.0)
        name = f"native w7a7 linear {tokens} x {inside} -> {outside}"
        if peak is None:
            yield Figure(f"{name}, {runs}", statistics.median(rates), "GOP/s", None, max(rates))
            continue
        shares = [2 * rate / (before + after) for rate, before, after in zip(rates, beside, beside[1:], strict=True)]
        yield Figure(f"{name}, of the multiplies beside it", statistics.median(shares), "of peak", None)
        alone, best = statistics.median(rates) / PEAK_GOPS, max(rates) / PEAK_GOPS
        yield Figure(f"{name}, of {PEAK_GOPS:.0f} GOP/s", alone, "of peak", 0.87, best)


def padding_share(name: str, programs: dict[str, Program]) -> Iterator[Figure]:
    """Embedding, packing and restoring as a share of a w7a7 forward pass of 8 x 128 at half."""
    encoder = programs["w7a7"]._call  # type: ignore[attr-defined]
    feed = programs["w7a7"].feed(batch_of(8, 128, half=True))
    with torch.inference_mode():
        layout = encoder.layout(feed)
        hidden = encoder.embed(feed, layout)

        def ends() -> None:
            found = encoder.layout(feed)
            encoder.embed(feed, found)
            encoder.ops.restore_padding(hidden, found.index, found.batch, found.seq)

        times = timed({"ends": ends, "whole": lambda: programs["w7a7"].run(feed)}, 40)
    share = 100 * statistics.median(times["ends"]) / statistics.median(times["whole"])
    goal = 1.0 if name == "bert" else 1.5
    yield Figure(f"native embedding, pack and restore in w7a7; {name} 8x128 half", share, "%", goal, better="smaller")


def keep(found: list[Figure], rows: list[Row]) -> None:
    """Writes both files; the same figures of an earlier run give way."""
    folder = ROOT / ".perfq"
    folder.mkdir(exist_ok=True)
    path = folder / "speed.json"
    others = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    ours = [one.plain() for one in found]
    # A run of one model, say, replaces its own figures alone.
    kept = [one for one in others if one["name"] not in {figure.name for figure in found}]
    path.write_text(json.dumps(kept + ours, indent=1) + "\n", encoding="utf-8")
    table = json.dumps([dataclasses.asdict(row) for row in rows]) + "\n"
    (folder / "speed-native.json").write_text(table, encoding="utf-8")
    print(f"written to {path.relative_to(ROOT)} and .perfq/speed-native.json")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The native encoder beside its peers.")
    parser.add_argument("--all", action="store_true", help="every shape, one thread and all")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--shapes", nargs="+", metavar="BxS", help="such as 8x128")
    parser.add_argument("--threads", nargs="+", type=int, help="numbers of threads (1)")
    parser.add_argument("--programs", nargs="+", choices=[*PROGRAMS, OPENVINO], default=USUAL)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--cpu-time", action="store_true", help="the thread's CPU time, where the machine is busy; one thread")
    asked = parser.parse_args()
    if asked.cpu_time and (asked.all or (asked.threads or [1]) != [1]):
        parser.error("--cpu-time sees one thread only; leave --threads and --all out")
    return asked


def main() -> None:
    asked = arguments()
    clock = time.thread_time if asked.cpu_time else time.perf_counter
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows: list[Row] = []
    shares: list[Figure] = []
    for threads in asked.threads or (sorted({1, cores}) if asked.all else [1]):
        for name in asked.models:
            model = model_of(name)
            resources = Resources(CACHE, threads=threads, progress=print)
            programs = {one: build(one, model, resources) for one in asked.programs}
            shapes = [tuple(map(int, one.split("x"))) for one in asked.shapes or ()]
            for shape in shapes or (SHAPES if asked.all else QUICK[name]):
                for half in (False, True):
                    batch = batch_of(*shape, half)
                    times = timed(calls_of(programs, batch), asked.rounds, clock)
                    ours = {one: programs[one] for one in programs if one in PROGRAMS and PROGRAMS[one][0].startswith("native")}
                    cosines = {one: cosine(program, batch, model) for one, program in ours.items()}
                    rows.append(Row(name, threads, shape, half, times, cosines))
                    print(rows[-1].line(), flush=True)
            if threads == 1 and "w7a7" in programs:
                shares += padding_share(name, programs)
            for program in programs.values():
                program.close()
    products = linears(clock) if set(asked.programs) & set(BITS) else ()
    found = [*figures(rows), *products, *shares]
    for figure in found:
        print(figure.line())
    keep(found, rows)


if __name__ == "__main__":
    main()
