"""A throw-away project to hold revisions of against each other, and `perfq` to run in it."""

import pytest
from throwaway import Project, variables

from pytest_perfq.cli import main


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty repository, which is the working directory."""
    for name, value in variables(PERFQ_CACHE=str(tmp_path / "cache")).items():
        monkeypatch.setenv(name, value)
    for name in ("PERFQ_STORE", "PYTEST_ADDOPTS", "CI", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = Project(tmp_path / "project")
    monkeypatch.chdir(found.path)
    return found


@pytest.fixture
def command(capfd):
    """Runs `perfq`: (status, output, errors)."""

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([str(word) for word in words])
        output, errors = capfd.readouterr()
        return done.value.code, output, errors

    return run
