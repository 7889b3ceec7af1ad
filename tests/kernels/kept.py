"""Where built kernels are kept between runs of the tests."""

import os
from pathlib import Path

CACHE = Path(os.environ.get("PERFQ_CACHE") or Path(__file__).resolve().parents[2] / ".perfq" / "cache")
