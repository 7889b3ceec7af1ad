"""A forward pass as CUDA graphs: one for each batch size, padded length and bucket of tokens, captured when it is first met.

What a graph reads and writes stays where it was when it was captured. So a batch is copied into the graph's own buffers, and
its tokens are rounded up to a bucket: the rows behind the last belong to no sequence, and no logit is made of them. Nothing
waits for the device. How a call becomes a replay is given, so that all but the capture runs on a CPU too. Knows no model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pytest_perfq.kernels.buckets import bucket
from pytest_perfq.kernels.encoder import Feed

# Graphs kept: each holds its buffers, and some megabytes of its own. All share one pool for what lives within a replay.
MOST = 32
WARM_UPS = 2  # libraries allocate and choose at their first calls, which no graph may hold

Replay = Callable[[], Tensor]  # returns the tensor that each replay writes
Capture = Callable[[Replay], Replay]


@dataclass(frozen=True, slots=True)
class Captured:
    """A CUDA graph of one call, and the tensor that it writes."""

    graph: torch.cuda.CUDAGraph
    output: Tensor

    def __call__(self) -> Tensor:
        self.graph.replay()
        return self.output


class CudaCapture:
    """Captures calls on the current device. The graphs share a pool of memory: they never run at the same time, and what one
    wrote is copied before another runs."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, call: Replay) -> Replay:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = call()
        return Captured(graph, output)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a replay reads, and the replay."""

    feed: Feed
    replay: Replay


class Graphs:
    """Stands in for `forward`: from a Feed on the device to logits, which are the caller's own. most: graphs kept, of those
    that were last used."""

    def __init__(self, forward: Callable[[Feed], Tensor], capture: Capture, most: int = MOST) -> None:
        self._forward, self._capture, self._most = forward, capture, most
        self._kept: OrderedDict[tuple[int, int, int], Recorded] = OrderedDict()

    def __call__(self, feed: Feed) -> Tensor:
        """One replay. A batch of no places has nothing to capture."""
        rows, columns = feed.mask.shape
        if not rows * columns:
            return self._forward(feed)
        key = rows, columns, min(bucket(feed.tokens), rows * columns)
        recorded = self._kept.get(key) or self._record(key, feed)
        self._kept.move_to_end(key)
        _copy(feed, recorded.feed)
        return recorded.replay().clone()  # the next replay writes over it

    def __len__(self) -> int:
        """Graphs kept."""
        return len(self._kept)

    def _record(self, key: tuple[int, int, int], feed: Feed) -> Recorded:
        while len(self._kept) >= self._most:
            self._kept.popitem(last=False)
        types = feed.token_type_ids
        own = Feed(feed.input_ids.clone(), feed.mask.clone(), None if types is None else types.clone(), key[2])
        recorded = Recorded(own, self._capture(lambda: self._forward(own)))
        self._kept[key] = recorded
        return recorded


def _copy(given: Feed, into: Feed) -> None:
    into.input_ids.copy_(given.input_ids, non_blocking=True)
    into.mask.copy_(given.mask, non_blocking=True)
    if into.token_type_ids is not None and given.token_type_ids is not None:
        into.token_type_ids.copy_(given.token_type_ids, non_blocking=True)
