"""Memory that is freed stays with the process: the kernel counts its page faults, and glibc's own variables stand."""

import subprocess
import sys

import pytest

linux_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(__import__("ctypes").CDLL(None), "gnu_get_libc_version"), reason="glibc alone"
)

# Forty megabytes are more than glibc ever keeps by itself: it maps them anew every time.
FAULTS = """
import ctypes, resource
from pytest_perfq import device
name = device.keep_memory() if {kept} else ""
library, found = ctypes.CDLL(None), []
library.malloc.restype = ctypes.c_void_p
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(library.malloc(ctypes.c_size_t(40 << 20)))
    library.memset(block, 1, ctypes.c_size_t(40 << 20))
    library.free(block)
    found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(found[1:]), max(found[1:]), name)
"""


def _faults(kept, **variables):
    """The fewest and most page faults of a block, and what the allocator is said to be."""
    code, environment = FAULTS.format(kept=kept), {"PATH": "", **variables}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    fewest, most, name = said.strip("\n").split(" ", 2)
    return int(fewest), int(most), name


@linux_glibc
def test_kept_memory_meets_no_page_faults():
    fewest, _, _ = _faults(False)
    assert fewest > 1000  # ten thousand pages
    _, most, name = _faults(True)
    assert most < 100
    assert name.startswith("glibc 2.") and name.endswith(", memory kept")


@linux_glibc
def test_what_somebody_chose_stands():
    fewest, _, name = _faults(True, MALLOC_TRIM_THRESHOLD_="131072")
    assert fewest > 1000
    assert name.startswith("glibc 2.") and name.endswith(", MALLOC_TRIM_THRESHOLD_=131072")


def test_another_allocator_is_named(monkeypatch):
    from pytest_perfq.device.allocator import chosen

    for name in ("LD_PRELOAD", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    assert chosen() is None
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libfoo.so:/usr/lib/libtcmalloc_minimal.so.4")
    assert chosen() == "libtcmalloc_minimal.so.4"
