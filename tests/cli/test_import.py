"""`perfq import`: files that pytest-benchmark itself wrote, held against its own statistics, and files that nobody can use."""

import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_perfq.core.benchmarks import KEPT, case_of, read
from pytest_perfq.core.case import Case
from pytest_perfq.core.summary import summarize
from pytest_perfq.store import Store

SUITE = """\
import pytest
@pytest.mark.parametrize("size", [10, 200])
def test_sort(benchmark, size):
    benchmark(sorted, list(range(size))[::-1])
class TestOf:
    def test_slash(self, benchmark):
        benchmark.pedantic(sum, args=(range(5000),), rounds=9, iterations=4)
"""
NAMES = ["tests/test_a.py::test_sort[10]", "tests/test_a.py::test_sort[200]", "tests/test_a.py::TestOf::test_slash"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files that pytest-benchmark wrote of a real run: with every round, and with statistics alone."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_a.py").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist",
        "--benchmark-max-time=0.02", "--benchmark-json=all.json", "--benchmark-save=some",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    (saved,) = folder.glob(".benchmarks/*/*_some.json")
    return folder / "all.json", saved


def medians(path):
    return {one["fullname"]: one["stats"]["median"] * 1e3 for one in json.loads(path.read_text())["benchmarks"]}


def slower(path, target, by, name=NAMES[1], shift=0.0):
    """The same file with a benchmark slower by a factor."""
    values = json.loads(path.read_text())
    for one in values["benchmarks"]:
        if one["fullname"] == name:
            one["stats"]["data"] = [value * by + shift for value in one["stats"]["data"]]
    target.write_text(json.dumps(values))
    return target


def test_every_benchmark_is_a_case_with_the_medians_of_pytest_benchmark(written, command):
    status, output, errors = command("import", written[0])
    assert (status, errors) == (0, "")
    assert output.startswith(f"imported 3 benchmarks of {written[0]} as run ") and "rounds" not in output
    with Store.open(".perfq/results.db", readonly=True) as store:
        run = store.run("last")
        points = {one.nodeid: store.history(one.measurement["case"]["id"])[-1] for one in store.records(run.id)}
        records = store.records(run.id)
    assert run.finished_s is not None and list(points) == NAMES
    wanted = medians(written[0])
    # Nanoseconds are whole: half of one is what may be lost.
    assert {name: one.p50_ms for name, one in points.items()} == pytest.approx(wanted, abs=0.51e-6)
    assert {one.measurement["case"]["id"] for one in records} == {f"benchmark/{name}" for name in NAMES}
    assert {one.status for one in records} == {"pass"}
    assert [one.measurement["facts"]["iterations"] for one in records][2] == 4
    machine = json.loads(written[0].read_text())["machine_info"]
    identity = records[0].measurement["fingerprint"]["identity"]
    assert (identity["cpu"], identity["architecture"]) == (machine["cpu"]["brand_raw"], machine["machine"])


def test_statistics_alone_keep_the_median_and_say_so(written, command):
    status, output, _ = command("import", written[1])
    assert status == 0
    assert "of 3 of them the file holds no rounds: min, q1, median, q3 and max stand for them" in output
    assert "save all with --benchmark-save-data" in output
    values = json.loads(written[1].read_text())
    for measurement, one in zip(read(values), values["benchmarks"], strict=True):
        assert summarize(measurement).percentiles_ms["p50"] == pytest.approx(one["stats"]["median"] * 1e3, abs=0.51e-6)
        assert measurement.facts["rounds"] == f"{', '.join(KEPT)} alone of {one['stats']['rounds']} rounds"


def test_what_looks_slower_is_undecided_since_nothing_was_timed_beside_it(written, command, tmp_path):
    command("import", written[0])
    command("import", slower(written[0], tmp_path / "slow.json", 3.0))
    with Store.open(".perfq/results.db", readonly=True) as store:
        new, old = (one.id for one in store.runs()[:2])
    status, output, _ = command("compare", old, new)
    assert status == 2 and "3 cases: 3 inconclusive" in output
    row = next(line for line in output.splitlines() if line.lstrip().startswith("test_a.py::test_sort[200]"))
    # Whole nanoseconds of a call of a microsecond.
    assert re.search(r"\+(199|200)\.\d%", row) and "inconclusive" in row
    assert "there is no anchor in every visit" in output


