"""Each mistake gets one clear sentence, and what can still run runs."""

import pytest


def one_sentence(result, *parts, code):
    text = result.stdout.str() + result.stderr.str()
    for part in parts:
        assert part in text, text
    for machinery in ("INTERNALERROR", "Traceback (most recent call last)", "_pytest.outcomes", "pluggy/", "/pytest_perfq/"):
        assert machinery not in text, text
    assert result.ret == code, text


@pytest.mark.parametrize(
    "option, parts",
    [
        ("--perf-gpu=t44", ("--perf-gpu is 't44'", "unknown gpu 't44'; did you mean 't4'?")),
        ("--perf-time=0", ("--perf-time is '0'", "give a duration over zero, such as 500ms, 15s or 2m")),
        ("--perf-time=soon", ("--perf-time is 'soon'",)),
        ("--perf-precision=120%", ("--perf-precision is '120%'", "between 0 and 1")),
        ("--perf-visits=0", ("--perf-visits is '0'", "at least 1")),
        ("--perf-l2=tepid", ("--perf-l2 is 'tepid'", "give warm or cold")),
        ("--perf-gpu=t4-1g.5gb", ("--perf-gpu is 't4-1g.5gb'", "unknown gpu")),
        ("--perf-only=speed", ("--perf-only is 'speed'", "give accuracy or latency")),
        ("--perf-data=nowhere", ("--perf-data is 'nowhere', which is not a folder",)),
        ("--perf-against=nowhere", ("nowhere",)),
        ("--perf-store=nosuch://x", ("nosuch",)),
    ],
)
def test_bad_options(house, option, parts):
    house.suite("latency=False")
    result = house.run(option)
    one_sentence(result, *parts, code=4)


def test_ini_twins_are_read_and_checked(house):
    house.suite("latency=False")
    house.pytester.makeini("[pytest]\nperf_visits = none\n")
    one_sentence(house.run(quick=False), "--perf-visits is 'none'", code=4)
    house.pytester.makeini("[pytest]\nperf_store = elsewhere/r.db\nperf_only = accuracy\n")
    assert house.run(quick=False).ret == 0
    assert (house.path / "elsewhere/r.db").exists()


def test_a_test_that_cannot_measure_is_no_pass(house):
    house.suite("")
    text = (house.path / "test_it.py").read_text()
    assert "case, perfq" in text
    (house.path / "test_it.py").write_text(text.replace("case, perfq", "case").replace("perfq(case)", "pass"))
    one_sentence(house.run(), "takes no `perfq`, so it would measure nothing; add it and call perfq(case)", code=2)


@pytest.mark.parametrize(
    "sweep, parts",
    [
        # Told where the sweep stands, or by the test that it was made for.
        ("bakend='ort'", ("\ntest_it.py:2: unknown axis 'bakend'; did you mean 'backend'?",)),
        ("backend='eagr'", ("unknown backend 'eagr'; did you mean 'eager'?",)),
        ("backend=[]", ("empty sweep: axis backend has no values",)),
        ("budgets=Budget(where={'backend': 'ort'}, max_drop=1)", ("matches no case of its sweep; values of backend: eager",)),
        ("exclude=[{'device': 'c*'}]", ("\ntest_it.py::test_it: empty sweep: its exclude entries",)),
        ("budgets=Budget(maxdrop=0.01)", ("\ntest_it.py:2: unknown keyword of a budget 'maxdrop'; did you mean 'max_drop'?",)),
        ("backend='ort[opst=17]'", ("\ntest_it.py::test_it: unknown option of backend ort 'opst'; did you mean 'opset'?",)),
        (
            "backend='ort', quantization=Dynamic('Matmul')",
            ("unknown operator to quantize by ort 'Matmul'; did you mean 'MatMul'?",),
        ),
        ("budgets=Budget(where={'backend': 'eager'}, min_speedup=2)", ("about latency cases other than the original",)),
        # Another package's, found by their entry points.
        ("backend='slow[mz=3]'", ("unknown option of backend slow 'mz'; did you mean 'ms'?",)),
        (
            "backend='ghost'",
            (
                "backend 'ghost' cannot be loaded: entry point 'ghost' in perfq.backends, 'perfq_ghost:GHOST' of "
                "package perfq-fakes: no module is named 'perfq_ghost'; install that package again, or remove it",
            ),
        ),
    ],
)
def test_bad_sweeps(house, sweep, parts):
    house.suite(sweep)
    one_sentence(house.run(), *parts, code=2)


def test_a_sweep_over_a_test_without_case(house):
    house.suite("latency=False", extra="@S\ndef test_none(perfq):\n    pass\n")
    one_sentence(house.run(), "test_none stands under a Sweep and takes no `case`; add the argument", code=2)


