"""What is measured before the items, and whose time --perf-time is: by the options alone."""

import pytest

from pytest_perfq import arguments, settings
from pytest_perfq.errors import UsageError


def ahead(time=None, **given):
    """(passes, seconds a case, seconds of the run) by these options."""
    values = {"save": None, "against": None, "vs": None, "confirm": None, "passes": None, "time": 7.0 if time else 15.0}
    values |= given
    settings._ahead(values, time)
    return values["passes"], values["time"], values["run_time"]


def test_time_is_of_the_run_wherever_latency_is_measured_ahead():
    assert ahead() == (0, 15.0, None) and ahead("7s") == (0, 7.0, None)
    for given in ({"save": "v1"}, {"against": "v1"}, {"vs": "backend=eager"}, {"passes": 3}):
        assert ahead(**given) == (3, 15.0, None) and ahead("7s", **given) == (3, 15.0, 7.0)
    assert ahead("7s", save="v1", passes=0) == (0, 7.0, None)
    assert ahead(vs="backend=eager", passes=0) == (0, 15.0, None)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            {"time": "7s", "vs": "backend=eager", "passes": 0},
            r"^--perf-time is '7s', which with --perf-vs is that of the whole run",
        ),
        ({"confirm": "main"}, r"^--perf-confirm is 'main', but nothing nominates suspects; give --perf-against DIR"),
        ({"confirm": "main", "against": "v1", "passes": 0}, r"^--perf-confirm is 'main', and --perf-passes=0 measures nothing"),
        ({"vs": "orig"}, r"^'orig' names no configuration; give AXIS=VALUE, such as backend=eager, or original$"),
        ({"vs": "batch_size=2"}, r"^unknown axis to vary 'batch_size'; known: backend, pp, precision, quantization, tp$"),
        ({"vs": "backend=eagr"}, r"^unknown backend 'eagr'; did you mean 'eager'\?"),
        ({"vs": "precision=fp17"}, r"^unknown precision 'fp17'; did you mean 'fp16'\?"),
        ({"vs": "tp=two"}, r"^tp is 'two'; give a whole number of at least 1$"),
    ],
)
def test_options_that_contradict_each_other_are_one_sentence(given, sentence):
    with pytest.raises(UsageError, match=sentence):
        ahead(**given)


def test_a_configuration_that_cases_may_have_is_let_pass():
    for vs in ("original", "backend=ort[opset=14]", "precision=fp16", "tp=2", "quantization=known to the cases alone"):
        assert ahead(vs=vs)[0] == 3


def test_a_duration_is_read_as_it_is_told():
    for number, text in ((0.5, "0.5s"), (0.7, "0.7s"), (4.0, "4s"), (9.91, "10s"), (80.0, "80s"), (79.2, "80s"), (121.0, "3m")):
        assert arguments.duration(number) == text and number <= arguments.seconds(text)
