"""What the tests of backend native share: how a program is made, and what it is held to."""

from __future__ import annotations

import pytest
from tiny_models import make_case, no_calibration

from pytest_perfq import registry
from pytest_perfq.kernels import toolchain

NATIVE = registry.load("backend", "native")
# Full, ragged down to rows of one token, rows of no token, nothing but rows of one.
SHAPES = [((64,), 64), ((1, 30, 12, 1), 33), ((5, 0, 20), 20), ((1, 1, 1), 4)]
compiles = pytest.mark.skipif(toolchain.unavailable() is not None, reason=str(toolchain.unavailable()))


def build(model, resources, backend="native", task="question-answering", calibration=no_calibration, **fields):
    """The program of a case that is not refused."""
    case = make_case(backend, task, **fields)
    assert NATIVE.refuses(case) == []
    return NATIVE.build(case, model, resources, calibration)
