"""Baselines: what is written comes back exactly, reads well, and is refused when torn, edited, newer or in the way."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from making import MACHINE, accuracy, latency

from pytest_perfq import baselines
from pytest_perfq.core.budget import Limit
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.verdict import Pair, Verdict, judge, judge_suite
from pytest_perfq.errors import BaselineError

LIMITS = (Limit("p95_ms", 6.0, None, "budget 1 for every case"), Limit("max_drop", 0.01, None, "budget 2 where backend=ort"))


def mixed():
    """Cases of every kind, on two machines, in no order."""
    other = Fingerprint({**MACHINE.identity, "gpu": "T4"}, MACHINE.stack, {"sm_clock_mhz": 1590})
    return [
        latency(7),
        accuracy([1, 0, 1, 1], [1, 1, 1, 1], number=3, churn={"n": 4, "flips": 0, "margin_noise": 0.0}),
        latency(2, anchor_ms=None, original_ms=None, visits=1, machine=other),
        replace(latency(4), visits=(), unmeasured="asserted t4, found cpu"),
        accuracy([0, 1, 1, 1], [1, 1, 1, 1], number=5),
        latency(1, rounds=8, ms=5000.0, quantization=None, padding="half", precision="fp16"),
    ]


@pytest.fixture
def saved(tmp_path):
    found = mixed()
    folder = baselines.save(tmp_path / "base", found, [judge(one, LIMITS) for one in found])
    return folder, found


def test_every_measurement_comes_back_exactly(saved):
    folder, found = saved
    loaded = baselines.load(folder)
    assert list(loaded) == sorted(one.case.id for one in found) and len(loaded) == len(found)
    for one in found:
        back = loaded.get(one.case.id)
        assert back == one and one == back
        assert back.to_json() == one.to_json()
        assert Measurement.from_json(json.loads(json.dumps(back.to_json()))) == one
        assert loaded.limits(one.case.id) == LIMITS
        assert loaded.status(one.case.id) == judge(one, LIMITS).status
    assert loaded.get("nothing") is None and "nothing" not in loaded


def test_stored_samples_are_like_any_others(saved):
    folder, found = saved
    visit, back = found[0].visits[1], baselines.load(folder).get(found[0].case.id).visits[1]
    assert back.case == visit.case and visit.case == back.case and hash(back.case) == hash(visit.case)
    assert back.case != visit.original and not (back.case == "text")
    assert back.case.median_error == visit.case.median_error > 0
    assert back.case.median_ns == visit.case.median_ns == np.median(visit.case.durations_ns)


def test_judging_a_loaded_baseline_is_judging_what_was_saved(saved):
    folder, found = saved
    loaded = baselines.load(folder)
    for one in found:
        again = judge(loaded.get(one.case.id), LIMITS, one)
        assert again == judge(one, LIMITS, loaded.get(one.case.id)) == judge(one, LIMITS, one)


def test_the_lines_read_well_and_are_sorted(saved):
    folder, _ = saved
    lines = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    by_id = {line["id"]: line for line in lines}
    assert list(by_id[accuracy([1], number=3).case.id])[:4] == ["id", "status", "score", "drop"]
    timed = by_id[latency(7).case.id]
    assert list(timed)[:6] == ["id", "status", "p50_ms", "p90_ms", "p95_ms", "speedup"]
    # Four digits: the exact numbers are in the samples.
    assert timed["p50_ms"] == float(f"{np.median(latency(7).durations_ns()) / 1e6:.4g}")
    assert "p99_ms" not in timed


def test_the_same_measurements_give_the_same_bytes_in_any_order(tmp_path):
    found = mixed()
    for name in ("one", "other"):
        baselines.save(tmp_path / name, found, [judge(one, LIMITS) for one in found])
        random.Random(1).shuffle(found)
    for name in ("cases.jsonl", "samples/latency.npz", "samples/outcomes.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_one_changed_case_changes_one_line(tmp_path):
    found = mixed()
    baselines.save(tmp_path / "one", found, [judge(one, LIMITS) for one in found])
    found[0] = latency(7, ms=7.0)
    baselines.save(tmp_path / "other", found, [judge(one, LIMITS) for one in found])
    both = [(tmp_path / name / "cases.jsonl").read_text().splitlines() for name in ("one", "other")]
    changed = [was for was, now in zip(*both, strict=True) if was != now]
    assert [json.loads(line)["id"] for line in changed] == [latency(7).case.id]


def test_of_a_case_measured_twice_the_later_is_kept(tmp_path):
    baselines.save(tmp_path / "base", [latency(ms=5.0), latency(ms=9.0)], [Verdict("a"), Verdict("b")])
    assert baselines.load(tmp_path / "base").get(latency().case.id) == latency(ms=9.0)


# -- in the way


def test_another_baseline_is_not_overwritten_unasked(saved):
    folder, found = saved
    with pytest.raises(
        BaselineError,
        match=r"base holds a baseline already; replace it by --perf-overwrite in a run or --overwrite of perfq accept \(the old one is "
        r"kept as base.previous\)",
    ):
        baselines.save(folder, found[:1], [judge(found[0], ())])
    with pytest.raises(BaselineError, match="holds a baseline already"):
        baselines.check_free(folder)
    assert len(baselines.load(folder)) == len(found)


def test_overwriting_moves_the_old_ones_aside(saved):
    folder, found = saved
    for _ in range(2):
        baselines.save(folder, found[:1], [judge(found[0], ())], overwrite=True)
    assert len(baselines.load(folder)) == 1
    assert len(baselines.load(folder.with_name("base.previous"))) == len(found)
    assert len(baselines.load(folder.with_name("base.previous-2"))) == 1


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "code.py").write_text("x = 1")
    for overwrite in (False, True):
        with pytest.raises(BaselineError, match="src exists and is not a baseline; save under another name"):
            baselines.save(tmp_path / "src", [latency()], [Verdict("a")], overwrite=overwrite)
    assert (tmp_path / "src" / "code.py").read_text() == "x = 1"
    (tmp_path / "empty").mkdir()
    baselines.check_free(tmp_path / "empty")
    baselines.check_free(tmp_path / "new")


def test_nothing_is_not_a_baseline(tmp_path):
    with pytest.raises(BaselineError, match="there is no case to save"):
        baselines.save(tmp_path / "base", [], [])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BaselineError, match=r"cannot write the baseline .*file/base: .*; save it elsewhere"):
        baselines.save(tmp_path / "file" / "base", [latency()], [Verdict("a")])


def test_a_broken_save_leaves_nothing_behind(tmp_path, monkeypatch):
    def broken(*arguments):
        raise OSError(28, "No space left on device")

    baselines.save(tmp_path / "base", [latency()], [Verdict("a")])
    monkeypatch.setattr("pytest_perfq.baselines.writing._write_outcomes", broken)
    with pytest.raises(BaselineError, match="No space left on device"):
        baselines.save(tmp_path / "base", [latency(1)], [Verdict("a")], overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["base"]
    assert list(baselines.load(tmp_path / "base")) == [latency().case.id]


# -- torn


def test_a_missing_baseline_names_those_there_are(saved):
    folder, _ = saved
    with pytest.raises(
        BaselineError, match=r"there is no baseline at .*/nothing; beside it there are: base; save one with --perf-save"
    ):
        baselines.load(folder.with_name("nothing"))


@pytest.mark.parametrize("name", ["cases.jsonl", "samples/latency.npz", "samples/outcomes.npz"])
def test_an_edited_file_is_named_with_both_checksums(saved, name):
    file = saved[0] / name
    data = file.read_bytes()
    file.write_bytes(data.replace(b"a", b"b", 1))
    with pytest.raises(
        BaselineError,
        match=rf"{name} was edited or torn: its checksum is [0-9a-f]{{12}}, meta.json says [0-9a-f]{{12}}; restore it",
    ):
        baselines.load(saved[0])
    file.write_bytes(data[:-1])
    with pytest.raises(BaselineError, match="edited or torn"):
        baselines.load(saved[0])
    file.unlink()
    with pytest.raises(BaselineError, match=rf"lacks {name} \(No such file or directory\); restore it"):
        baselines.load(saved[0])


def test_an_edited_meta_is_named_with_both_checksums(saved):
    file = saved[0] / "meta.json"
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({**meta, "cases": 99}))
    with pytest.raises(BaselineError, match=r"meta.json was edited: its checksum is [0-9a-f]{12}, it says [0-9a-f]{12}"):
        baselines.load(saved[0])
    file.write_text(file.read_text()[:-20])
    with pytest.raises(BaselineError, match=r"meta.json is torn: it is not the JSON of a baseline"):
        baselines.load(saved[0])
    file.write_text("[]")
    with pytest.raises(BaselineError, match=r"meta.json is torn"):
        baselines.load(saved[0])


def test_a_newer_format_is_refused_with_both_numbers(saved):
    file = saved[0] / "meta.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 2}))
    with pytest.raises(BaselineError, match="has format 2 and this version of pytest-perfq reads 1; upgrade pytest-perfq"):
        baselines.load(saved[0])


def test_a_case_that_this_version_calls_otherwise_is_named(saved, monkeypatch):
    loaded = baselines.load(saved[0])
    line = loaded.line(latency(7).case.id)
    line["case"]["batch_size"] = 3
    with pytest.raises(BaselineError, match=r"the case '.*/b8/s32' is called '.*/b3/s32' by this version of pytest-perfq"):
        loaded.get(latency(7).case.id)


# -- many


def test_a_thousand_unchanged_cases_load_and_are_judged(tmp_path):
    found = [latency(number, rounds=20) for number in range(1000)]
    for name in ("one", "other"):
        baselines.save(tmp_path / name, found, [Verdict(one.case.id) for one in found])
    was = baselines.load(tmp_path / "one")
    now = baselines.load(tmp_path / "other", like=was)
    verdicts = judge_suite({name: Pair(now.get(name), now.limits(name), was.get(name)) for name in now})
    assert len(verdicts) == 1000 and {verdict.status for verdict in verdicts.values()} == {"pass"}


# -- what is no baseline


def test_each_kind_of_folder_that_is_no_baseline_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [latency(0)]
    for name in ("v1", "v2"):
        baselines.save(f"all/{name}", found, [judge(one, LIMITS) for one in found])
    (tmp_path / "all/v2/meta.json").unlink()
    (tmp_path / "empty").mkdir()
    (tmp_path / "suites").mkdir()
    for file in ("file", "suites/test_a.py"):
        (tmp_path / file).write_text("")
    (tmp_path / "all/.v3.making").mkdir()
    (tmp_path / "all/.v3.making/cases.jsonl").write_text("")
    for name, sentence in {
        "all": "all is not a baseline, it is a folder of 2 baselines: all/v1, all/v2; name one of them",
        "all/v2": "the baseline all/v2 lacks meta.json, without which nothing in it can be checked; restore it from version "
        "control, or save it again",
        "all/v9": "there is no baseline at all/v9; beside it there are: v1, v2; save one with --perf-save all/v9",
        "empty": "the folder empty holds no meta.json, so it is no baseline; save one with --perf-save empty",
        # Where saving would refuse: see check_free.
        "suites": "the folder suites holds no meta.json, so it is no baseline; save one under another name, such as --perf-save "
        "baselines/NAME",
        "nothing": "there is no baseline at nothing; save one with --perf-save nothing",
        "file": "file is a file, and a baseline is a folder; name the folder that holds meta.json",
    }.items():
        with pytest.raises(BaselineError) as error:
            baselines.load(name)
        assert str(error.value) == sentence
    assert [str(path) for path in baselines.inside("all")] == ["all/v1", "all/v2"]


def test_many_baselines_are_counted_not_listed(tmp_path):
    for number in range(8):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "meta.json").write_text("{}")
    with pytest.raises(BaselineError, match=r"a folder of 8 baselines: .*v0, .*v4 and 3 more; name one of them"):
        baselines.load(tmp_path)