def test_history_report_list_and_export_know_them(written, command, tmp_path):
    for shift in (1e-9, 0.0):
        command("import", slower(written[0], tmp_path / "one.json", 1.0, shift=shift))
    status, output, _ = command("history", f"benchmark/{NAMES[0]}")
    assert status == 0 and len([line for line in output.splitlines() if line.rstrip().endswith("pass")]) == 2
    status, output, _ = command("report", "last")
    assert status == 0 and "latency of benchmark/tests/test_a.py" in output
    assert [line.split()[0] for line in output.splitlines() if line.rstrip().endswith("pass")][:3] == [
        "test_sort[10]",
        "test_sort[200]",
        "TestOf::test_slash",
    ]
    status, output, _ = command("report", "last", "--format", "markdown")
    assert "Times for one call." in output and "`test_sort[200]`" in output
    status, output, _ = command("list", "cases")
    assert all(f"{name.rpartition('/')[2]}" in output for name in NAMES)
    status, output, _ = command("export", "last", "--format", "pytest-benchmark")
    again = tmp_path / "again.json"
    again.write_text(output)
    assert medians(again) == pytest.approx(medians(written[0]), abs=0.51e-6)
    # And once more, from what was exported: the machine is the same one.
    assert read(json.loads(output))[0].fingerprint.key == read(json.loads(written[0].read_text()))[0].fingerprint.key


def test_a_change_of_level_is_found_over_imported_runs(written, command, tmp_path):
    for number in range(16):
        by = (1.0 if number < 8 else 2.0) * (1 + 0.004 * (number % 3)) + 1e-6 * number  # no file twice
        path = slower(written[0], tmp_path / "one.json", by)
        for name in (NAMES[0], NAMES[2]):
            slower(path, path, 1 + 0.004 * (number * 7 % 3), name)
        command("import", path)
    status, output, _ = command("history", "--changes")
    changed = [line for line in output.splitlines() if "%" in line]
    assert status == 0 and len(changed) == 1 and NAMES[1].rpartition("/")[2] in changed[0]
    assert "+100" in changed[0] or "+99" in changed[0] or "+10" in changed[0]


def test_an_imported_run_is_no_baseline_and_is_compared_as_the_run_it_is(written, command):
    command("import", written[0])
    with Store.open(".perfq/results.db", readonly=True) as store:
        run = store.runs()[0].id
    status, output, errors = command("accept", "last", "kept")
    assert (status, output) == (3, "") and errors == (
        f"perfq: the run {run} is one of `perfq import`: its timings have no reference layer beside them, without which no later "
        "run can be held against it; save a run of pytest, with --perf-benchmarks and --perf-save\n"
    )
    assert not Path("kept").exists()
    status, output, _ = command("compare", run, "last")
    assert status in (0, 2) and "3 cases" in output and "regressed" not in output


def at(path, target, time):
    """The same file as of another time; None for one that does not say."""
    values = json.loads(path.read_text())
    del values["datetime"]
    target.write_text(json.dumps(values | ({"datetime": time} if time else {})))
    return target


def test_the_history_has_them_in_the_order_in_which_they_were_measured(written, command, tmp_path):
    times = ("2026-03-01T12:00:00+00:00", "2026-01-01T12:00:00+00:00", "2026-02-01T12:00:00+01:00")
    for by, moment in zip((3.0, 1.0, 2.0), times, strict=True):
        assert command("import", at(slower(written[0], tmp_path / "one.json", by), tmp_path / "one.json", moment))[0] == 0
    with Store.open(".perfq/results.db", readonly=True) as store:
        points, runs = store.history(f"benchmark/{NAMES[1]}"), store.runs()
    median = medians(written[0])[NAMES[1]]
    assert [one.p50_ms for one in points] == pytest.approx([median, 2 * median, 3 * median], rel=0.02)
    measured = [datetime.datetime.fromisoformat(time).timestamp() for time in sorted(times)]
    assert [one.recorded_s for one in points] == measured and [one.started_s for one in runs] == measured[::-1]
    assert [one.id for one in runs] == [one.run_id for one in points][::-1]
    assert runs[0].id.startswith("20260301-120000-") and runs[0].finished_s is not None


def test_of_two_imports_of_one_moment_the_later_one_is_the_last(written, command, tmp_path):
    files = (slower(written[0], tmp_path / "one.json", 1.0 + number) for number in range(5))
    ids = [command("import", file)[1].split("perfq report ")[1].split()[0] for file in files]
    with Store.open(".perfq/results.db", readonly=True) as store:
        assert [one.id for one in store.runs()] == ids[::-1] and store.run("last").id == ids[-1]


