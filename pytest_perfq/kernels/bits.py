"""How many bits the INT8 kernels keep of weights and activations, by name. Imports nothing, so that a refusal is cheap."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bits:
    """weight: largest magnitude of a symmetric int8 weight. activation: largest value of a uint8 activation."""

    weight: int
    activation: int


BITS = {
    "w8a8": Bits(127, 255),  # the usual eight and eight
    "w8a7": Bits(127, 127),  # with seven bits of activation two products fit into int16 (127 * 127 * 2 = 32258 < 32767)
    "w7a7": Bits(63, 127),  # with seven bits of both, four do (127 * 63 * 4 = 32004)
}
DEFAULT_BITS = "w8a7"
