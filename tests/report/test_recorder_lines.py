"""What a run says at its end: rows in the order of the walk, and a command that shows them again."""

from pathlib import Path

import pytest
from making import case, latency

from pytest_perfq.core.verdict import judge
from pytest_perfq.recorder import Recorder
from pytest_perfq.settings import Settings

WALK = [9, 0, 3]


def settings(store, tmp_path):
    return Settings(
        gpu="auto", against=None, save=None, store=str(store), data=None, cache=tmp_path / "cache", time=1.0, precision=0.01,
        visits=3, threads=1, only=None, strict=False, resume=False, allow_pickle=False, overwrite=False,
    )  # fmt: skip


def nodeid(number):
    return f"t.py::test[{case(number).id}]"


def finished(recorder, numbers):
    for number in numbers:
        measurement = latency(number)
        verdict = judge(measurement, ())
        record = {"measurement": measurement.to_json(), "verdict": verdict.to_json(), "resumed": False, "attempt": 1}
        recorder.remember(nodeid(number), record)
    recorder.finish(interrupted=False)


def shapes(recorder):
    text = "\n".join(recorder.lines(120))
    return [word for line in text.splitlines() for word in line.split() if word in {"b1", "b4", "b10"}]


@pytest.mark.parametrize("order", [[9, 0, 3], [0, 3, 9], [3, 9, 0]])
def test_rows_stand_in_the_order_of_the_walk(tmp_path, order):
    """However several processes finish, the rows are those of one process."""
    told = Recorder(settings(tmp_path / "told.db", tmp_path))
    told.walk([nodeid(number) for number in WALK])
    finished(told, order)
    assert shapes(told) == ["b10", "b1", "b4"]
    untold = Recorder(settings(tmp_path / "untold.db", tmp_path))
    finished(untold, order)
    assert shapes(untold) == ["b1", "b4", "b10"]


def test_a_process_that_collected_them_itself_shows_them_as_they_came(tmp_path):
    recorder = Recorder(settings(tmp_path / "runs.db", tmp_path))
    recorder.open(3)
    finished(recorder, WALK)
    assert shapes(recorder) == ["b10", "b1", "b4"]


def test_the_command_that_shows_it_again_finds_the_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for store, option in ((Path(".perfq/results.db").resolve(), ""), (tmp_path / "x.db", f" --store {tmp_path / 'x.db'}")):
        recorder = Recorder(settings(store, tmp_path))
        finished(recorder, [0])
        assert recorder.lines(300)[-2] == f"run {recorder._run} is in {store}; again with:"
        # One line at any width, to be copied.
        assert {recorder.lines(width)[-1] for width in (40, 300)} == {f"  perfq report {recorder._run}{option}"}


def test_a_password_in_the_name_of_the_store_is_not_printed(tmp_path):
    recorder = Recorder(settings("postgresql://me:secret@db/perfq", tmp_path))
    recorder._run, recorder._name = "20260101-000000-abcd", "postgresql://me:***@db/perfq"
    text = " ".join(" ".join(recorder.lines(80)).split())
    assert "secret" not in text and text.endswith("perfq report 20260101-000000-abcd with PERFQ_STORE set to that URL")
