"""Caches and models that the tests of the backends share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_models import make_model

from pytest_perfq.contracts import Resources

CACHE = Path(os.environ.get("PERFQ_CACHE") or Path(__file__).resolve().parents[2] / ".perfq" / "cache")


@pytest.fixture
def resources(tmp_path):
    return Resources(cache=tmp_path / "cache", threads=1)


@pytest.fixture(scope="session")
def shared_resources(tmp_path_factory):
    """One cache for all tests that do not test the cache."""
    return Resources(cache=tmp_path_factory.mktemp("cache"), threads=1)


@pytest.fixture(scope="session")
def lasting_resources():
    """The checkout's own cache: for what takes a minute to make and is keyed by all it is made of."""
    return Resources(cache=CACHE, threads=1)


@pytest.fixture(scope="session")
def bert():
    return make_model("bert", "question-answering")
