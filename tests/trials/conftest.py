"""Throw-away projects: one to hold revisions of against each other, with `perfq` to run in it, and one for real workers."""

import contextlib
import tempfile

import pytest
from throwaway import FAKES, FEATHER, Project, variables

from pytest_perfq import registry
from pytest_perfq.cli import main
from pytest_perfq.device.lock import device_lock
from pytest_perfq.trials import passes


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty repository, which is the working directory."""
    for name, value in variables(PERFQ_CACHE=str(tmp_path / "cache")).items():
        monkeypatch.setenv(name, value)
    for name in ("PERFQ_STORE", "PYTEST_ADDOPTS", "CI", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    # A folder for temporary files of its own: nobody else's timing holds the device.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.syspath_prepend(str(FAKES))
    caches = (device_lock, registry._entry_points, registry.names, registry.declared, registry.load)
    for cached in caches:
        cached.cache_clear()
    found = Project(tmp_path / "project")
    monkeypatch.chdir(found.path)
    yield found
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def command(capfd, monkeypatch):
    """Runs `perfq`: (status, output, errors)."""
    # Of all the plugins that are installed here a worker that collects needs one.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_perfq.plugin")

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([str(word) for word in words])
        output, errors = capfd.readouterr()
        return done.value.code, output, errors

    return run


@pytest.fixture
def unwatched(monkeypatch):
    """Nobody looks at what else this machine does, which would hold a promise of milliseconds back."""
    monkeypatch.setattr(passes, "watched", lambda attempt, watcher, **_: (attempt(), None))


@pytest.fixture(scope="module")
def alone():
    """Nothing is timed: no other run need wait."""

    class Lock:
        write_lock = staticmethod(contextlib.nullcontext)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "device_lock", lambda device: Lock)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project that takes part, in no repository."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables().items():
            patch.setenv(name, value)
        found = Project(tmp_path_factory.mktemp("trials") / "project")
    found.suite(f"{FEATHER}, batch_size=[1, 2], budgets=Budget(max_slowdown=0.1)")
    found.layers(0.2)
    return found.path


@pytest.fixture(scope="module")
def given(folder):
    return {"cache": str(folder / "cache"), "threads": 1}
