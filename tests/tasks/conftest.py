"""Tiny synthetic models, trained in seconds, and the folder of real data."""

import os
from pathlib import Path

import pytest
from tiny_tasks import shrink

from pytest_perfq import registry
from pytest_perfq.contracts import Resources


@pytest.fixture(scope="session")
def small_cache(tmp_path_factory):
    """Where the tiny models are kept, by their recipes: trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def resources(small_cache):
    """A cache of its own, and small recipes. No longer than a module: in any order, tests elsewhere have the true ones."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        yield Resources(cache=small_cache)
    from pytest_perfq.tasks import _synthetic

    _synthetic.table.cache_clear()


@pytest.fixture(scope="module")
def loaded(resources):
    """(task, model) of a task's tiny synthetic model, loaded once."""
    found = {}

    def load(case):
        if (case.task, case.dataset, case.model) not in found:
            found[case.task, case.dataset, case.model] = registry.load("task", case.task.name).load_model(case, resources)
        return registry.load("task", case.task.name), found[case.task, case.dataset, case.model]

    return load


@pytest.fixture(scope="session")
def mirror():
    """The folder of real data sets, or a skip that names it."""
    given = os.environ.get("PERFQ_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
    if not (folder / "conll2003" / "validation.parquet").is_file():
        pytest.skip(f"no mirror of real data sets at {folder}; name one in PERFQ_TEST_DATA")
    return folder.resolve()
