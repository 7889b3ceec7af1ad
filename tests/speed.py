"""What the plugin itself costs. Prints a table and writes .perfq/speed.json: a list of {name, value, unit, better, goal}.

    make speed

Times of whole processes, of imports and of collecting are medians over fresh ones, those of processes in turn with their
counterpart, so that drift of the machine falls on both. Storing is the median of three in one process; the bytes of an item and the
harness are of one run each, over thousands of items and over forty cases.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 9
MS = 1e3


def python(code: str, *args: str) -> str:
    """What a fresh interpreter prints for `code`."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"a speed measurement failed:\n{done.stderr}")
    return done.stdout.strip()


def plugin_import_ms() -> float:
    """Importing the plugin where pytest is already imported, as pytest's start-up does it."""
    code = """
    import time, pytest, _pytest.config.argparsing, sys
    start = time.perf_counter()
    import pytest_perfq.plugin
    assert "torch" not in sys.modules
    print((time.perf_counter() - start) * 1e3)
    """
    return statistics.median(float(python(code)) for _ in range(ROUNDS))


def unrelated_run_ms() -> float:
    """A run of one trivial test with the plugin, over the same run without it; pairs in turn, median of the differences."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_one.py").write_text("def test_one():\n    assert 1 + 1 == 2\n")
        # Other people's plugins stay out: they take a second, and their noise would drown the few milliseconds sought.
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

        def run(*args: str) -> float:
            start = time.perf_counter()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
            subprocess.run(command, cwd=folder, check=True, capture_output=True, env=alone)
            return time.perf_counter() - start

        run("-p", "pytest_perfq.plugin")
        pairs = [(run("-p", "pytest_perfq.plugin"), run()) for _ in range(5 * ROUNDS)]
    return statistics.median(with_it - without for with_it, without in pairs) * MS


COLLECT = """
import gc, sys, time, tracemalloc
import pytest

class Watch:
    def pytest_collection_finish(self, session):
        self.items = len(session.items)
        if tracemalloc.is_tracing():
            gc.collect()
            self.bytes = tracemalloc.get_traced_memory()[0]

folder, count, traced = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "traced"
sizes = f"batch_size=range(1, {count // 100} + 1), seq_len=range(1, 101)" if count else "batch_size=1, seq_len=1"
with open(folder + "/test_many.py", "w") as file:
    file.write(f'''
from pytest_perfq import Budget, Sweep
S = Sweep(task="question-answering", model="synthetic:bert", accuracy=False, {sizes},
          budgets=[Budget(max_drop=0.01), Budget(where={{"backend": "eager"}}, p95_ms=9)])
@S
def test_many(case, perfq):
    perfq(case)
''')
watch = Watch()
if traced:
    tracemalloc.start()
