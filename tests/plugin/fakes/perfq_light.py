"""What the package of fakes declares, in a module that imports nothing heavy."""

from pytest_perfq.core.options import Option, read


def check_slow(case):
    read("backend", case.backend, {"ms": Option(2, least=0)})
