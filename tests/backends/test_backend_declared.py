"""What backends declare before they are imported, held against what they and their libraries say once they are."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_models import make_case

from pytest_perfq import registry
from pytest_perfq.backends import _declared
from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.errors import UnknownName

OURS = sorted(registry._files("backends"))


@pytest.mark.parametrize("name", OURS)
def test_every_backend_declares_its_options_and_takes_their_defaults(name):
    assert name in _declared.OPTIONS, f"give {name} a row in backends/_declared.py, if only an empty one"
    registry.declared("backend", name)(make_case(name))
    options = _declared.OPTIONS[name]
    assert _declared.options(make_case(name).backend) == {key: option.default for key, option in options.items()}


@pytest.mark.parametrize("name, meant", [("onnx", "ort"), ("OnnxRuntime", "ort"), ("pytorch", "eager"), ("jit", "torchscript")])
def test_what_people_call_a_backend_is_asked_back(name, meant):
    with pytest.raises(UnknownName, match=rf"^unknown backend '{name}'; did you mean '{meant}'\? known: .*eager, "):
        registry.check("backend", name)


def test_every_alias_is_of_a_backend_and_is_none_itself():
    assert set(_declared.ALIASES.values()) <= set(OURS) and not set(_declared.ALIASES) & set(OURS)


@pytest.mark.parametrize("kind", registry.KINDS)
def test_a_kind_without_aliases_offers_the_nearest_name_or_none(kind):
    with pytest.raises(UnknownName, match=f"^unknown {kind} 'qqqq'; known: "):
        registry.check(kind, "qqqq")


def test_operators_are_all_that_onnxruntime_quantizes():
    from pytest_perfq.backends._onnx.quantize import KNOWN_OPERATORS

    assert _declared.OPERATORS["ort"] >= KNOWN_OPERATORS
    with pytest.raises(UnknownName, match=r"unknown operator to quantize by ort 'Matmul'; did you mean 'MatMul'\?"):
        _declared.check(make_case("ort", quantization=Dynamic("Add", "Matmul")))
    _declared.check(make_case("eager", quantization=Dynamic("Matmul")))  # eager refuses every quantization


def test_modes_are_inductors():
    from torch._inductor import list_mode_options

    assert set(_declared.INDUCTOR_MODES) <= set(list_mode_options())  # newer ones exist that PyTorch does not document


def test_levels_and_providers_are_those_that_a_session_can_be_opened_with():
    from pytest_perfq.backends._onnx import options, session

    assert set(_declared.OPTIONS["ort"]["level"].among) == set(session.LEVELS)
    assert set(_declared.OPTIONS["ort"]["provider"].among) == set(options.DEVICE_OF) == set(_declared.PROVIDERS)


def test_declarations_of_either_kind_import_nothing_heavy():
    code = (
        "import sys; from pytest_perfq import registry\n"
        "assert registry.declared('backend', 'ort') and registry.declared('task', 'question-answering')\n"
        "print(sorted(set(sys.modules) & {'torch', 'transformers', 'onnxruntime', 'onnx', 'datasets', 'numpy'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
