"""`perfq` in a folder of its own."""

import pytest

from pytest_perfq.cli import main


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `perfq`: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.delenv("PERFQ_STORE", raising=False)

    def run(*words):
        with pytest.raises(SystemExit) as done:
            main([str(word) for word in words])
        output, errors = capsys.readouterr()
        return done.value.code, output, errors

    return run