def test_what_was_imported_already_is_told_and_counts_once(written, command, tmp_path):
    run = command("import", written[0])[1].split("perfq report ")[1].split()[0]
    (tmp_path / "other.json").write_text(json.dumps(json.loads(written[0].read_text()), sort_keys=True))
    for path in (written[0], tmp_path / "other.json"):
        sentence = f"{path} was imported already, as run {run}; see it with: perfq report {run}\n"
        assert command("import", path) == (0, sentence, "")
    with Store.open(".perfq/results.db", readonly=True) as store:
        assert [one.id for one in store.runs()] == [run] and len(store.history(f"benchmark/{NAMES[0]}")) == 1
    assert command("import", slower(written[0], tmp_path / "new.json", 2.0))[1].startswith("imported 3 benchmarks of ")


def test_an_import_that_was_cut_off_is_made_again(written, command, monkeypatch):
    def cut(self, run):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "finish_run", cut)
        assert command("import", written[0])[0] != 0
    status, output, _ = command("import", written[0])
    assert status == 0 and output.startswith("imported 3 benchmarks of ")
    assert command("import", written[0])[1].startswith(f"{written[0]} was imported already, as run ")


def test_a_file_that_does_not_say_when_is_of_now(written, command, tmp_path):
    before = time.time()
    status, output, _ = command("import", at(written[0], tmp_path / "one.json", None))
    assert status == 0 and "the file does not say when they were measured: the history has them as of now" in output
    with Store.open(".perfq/results.db", readonly=True) as store:
        assert before <= store.runs()[0].started_s <= time.time()


def test_a_file_of_the_future_is_not_taken(written, command, tmp_path):
    status, _, errors = command("import", at(written[0], tmp_path / "one.json", "2999-01-01T12:00:00+00:00"))
    assert status == 3 and errors.startswith(
        f"perfq: {tmp_path / 'one.json'} cannot be imported: it says that it was measured on 2999-01-01 "
    )
    assert errors.endswith("; mend the clock that is wrong, or the file's `datetime`\n") and ", and here it is 2" in errors


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "cannot be imported: it is empty; give the file that `pytest --benchmark-json=FILE` writes"),
        ('{"benchmarks": [', "cannot be imported: it is no whole JSON (Expecting value: line 1 column 17 (char 16)); give"),
        ("[1, 2]", "cannot be imported: it is not of pytest-benchmark: there is no list of `benchmarks` in it; give"),
        ('{"results": []}', "cannot be imported: it is not of pytest-benchmark: there is no list of `benchmarks` in it; give"),
        (
            '{"benchmarks": []}',
            "cannot be imported: it holds no benchmarks: none ran, or pytest-benchmark was disabled, as it is under xdist; give",
        ),
        (
            '{"benchmarks": [{"name": "a"}]}',
            "cannot be imported: a benchmark in it lacks its `fullname` or its `stats`: {'name': 'a'}; give",
        ),
        (
            '{"benchmarks": [{"fullname": "t.py::a", "stats": {"data": [0.1, "x"]}}]}',
            "cannot be imported: t.py::a has a round of 'x' seconds in it; a duration is a number of at least 0; give",
        ),
        (
            '{"benchmarks": [{"fullname": "t.py::a", "stats": {"median": 0.1}}]}',
            "cannot be imported: t.py::a has a round of None seconds in it; a duration is a number of at least 0; give",
        ),
    ],
)
def test_a_file_that_is_not_one_is_told_in_a_sentence(text, sentence, command, tmp_path):
    (tmp_path / "torn.json").write_text(text)
    status, output, errors = command("import", "torn.json")
    assert (status, output) == (3, "")
    assert errors.startswith(f"perfq: torn.json {sentence}"), errors
    assert not (tmp_path / ".perfq").exists()


def test_files_that_cannot_be_read(command, tmp_path):
    assert command("import", "away.json")[2].startswith("perfq: away.json cannot be read: No such file or directory; give the")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    assert "cannot be imported: it is not text; give the file" in command("import", "bytes")[2]


@pytest.mark.parametrize("name", [*NAMES, "deep/er/test_b.py::test_it[a/b-c::d]", "no-file"])
def test_the_case_of_a_test_reads_back_and_keeps_its_name(name):
    case = case_of(name)
    assert case.kind == "latency" and not case.is_original
    assert case.id.removeprefix("benchmark/") == (name if "::" in name else f"unknown::{name}")
    assert Case.from_json(json.loads(json.dumps(case.to_json()))) == case
