"""Windows over a long text, and the best span of their logits. Knows tokenizers and offsets; knows no metric.

Source of the rule: Devlin et al. 2018 and transformers' question-answering example: a span's score is its start logit plus
its end logit; the null score is that of position 0, the smallest over the windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_perfq.errors import UsageError
from pytest_perfq.tasks import _encode


@dataclass(frozen=True, slots=True)
class Window:
    """One feature. example: index of its row. first: position of its first context token. offsets: (start, end) characters
    in the context of each of its context tokens."""

    row: Mapping[str, list[int]]
    example: int
    first: int
    offsets: tuple[tuple[int, int], ...]


def windows(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int, stride: int, names: Sequence[str]
) -> list[Window]:
    """The windows of all rows, in order; at least one a row. Raises UsageError where a question leaves no room."""
    room = max_length - stride - tokenizer.num_special_tokens_to_add(pair=True)
    longest = max(len(ids) for ids in tokenizer([row["question"] for row in rows], add_special_tokens=False)["input_ids"])
    if longest >= room:
        raise UsageError(
            f"a question of {longest} tokens and a doc_stride of {stride} leave no room in a max_length of {max_length}; "
            "raise max_length or lower doc_stride"
        )
    encoded = tokenizer(
        [row["question"] for row in rows], [row["context"] for row in rows], truncation="only_second", max_length=max_length,
        stride=stride, return_overflowing_tokens=True, return_offsets_mapping=True, return_attention_mask=True,
        return_token_type_ids=True,
    )  # fmt: skip
    found = []
    for at, example in enumerate(encoded["overflow_to_sample_mapping"]):
        context = [position for position, part in enumerate(encoded.sequence_ids(at)) if part == 1]
        first = context[0] if context else 0
        offsets = tuple(encoded["offset_mapping"][at][position] for position in context)
        found.append(Window({name: encoded[name][at] for name in names}, int(example), first, offsets))
    return found


def target(window: Window, row: Mapping[str, Any]) -> tuple[int, int]:
    """Positions of the first and last token of the row's first answer; (0, 0) where the window does not hold all of it."""
    if not row["answers"]:
        return 0, 0
    begin = row["starts"][0]
    end = begin + len(row["answers"][0])
    if not window.offsets or window.offsets[0][0] > begin or window.offsets[-1][1] < end:
        return 0, 0
    start = max(at for at, (left, _) in enumerate(window.offsets) if left <= begin)
    stop = min(at for at, (_, right) in enumerate(window.offsets) if right >= end)
    return window.first + start, window.first + stop


def answer(
    context: str,
    parts: Sequence[tuple[Window, Mapping[str, np.ndarray[Any, Any]]]],
    n_best: int,
    max_answer_length: int,
    threshold: float | None,
) -> tuple[str, float]:
    """The predicted text and its margin over the best rival. threshold: by how much the null score must exceed the best
    span for the answer to be none; None where every question has an answer."""
    scored: dict[tuple[int, int] | None, float] = {}
    null = np.inf
    for window, logits in parts:
        starts, ends = logits["start_logits"], logits["end_logits"]
        null = min(null, float(starts[0]) + float(ends[0]))
        for span, score in _candidates(window, starts, ends, n_best, max_answer_length):
            scored[span] = max(scored.get(span, -np.inf), score)
    if threshold is not None:
        # None wins when null - best > threshold, so it competes with its threshold taken off.
        scored[None] = null - threshold
    if not scored:
        return "", 0.0
    # On a tie a span beats none, and the earlier span the later.
    order = sorted(scored.items(), key=lambda item: (-item[1], item[0] is None, item[0] or (0, 0)))
    best, score = order[0]
    margin = _encode.margin(score, order[1][1]) if len(order) > 1 else _encode.LARGEST_MARGIN
    return ("" if best is None else context[best[0] : best[1]]), margin


def _candidates(
    window: Window, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any], n_best: int, max_answer_length: int
) -> list[tuple[tuple[int, int], float]]:
    """Spans in characters of the context with their scores, from the n_best starts and ends of the context."""
    last = window.first + len(window.offsets)
    left = np.argsort(-starts[window.first : last], kind="stable")[:n_best]
    right = np.argsort(-ends[window.first : last], kind="stable")[:n_best]
    found = []
    for start in left.tolist():
        for end in right.tolist():
            if start <= end < start + max_answer_length:
                span = window.offsets[start][0], window.offsets[end][1]
                found.append((span, float(starts[window.first + start]) + float(ends[window.first + end])))
    return found
