"""What a reader copies from the README: suites that can be, options and commands that there are."""

import re
from collections import Counter
from pathlib import Path

import pytest

from pytest_perfq.arguments import FLAGS, OPTIONS
from pytest_perfq.cli.commands import perfq
from pytest_perfq.core.sweep import Sweep

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
SUITES = [block for block in re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE) if "Sweep" in block]


def sweep_in(text):
    values = {}
    exec(compile(text, "README.md", "exec"), values)
    (found,) = (one for one in values.values() if isinstance(one, Sweep))
    return found


@pytest.mark.parametrize(
    "text, wanted", list(zip(SUITES, [{"accuracy": 3, "latency": 6}, {"accuracy": 5, "latency": 45}], strict=True))
)
def test_its_suites_are_whole(text, wanted):
    assert Counter(one.kind for one in sweep_in(text).cases("cpu", "cpu")) == wanted


def test_the_first_needs_no_hub():
    cases = sweep_in(SUITES[0]).cases("cpu", "cpu")
    assert {(one.dataset, one.model) for one in cases} == {("synthetic", "synthetic:bert")}


def test_its_options_and_commands_are_there():
    options = {f"--perf-{one.name}" for one in OPTIONS} | {f"--{no}perf-{name}" for name, _ in FLAGS for no in ("", "no-")}
    assert set(re.findall(r"--(?:no-)?perf-[a-z0-9][a-z0-9-]*", README)) <= options
    assert set(re.findall(r"(?:^    |`)perfq ([a-z]+)", README, re.MULTILINE)) <= set(perfq.commands)
