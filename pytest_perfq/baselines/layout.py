"""What writing and reading a baseline agree on: names of files, the format's number, defaults, checksums."""

from __future__ import annotations

import hashlib
import json
from typing import Any

FORMAT = 1
META, CASES, LATENCY, OUTCOMES = "meta.json", "cases.jsonl", "samples/latency.npz", "samples/outcomes.npz"
# Fields of a case that are not written when they have these values. Changing one is a new FORMAT.
DEFAULTS: dict[str, Any] = {
    "device": "cpu", "precision": "fp32", "quantization": None, "padding": "full", "batch_size": None, "seq_len": None,
    "tp": 1, "pp": 1, "samples": None, "metrics": [], "split": "validation", "calibration_split": "train",
}  # fmt: skip
PLAIN = ("model_bytes", "original_bytes", "peak_memory_bytes", "load_ns", "first_call_ns", "facts", "churn", "unmeasured")


def checksum(data: bytes) -> str:
    """Of a file's content, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def meta_checksum(meta: dict[str, Any]) -> str:
    """Of meta.json without its own checksum."""
    plain = {name: value for name, value in meta.items() if name != "meta_sha256"}
    return checksum(json.dumps(plain, sort_keys=True).encode())