@pytest.mark.parametrize(
    "backend, sentence",
    [
        ("broken", "the compiler found no registers; give it some"),
        ("nan", "not finite"),
        ("hungry", "ran out of memory (cannot have 9 TiB); lower batch_size or seq_len, or free the device"),
    ],
)
def test_a_case_that_breaks_fails_alone(house, backend, sentence):
    house.suite(f"backend=['{backend}', 'eager']")
    result = house.run()
    # Finite logits are checked by the task for accuracy and by the runner for latency; the fake task checks nothing.
    assert result.parseoutcomes()["passed"] >= 2 and result.parseoutcomes()["failed"] >= 1
    one_sentence(result, sentence, code=1)
    assert {"pass", "fail"} <= {status for _, status in house.records()}


def test_sequences_longer_than_the_model(house):
    house.suite("batch_size=2".replace("seq_len=8, ", ""))
    text = (house.path / "test_it.py").read_text().replace("seq_len=8", "seq_len=65")
    (house.path / "test_it.py").write_text(text)
    one_sentence(house.run("-k", "s65"), "65", "64", code=1)


def test_refused_and_unavailable_cases_skip_with_their_reason(house):
    house.suite("backend=['choosy', 'away'], batch_size=2")
    result = house.run("-rs")
    assert result.parseoutcomes() == {"passed": 1, "skipped": 3}
    one_sentence(
        result, "refused: choosy takes no batch over 1", "unavailable: org/model cannot be fetched: no network", code=0
    )


def test_two_runs_on_one_store(house):
    from pytest_perfq.store import Store

    house.suite("latency=False")
    path = house.path / ".perfq/results.db"
    with Store.open(str(path)) as store:
        store.begin_run(["other"], {})
        one_sentence(house.run(), "results.db", "--perf-store", code=4)
        beside = house.run("--perf-resume")
        # Whatever keeps it from being taken up.
        assert beside.ret == 4 and "resumed: " not in beside.stdout.str()
    assert house.run().ret == 0


def test_an_unwritable_store(house):
    house.suite("latency=False")
    (house.path / "file").write_text("")
    one_sentence(house.run("--perf-store=file/results.db"), "file/results.db", code=4)


def test_collecting_opens_no_store(house):
    house.suite("latency=False")
    assert house.run("--collect-only").ret == 0
    assert not (house.path / ".perfq").exists()
    house.pytester.makepyfile(test_plain="def test_one(): pass")
    assert house.run("test_plain.py").ret == 0
    assert not (house.path / ".perfq").exists()


def test_a_test_that_measures_nothing_is_no_pass(house):
    house.suite("latency=False", extra="@S\ndef test_forgot(case, perfq):\n    pass\n")
    result = house.run("-k", "forgot")
    one_sentence(result, "the test passed and measured nothing: call perfq(case) in it", code=1)
    house.suite("latency=False", extra="@S\ndef test_bare():\n    pass\n")
    one_sentence(house.run("-k", "bare"), "test_bare stands under a Sweep and takes no `case`; add the argument", code=2)


@pytest.mark.parametrize("given", ["None", ""])
def test_perfq_of_something_else(house, given):
    house.suite("latency=False", extra=f"def test_plain(perfq):\n    perfq({given})\n")
    one_sentence(house.run("-k", "plain"), "perfq() was given None; give it the `case` of a test under a Sweep", code=1)


def test_a_crash_is_remembered_too(house):
    house.suite("backend='crash', latency=False")
    result = house.run()
    assert result.ret == 1 and "ZeroDivisionError" in result.stdout.str()
    assert [status for _, status in house.records()] == ["fail"]
    assert "1 case: 1 fail" in result.stdout.str()


def test_places_that_cannot_be_written_are_told_before_measuring(house):
    house.suite("latency=False")
    (house.path / "file").write_text("")
    one_sentence(house.run("--perf-cache=file/cache"), "file/cache cannot be used", "--perf-cache", code=4)
    one_sentence(house.run("--perf-save=file/base"), "--perf-save is file/base, whose folder cannot be made", code=4)


def test_a_run_broken_at_collection_is_no_run(house):
    house.suite("latency=False")
    house.pytester.makepyfile(test_typo="import nothing_of_that_name")
    assert house.run().ret == 2
    assert not (house.path / ".perfq").exists()


def test_a_program_that_quantized_nothing_is_named(house):
    house.suite("backend='idle', latency=False, quantization=Dynamic('Conv')")
    text = house.run().stdout.str()
    assert "nothing was quantized, so that these are floating point: idle@cpu int8-dynamic[Conv]" in text


