"""How many bits the INT8 kernels keep of weights and activations, by name. Imports nothing, so that a refusal is cheap."""

from __future__ import annotations

from dataclasses import dataclass

INT16_LARGEST = 32767


@dataclass(frozen=True, slots=True)
class Bits:
    """weight: largest magnitude of a symmetric int8 weight. activation: largest value of a uint8 activation. together: how many
    products the kernel adds in an int16 before it widens their sum, 0 where it widens first."""

    weight: int
    activation: int
    together: int

    @property
    def most(self) -> int:
        """What the magnitudes of `together` weights may add up to, so that no int16 can saturate."""
        return INT16_LARGEST // self.activation


BITS = {
    "w8a8": Bits(127, 255, 0),  # the usual eight and eight
    # Products fit into an int16 where their weights' magnitudes add up to 258 or less (258 * 127 = 32766). Four weights of
    # eight bits, or eight of seven, seldom add up to more: a channel in which they do takes a scale a few per cent coarser.
    "w8a7": Bits(127, 127, 4),
    "w7a7": Bits(63, 127, 8),
}
DEFAULT_BITS = "w8a7"
