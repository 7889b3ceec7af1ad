"""Whether memory that a forward pass frees stays with the process. Knows glibc alone; other allocators are left as they are.

glibc gives the top of its heap back to the system as soon as some megabytes of it are free. Whether that happens to the
temporaries of PyTorch's operators depends on what else the process ever allocated: the same TorchScript program met 300 page
faults a call in one process and 2,700 in another, and none once memory was kept; its visits took 14 ms or 21. Kept memory is
what servers have by tcmalloc or jemalloc.
"""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

# Parameters of mallopt, by malloc.h, and the variables that set the same.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
THEIRS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")
# Only what is larger than any temporary goes back. An older glibc takes no more than the last one for mapping.
NEVER_TRIMMED, NEVER_MAPPED, MAPPED_OF_OLD = 2**31 - 1, 2**30, 2**25


def chosen() -> str | None:
    """What somebody has set of the allocator by variables of the environment, which then stands; None where nothing is set."""
    named = [f"{name}={os.environ[name]}" for name in THEIRS if os.environ.get(name)]
    other = [one for one in os.environ.get("LD_PRELOAD", "").replace(":", " ").split() if "alloc" in os.path.basename(one)]
    return " ".join([os.path.basename(one) for one in other] + named) or None


@cache
def keep_memory() -> str:
    """From here on this process keeps the memory that it frees, where that can be had. What its allocator is and does: such as
    'glibc 2.36, memory kept'."""
    theirs = chosen()
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    version = getattr(library, "gnu_get_libc_version", None)
    if library is None or version is None:
        return theirs or "the system's"
    version.restype = ctypes.c_char_p
    name = f"glibc {version().decode()}"
    if theirs is not None:
        return f"{name}, {theirs}"
    mapped = library.mallopt(MMAP_THRESHOLD, NEVER_MAPPED) or library.mallopt(MMAP_THRESHOLD, MAPPED_OF_OLD)
    return f"{name}, memory kept" if mapped and library.mallopt(TRIM_THRESHOLD, NEVER_TRIMMED) else name
