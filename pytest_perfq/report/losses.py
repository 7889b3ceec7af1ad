"""What a program loses, beside what it gains in speed: the drop of its score, and the cosine of its logits with fp32's.

Both are the program's, whatever shape of it was timed. Knows no table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Measurement
from pytest_perfq.core.summary import Summary, summarize

# A fact that a program may tell: the cosine of its logits with those of the fp32 eager model on the same batches.
COSINE = "eager_cosine"


def drop(numbers: Summary) -> str:
    """Of the primary metric, from the original, such as `+0.0025`; empty where it is not known."""
    return "" if numbers.drop is None else f"{numbers.drop:+.4f}"


def _cosine(measurement: Measurement) -> str:
    """With five digits: INT8 lies between 0.999 and 1. Empty where the backend tells none."""
    told = measurement.facts.get(COSINE)
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
        return ""
    return f"{told:.5f}"


@dataclass(frozen=True, slots=True)
class Losses:
    """drops: of the accuracy cases of a run that were held beside their original, as they are shown."""

    drops: Mapping[Case, str]

    @classmethod
    def of(cls, measurements: Iterable[Measurement]) -> Losses:
        """Of all that one run measured. Of a program measured twice the last drop counts, as in a baseline."""
        scored = ((one.case, drop(summarize(one))) for one in measurements if one.case.kind == "accuracy")
        return cls({case: text for case, text in scored if text})

    def beside(self, measurement: Measurement) -> tuple[str, str]:
        """The drop and the cosine of the program that was timed. Its accuracy case is the same case without a shape; a score of
        other examples is another case's."""
        return self.drops.get(measurement.case.program(), ""), _cosine(measurement)
