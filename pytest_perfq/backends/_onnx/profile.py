"""onnxruntime's profile of a session as operators and their times. Reads the file; opens no session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Runs before those that count: the first finds cold caches and plans its memory.
WARMUPS = 2
NODE, RUN, SUFFIX = "Node", "model_run", "_kernel_time"


def operators(path: Path, calls: int) -> dict[str, tuple[int, int]]:
    """Operator -> (calls, ns) over the last `calls` runs in a profile that has WARMUPS runs more."""
    events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    runs = sorted(one["ts"] for one in events if one.get("name") == RUN)
    first = runs[-calls]
    found: dict[str, tuple[int, int]] = {}
    for one in events:
        if one.get("cat") == NODE and one["name"].endswith(SUFFIX) and one["ts"] >= first:
            name = one["args"]["op_name"]
            before, before_ns = found.get(name, (0, 0))
            found[name] = (before + 1, before_ns + int(one["dur"]) * 1000)
    return found