def test_a_mistake_in_a_file_that_suites_share_is_told_where_it_stands(house):
    house.pytester.makepyfile(
        shared="from pytest_perfq import Sweep\n\nS = Sweep(task='tiny')\n", test_one="from shared import S\n"
    )
    one_sentence(house.run(), "\nshared.py:3: a sweep needs a model", code=2)


def test_collection_errors_cross_xdist_and_full_trace_shows_all(house):
    house.suite("backend='eagr'")
    result = house.run("-n", "1", apart=True)
    one_sentence(result, "test_it.py:2: unknown backend 'eagr'; did you mean 'eager'?", code=1)  # xdist's own status
    assert "registry.py" in house.run("--full-trace").stdout.str()


def test_a_mistake_found_while_measuring_is_invalid_and_said_once(house):
    """A foreign backend that declares nothing is first asked when its case is measured."""
    house.suite("backend=['picky[colour=red]', 'eager'], batch_size=[1, 2]")
    result = house.run("-v")
    assert result.parseoutcomes() == {"passed": 3, "failed": 3}
    first = "synthetic-tiny/tiny-model/picky[colour=red]@cpu/fp32/accuracy"
    one_sentence(result, "usage error: unknown option of backend picky 'colour'", f"usage error, as {first} above", code=1)
    text = result.stdout.str()
    assert text.count("\nusage error: unknown option") == 1 and text.count(f"\nusage error, as {first} above") == 2
    assert "INVALID" in text and "REGRESSED" not in text and "6 cases: 3 pass, 3 invalid" in text
    assert sorted(status for _, status in house.records()) == ["invalid"] * 3 + ["pass"] * 3


def test_a_mended_mistake_is_measured_when_the_run_is_resumed(house):
    house.suite(
        "backend='picky[colour=red]', latency=False",
        extra="import pytest\n@S\ndef test_stop(case, perfq):\n    pytest.exit('enough')\n",
    )
    assert house.run().ret == 2
    assert [status for _, status in house.records()] == ["invalid"]
    house.suite("backend='picky[colour=red]', latency=False", extra="@S\ndef test_stop(case, perfq):\n    perfq(case)\n")
    house.monkeypatch.setenv("PERFQ_FAKES_COLOUR", "red")
    assert house.run("--perf-resume").ret == 0
    assert [status for _, status in house.records()][-2:] == ["pass", "pass"]


def test_data_that_the_task_cannot_read_is_invalid(house):
    import pyarrow
    import pyarrow.parquet

    (house.path / "data/odd").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.table({"body": ["a"], "label": [0]}), house.path / "data/odd/validation.parquet")
    pyarrow.parquet.write_table(pyarrow.table({"sentence": ["a"], "label": [0]}), house.path / "data/odd/train.parquet")
    for split, sentence in (
        ("validation", "usage error: data set 'odd' has columns body, label; task text-classification needs label and one of"),
        ("train", "usage error: samples is 2, but split 'train' of odd has 1 examples; ask for at most 1"),
    ):
        sweep = (
            f"S = Sweep(task='text-classification', model='no/model', dataset='odd', split='{split}', samples=2, latency=False)"
        )
        text = f"from pytest_perfq import Sweep\n{sweep}\n@S\ndef test_it(case, perfq):\n    perfq(case)\n"
        house.pytester.makepyfile(test_it=text)
        one_sentence(house.run("--perf-data=data"), sentence, code=1)
        assert [status for _, status in house.records()] == ["invalid"]


def test_an_entry_point_without_its_object_is_named(house):
    house.suite("backend='hollow', latency=False")
    sentence = (
        "entry point 'hollow' in perfq.backends, 'perfq_fakes:HOLLOW' of package perfq-fakes: module 'perfq_fakes' has no"
    )
    one_sentence(house.run(), f"usage error: backend 'hollow' cannot be loaded: {sentence}", code=1)


def test_a_skip_points_at_the_test_that_called(house):
    house.suite("backend='choosy', batch_size=2")
    text = house.run("-rs").stdout.str()
    assert "test_it.py:5: refused: choosy takes no batch over 1" in text and "plugin.py" not in text


def test_a_promise_about_the_original_itself_does_not_apply_to_it(house):
    house.suite("backend=['eager', 'slow[ms=3]'], accuracy=False, budgets=Budget(min_speedup=100.0)")
    assert house.run().parseoutcomes() == {"passed": 1, "failed": 1}
    statuses = dict(house.records())
    assert {name.split("/")[2]: status for name, status in statuses.items()} == {"eager@cpu": "pass", "slow[ms=3]@cpu": "fail"}
