"""Imports go down only, one third-party library has one home, and the plugin's import stays light."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "pytest_perfq"
# From the ground up. A module may import from the layers below its own, and from its own package.
LAYERS = [
    ["errors", "exchange"],
    ["registry"],
    ["core"],
    ["contracts", "metrics"],
    ["inputs"],
    ["kernels"],
    ["device", "anchor", "stopwatch", "tasks", "backends", "training", "target"],
    ["materials"],
    ["timedcall", "benchmark_call"],
    ["runner", "baselines", "store", "benchmarks"],
    ["arguments"],
    ["settings", "report"],
    ["trials", "outcome"],
    ["item", "recorder"],
    ["suite"],
    ["collecting"],
    ["ahead", "benchmark_hook", "holding"],
    ["controller"],
    ["plugin"],
    ["held"],
    ["worker"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# Tasks fine-tune: training is made for them, and they for it.
SIBLINGS = {("tasks", "training"), ("training", "tasks")}
HOMES = {
    "pytest": {"plugin", "controller", "collecting", "suite", "ahead", "benchmark_hook", "holding"},
    "click": {"cli"},
    "sqlalchemy": {"store"},
    "rich": {"report", "cli"},
    "onnx": {"backends"},
    "onnxruntime": {"backends", "device"},
    "torch": {"kernels", "tasks", "backends", "device", "training", "anchor", "stopwatch", "benchmarks"},
    "transformers": {"tasks", "backends", "training"},
    "optimum": {"tasks", "backends"},
    "datasets": {"tasks"},
    "pyarrow": {"tasks"},
    "evaluate": {"metrics", "tasks"},
    "pynvml": {"device"},
}
HEAVY = [
    "torch",
    "transformers",
    "onnxruntime",
    "onnx",
    "sqlalchemy",
    "datasets",
    "evaluate",
    "optimum",
    "numpy",
    "rich",
    "scipy",
]


def imports():
    """(top module of ours, imported dotted name) of every import, those of functions and TYPE_CHECKING included."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        top = parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((top, alias.name, path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path} imports relatively"
                yield from ((top, f"{node.module}.{alias.name}", path) for alias in node.names)


def test_imports_go_down_only():
    seen = set()
    for top, name, path in imports():
        if not name.startswith("pytest_perfq.") or top == "__init__":
            continue
        other = name.split(".")[1]
        if other == "__version__":
            continue
        seen |= {top, other}
        assert top in LEVEL and other in LEVEL, f"{path}: {top} or {other} has no layer"
        lower = LEVEL[other] < LEVEL[top]
        assert lower or other == top or (top, other) in SIBLINGS, f"{path} imports {name}: not below {top}"
    assert {"core", "plugin", "runner", "backends"} <= seen  # the walk saw the house


def test_every_library_has_its_home():
    for top, name, path in imports():
        home = HOMES.get(name.split(".")[0])
        if home is None or path.name in ("settings.py", "arguments.py"):
            continue  # they name pytest's types and import none of it
        assert top in home, f"{path} imports {name}; its home is {sorted(home)}"


def test_the_plugin_imports_nothing_heavy():
    code = f"import sys; import pytest_perfq.plugin; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
