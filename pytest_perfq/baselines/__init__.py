"""Measurements somebody accepted, as a folder: text first, so that git shows what changed, raw samples beside it.

    <name>/meta.json          format, when and by which version, machines, number of cases, a checksum of each file
    <name>/cases.jsonl        one case a line, sorted by id: status, readable numbers, then everything exact
    <name>/samples/latency.npz, outcomes.npz

Knows no store and judges nothing. Writing is all or nothing; reading checks every file and unpacks samples when asked for.
"""

from pytest_perfq.baselines.reading import Baseline, inside, load
from pytest_perfq.baselines.writing import check_free, save

__all__ = ["Baseline", "check_free", "inside", "load", "save"]