start = time.perf_counter()
quiet = ["--collect-only", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:terminal"]
assert pytest.main([folder, *quiet], plugins=[watch]) == 0
elapsed = time.perf_counter() - start
assert "torch" not in sys.modules and watch.items == max(count, 1)
print(elapsed, watch.bytes if traced else 0)
"""


def collect() -> tuple[float, float]:
    """Seconds to collect 10,000 cases, and bytes an item (the slope between 100 and 10,000 items)."""

    def once(count: int, how: str) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            seconds, size = python(COLLECT, folder, str(count), how).split()
        return float(seconds), float(size)

    seconds = statistics.median(once(10_000, "plain")[0] for _ in range(3))
    return seconds, (once(10_000, "traced")[1] - once(100, "traced")[1]) / 9_900


def _measurements(count: int) -> list[object]:
    """Measurements as a run gives them: three visits of 60 rounds a side, no two alike."""
    import random

    from pytest_perfq.core.case import Case
    from pytest_perfq.core.fingerprint import Fingerprint
    from pytest_perfq.core.measurement import Measurement, Samples, Visit
    from pytest_perfq.core.spec import Spec

    generator = random.Random(0)

    def samples(base: int) -> Samples:
        return Samples(tuple(round(base * generator.uniform(1.0, 1.1)) for _ in range(60)), (base,) * 4, 1e9)

    fingerprint = Fingerprint({"cpu_model": "a CPU", "threads": 2}, {"torch": "2"}, {"load": 0.5})
    found: list[object] = []
    for index in range(count):
        case = Case(
            task=Spec("question-answering"), dataset="squad", model="m", model_name="m", backend=Spec("ort"),
            batch_size=1 + index % 100, seq_len=1 + index // 100,
        )  # fmt: skip
        visits = tuple(Visit(samples(2_000_000), samples(4_000_000), samples(1_000_000)) for _ in range(3))
        found.append(Measurement(case=case, fingerprint=fingerprint, visits=visits, model_bytes=1))
    return found


def store_1000_s() -> float:
    """Recording 1,000 latency cases with their raw samples, one transaction each."""
    from pytest_perfq.core.verdict import judge
    from pytest_perfq.store import Store

    plain = [(one.to_json(), judge(one, ()).to_json()) for one in _measurements(1000)]  # type: ignore[attr-defined,arg-type]
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder, Store.open(f"{folder}/results.db") as store:
            run = store.begin_run(["speed"], {})
            start = time.perf_counter()
            for index, (measurement, verdict) in enumerate(plain):
                store.record(run, f"test[{index}]", measurement, verdict, attempt=1)
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def compare_10000_s() -> float:
    """`perfq compare` of two baselines of 10,000 cases, the whole process."""
    from pytest_perfq import baselines
    from pytest_perfq.core.verdict import judge

    measurements = _measurements(10_000)
    verdicts = [judge(one, ()) for one in measurements]  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            baselines.save(f"{folder}/{name}", measurements, verdicts)  # type: ignore[arg-type]
        times = []
        for _ in range(3):
            start = time.perf_counter()
            command = [sys.executable, "-m", "pytest_perfq.cli", "compare", f"{folder}/a", f"{folder}/b", "--format", "json"]
            done = subprocess.run(command, capture_output=True, text=True)
            times.append(time.perf_counter() - start)
            if done.returncode not in (0, 2):
                raise SystemExit(f"compare of a baseline with itself exits {done.returncode}:\n{done.stderr[-2000:]}")
    return statistics.median(times)


HARNESS = """
import sys, time
import pytest

class Watch:
    measured = 0.0
    def pytest_collection_finish(self, session):
        self.start, self.items = time.perf_counter(), len(session.items)
    def pytest_runtest_logfinish(self):
        self.end = time.perf_counter()

from pytest_perfq import runner
watch = Watch()
measure = runner.Workbench.measure
def timed(self, case, limits=()):
    start = time.perf_counter()
    try:
        return measure(self, case, limits)
    finally:
        watch.measured += time.perf_counter() - start
runner.Workbench.measure = timed
folder = sys.argv[1]
with open(folder + "/test_some.py", "w") as file:
    file.write('''
from pytest_perfq import Sweep
S = Sweep(task="question-answering", model="synthetic:bert", accuracy=False, batch_size=range(1, 6), seq_len=[8, 16, 24, 32, 40, 48, 56, 64])
@S
def test_some(case, perfq):
    perfq(case)
''')
import torch, transformers  # an import is no cost of a case
store = "--perf-store=" + folder + "/results.db"
assert pytest.main([folder, "-q", "-q", "--perf-time=100ms", store, "-p", "no:cacheprovider", "-p", "no:randomly", "-s"], plugins=[watch]) == 0
print("\\n", (watch.end - watch.start - watch.measured) / watch.items * 1e3)
"""


def harness_ms() -> float:
    """What judging, storing and reporting one case costs beyond measuring it, over 40 small cases."""
    with tempfile.TemporaryDirectory() as folder:
        return float(python(HARNESS, folder).splitlines()[-1])


def main() -> None:
    figures: list[dict[str, object]] = []

    def add(name: str, value: float, unit: str, goal: float) -> None:
        figures.append({"name": name, "value": round(value, 3), "unit": unit, "better": "smaller", "goal": goal})
        print(f"{name:<44}{value:>12.2f} {unit:<6} goal {goal:g}{'' if value <= goal else '   MISSED'}", flush=True)

    add("plugin import, without torch", plugin_import_ms(), "ms", 30)
    add("unrelated pytest run, over one without us", unrelated_run_ms(), "ms", 30)
    seconds, size = collect()
    add("collect 10,000 cases", seconds, "s", 3)
    add("memory of an item", size, "bytes", 4096)
    add("harness time a case beyond measuring", harness_ms(), "ms", 20)
    steps: list[tuple[str, Callable[[], float], float]] = [
        ("store 1,000 cases", store_1000_s, 2),
        ("compare two baselines of 10,000 cases", compare_10000_s, 2),
    ]
    for name, measure, goal in steps:
        add(name, measure(), "s", goal)
    path = ROOT / ".perfq" / "speed.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
