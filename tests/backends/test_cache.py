"""The content-addressed cache: one builder however many processes ask, and nothing damaged is ever handed out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pytest_perfq.backends._onnx import cache

KEY = {"model": "abc", "opset": 11}
BUILDER = """
import sys, time
from pathlib import Path
from pytest_perfq.backends._onnx import cache
root, mark = Path(sys.argv[1]), Path(sys.argv[2])
def build(folder):
    with mark.open("a") as file:
        file.write("built\\n")
    (folder / "half.bin").write_bytes(b"x" * 1000)
    time.sleep(0.5)
    (folder / "model.onnx").write_bytes(b"y" * 1000)
    return {"n": 1}
entry = cache.entry(root, {"model": "abc"}, build, print)
assert sorted(path.name for path in entry.folder.iterdir()) == ["half.bin", "meta.json", "model.onnx"]
print(entry.hit)
"""


def building(log, content=b"graph"):
    def build(folder):
        log.append(folder)
        (folder / "model.onnx").write_bytes(content)
        return {"fused": "Attention:2", "n": 3}

    return build


def test_a_second_request_finds_the_first_ones_files(tmp_path):
    log, said = [], []
    first = cache.entry(tmp_path, KEY, building(log), said.append)
    second = cache.entry(tmp_path, dict(reversed(KEY.items())), building(log), said.append)
    assert (first.hit, second.hit, len(log), said) == (False, True, 1, [])
    assert second.facts == first.facts == {"fused": "Attention:2", "n": 3}
    assert (second.folder / "model.onnx").read_bytes() == b"graph"
    assert json.loads((second.folder / "meta.json").read_text())["key"] == KEY


@pytest.mark.parametrize("other", [{"model": "abd", "opset": 11}, {"model": "abc", "opset": 12}, {"model": "abc"}])
def test_another_key_is_another_entry(other, tmp_path):
    log = []
    one = cache.entry(tmp_path, KEY, building(log), print)
    two = cache.entry(tmp_path, other, building(log), print)
    assert one.folder != two.folder and len(log) == 2


def _truncate(folder):
    (folder / "model.onnx").write_bytes(b"gra")


def _flip(folder):
    (folder / "model.onnx").write_bytes(b"grapH")


def _lose(folder):
    (folder / "model.onnx").unlink()


def _tear(folder):
    (folder / "meta.json").write_text('{"facts": {')


def _strip(folder):
    (folder / "meta.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (_truncate, "model.onnx does not have its checksum"),
        (_flip, "model.onnx does not have its checksum"),
        (_lose, "model.onnx is missing"),
        (_tear, "meta.json cannot be read: JSONDecodeError"),
        (_strip, "meta.json cannot be read: KeyError"),
    ],
)
def test_a_damaged_entry_is_reported_and_built_again(damage, fault, tmp_path):
    log, said = [], []
    folder = cache.entry(tmp_path, KEY, building(log), said.append).folder
    damage(folder)
    again = cache.entry(tmp_path, KEY, building(log), said.append)
    assert said == [f"cache entry {folder} is damaged ({fault}); building it again"]
    assert (again.hit, len(log), (again.folder / "model.onnx").read_bytes()) == (False, 2, b"graph")
    assert cache.entry(tmp_path, KEY, building(log), said.append).hit


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def build(folder):
        (folder / "model.onnx").write_bytes(b"half")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache.entry(tmp_path, KEY, build, print)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert not cache.entry(tmp_path, KEY, building([]), print).hit


def test_three_processes_at_once_build_once(tmp_path):
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "cache"), str(tmp_path / "mark")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    assert sorted(out.strip() for out, _ in said) == ["False", "True", "True"]
    assert (tmp_path / "mark").read_text() == "built\n"
