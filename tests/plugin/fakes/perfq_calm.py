"""A pytest plugin, `-p perfq_calm`, for runs in processes of their own: no visit is watched, so that whatever else the machine
does no latency is called disturbed. What disturbs a visit has tests of its own."""

from pytest_perfq.device import sampler


def unwatched():
    return sampler.Blind("not watched in these tests")


sampler.sampler = unwatched
