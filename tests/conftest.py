"""Puts this folder on the path, so that every folder of tests can share `making.py`; no deadline for generated cases, since
a busy machine is not a wrong answer."""

import signal

from hypothesis import settings

settings.register_profile("perfq", deadline=None)
settings.load_profile("perfq")

# Must stand in the outermost conftest; the tests of the plugin run pytest in pytest.
pytest_plugins = ["pytester"]

# A shell's background job ignores Ctrl-C, and so would everything that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
