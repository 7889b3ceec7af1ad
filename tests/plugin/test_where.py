"""Where a run leaves what it keeps: where `perfq` looks for it."""

import pytest


@pytest.fixture
def mirror(house):
    """A folder beside the project: pytest takes it for a path of tests, and what both share for its rootdir."""
    folder = house.path.parent / f"{house.path.name}-mirror"
    folder.mkdir()
    return folder


def test_without_an_ini_file_all_is_where_pytest_was_started(house, mirror):
    house.suite("backend='eager', latency=False")
    house.monkeypatch.setenv("PERFQ_CACHE", "kept")
    result = house.run("test_it.py", "--perf-data", str(mirror), "--perf-save", "baselines/v1")
    assert result.ret == 0 and f"rootdir: {house.path.parent}\n" in result.stdout.str()
    kept = (".perfq/results.db", "baselines/v1/meta.json", "kept")
    assert [(house.path / name).exists() for name in kept] == [True] * 3
    assert not [name for name in kept if (house.path.parent / name).exists()]
    code, text = house.perfq("report", "last")
    assert code == 0 and "1 case: 1 pass" in text
    assert "--store" not in result.stdout.str()


def test_a_worker_of_xdist_resumes_from_the_store_of_the_controller(house, mirror):
    """The worker reads what is done, the controller wrote it."""
    stop = "import pytest\n@S\ndef test_stop(case, perfq):\n    {}\n"
    house.suite("backend='eager', latency=False", extra=stop.format("pytest.exit('enough')"))
    assert house.run("test_it.py", "--perf-data", str(mirror)).ret == 2
    house.suite("backend='eager', latency=False", extra=stop.format("perfq(case)"))
    result = house.run("test_it.py", "--perf-data", str(mirror), "--perf-resume", "-n", "1", apart=True)
    assert result.ret == 0 and "resumed: 1 of 2 cases had been measured before" in result.stdout.str()


def test_with_an_ini_file_a_project_has_one_store_wherever_pytest_is_started(house):
    house.suite("backend='eager', latency=False")
    house.pytester.makeini("[pytest]\n")
    (house.path / "deep").mkdir()
    house.monkeypatch.chdir(house.path / "deep")
    assert house.run("../test_it.py").ret == 0
    assert house.records() and not (house.path / "deep/.perfq").exists()
