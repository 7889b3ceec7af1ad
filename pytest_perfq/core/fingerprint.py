"""What a measurement was made on, in three tiers. Reads no machine itself: device.py does.

identity must match for timings to be compared; stack (versions, revision) is compared and named; volatile (clocks, load,
temperature) is recorded and is never a key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

Fact = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Three tiers of facts, name -> plain value. Units stand in the names (`memory_bytes`, `sm_clock_mhz`)."""

    identity: dict[str, Fact] = field(default_factory=dict)
    stack: dict[str, Fact] = field(default_factory=dict)
    volatile: dict[str, Fact] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """12 hex digits of the identity tier: the name of the machine in stores and trackers."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:12]

    def differences(self, other: Fingerprint, tier: str) -> dict[str, tuple[Fact, Fact]]:
        """Fields of a tier that differ: name -> (here, there); absent counts as None."""
        mine, theirs = getattr(self, tier), getattr(other, tier)
        names = sorted({*mine, *theirs})
        return {name: (mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)}

    def to_json(self) -> dict[str, Any]:
        return {"identity": self.identity, "stack": self.stack, "volatile": self.volatile}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fingerprint:
        return cls(values["identity"], values["stack"], values["volatile"])
