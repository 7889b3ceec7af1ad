"""Numbers of tokens that a GPU's graphs and tuning know: a batch is computed as the smallest of them that holds it.

64, 128, 256, 512; then eight steps from each power of two to the next. Up to 512 tokens a layer costs its launches and not its
tokens, so half may be waste; beyond, an eighth is the most. Imports nothing.
"""

from __future__ import annotations

SMALL = (64, 128, 256, 512)
STEPS = 8  # from a power of two to the next: at most one in eight tokens is waste


def bucket(tokens: int) -> int:
    """The bucket of so many tokens. A bucket's own is itself."""
    for size in SMALL:
        if tokens <= size:
            return size
    power = 1 << ((tokens - 1).bit_length() - 1)  # the largest power of two below `tokens`
    step = power // STEPS
    return -(-tokens // step) * step


def buckets(most: int) -> tuple[int, ...]:
    """All up to the one that holds `most` tokens, ascending."""
    found = [SMALL[0]]
    while found[-1] < most:
        found.append(bucket(found[-1] + 1))
    return tuple(found)
