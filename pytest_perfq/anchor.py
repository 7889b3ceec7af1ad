"""A frozen reference workload: one encoder layer in plain torch that never changes between revisions.

Timed in every visit beside the case, it tells a slower machine from a slower case. It is not a calibration of speed in
general: it is made of the same operators as the cases (products, softmax, normalization, erf), because only such an
anchor follows the same drift. Never edit what it computes; add ANCHOR_VERSION instead and keep the old one for compare.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

ANCHOR_VERSION = "encoder-layer-384x128-fp32-1"
_HIDDEN, _HEADS, _FEED_FORWARD, _TOKENS = 384, 12, 1536, 128


@cache
def anchor(device: str, threads: int) -> Callable[[], Any]:
    """A call that runs the workload once on `device`. threads: only keys the cache; torch's own setting holds."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(20)

    def weight(*shape: int) -> Any:
        return (torch.randn(*shape, generator=generator) * 0.05).to(device)

    hidden = weight(1, _TOKENS, _HIDDEN)
    query_key_value, output = weight(3 * _HIDDEN, _HIDDEN), weight(_HIDDEN, _HIDDEN)
    up, down = weight(_FEED_FORWARD, _HIDDEN), weight(_HIDDEN, _FEED_FORWARD)

    def run() -> Any:
        with torch.inference_mode():
            split = functional.linear(hidden, query_key_value).view(1, _TOKENS, 3, _HEADS, _HIDDEN // _HEADS)
            query, key, value = split.permute(2, 0, 3, 1, 4)
            scores = torch.softmax(query @ key.transpose(-1, -2) * (_HIDDEN // _HEADS) ** -0.5, dim=-1)
            context = (scores @ value).transpose(1, 2).reshape(1, _TOKENS, _HIDDEN)
            attended = functional.layer_norm(hidden + functional.linear(context, output), (_HIDDEN,))
            wide = functional.gelu(functional.linear(attended, up))
            return functional.layer_norm(attended + functional.linear(wide, down), (_HIDDEN,))

    return run
