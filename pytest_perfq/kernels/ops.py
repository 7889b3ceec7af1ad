"""The ops of csrc/schema.cpp as typed functions, and the library that holds them.

`load` comes first, once a process; then every function here is an op of torch that opcheck and torch.compile know. Shapes and
meanings stand in the schema. Knows no model, and no kernel from the inside.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pytest_perfq.errors import KernelsUnavailable
from pytest_perfq.kernels import build, isas
from pytest_perfq.kernels.fakes import FAKES

# Set by `make check-native`: the library with the address and undefined-behaviour sanitizers in it.
SANITIZE = "PERFQ_KERNELS_SANITIZE"

_perfq = torch.ops.perfq
_lock = threading.Lock()
_loaded: list[Path] = []


def load(cache: Path, progress: Callable[[str], None] = lambda line: None) -> Path:
    """Builds the library if `cache` lacks it and loads it, once a process. Returns its file. Raises KernelsUnavailable."""
    with _lock:
        if not _loaded:
            path = build.library(cache, progress, build.recipe(sanitize=os.environ.get(SANITIZE) == "1"))
            attach(path, "the native kernels")
            hold_to_the_best()
            for fake in FAKES:
                torch.library.register_fake(f"perfq::{fake.__name__}", fake)
            _loaded.append(path)
        return _loaded[0]


def hold_to_the_best() -> None:
    """Raises KernelsUnavailable where the library falls back: what is said of this machine would be said of another program.
    Linux refuses tiles to a process one of whose threads has a signal stack that could not hold them."""
    found = select_isa("auto")
    if not isas.cpu_flags() or (best := isas.best()) not in list(isas.known())[list(isas.known()).index(found) + 1 :]:
        return
    raise KernelsUnavailable(
        f"the native kernels can run on {found} in this process, and this processor has {best}, which the system does not give "
        f"it; set {isas.CHOICE}={found} to have them run on that"
    )


def attach(path: Path, what: str) -> None:
    """Loads a library of ops that was built for this torch. Raises KernelsUnavailable, in which `what` names it."""
    try:
        torch.ops.load_library(path)
    except OSError as error:
        line = str(error).splitlines()[0]
        raise KernelsUnavailable(
            f"{what} were built and cannot be loaded: {line}; remove {path.parent} to build them again"
        ) from error


def select_isa(wanted: str) -> str:
    """Chooses a set of isas.known(), or by 'auto' the best, for all calls from here on; returns what the kernels run on. Raises
    RuntimeError for one that the library lacks or this processor does not run."""
    return str(_perfq.select_isa(wanted))


def pack_tokens(mask: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    cu_seqlens, index = _perfq.pack_tokens(mask, tokens)
    return cu_seqlens, index


def restore_padding(x: Tensor, index: Tensor, batch: int, seq: int) -> Tensor:
    return _perfq.restore_padding(x, index, batch, seq)


def pool(x: Tensor, cu_seqlens: Tensor, how: str, normalize: bool) -> Tensor:
    return _perfq.pool(x, cu_seqlens, how, normalize)


def embed_layernorm(
    input_ids: Tensor,
    token_type_ids: Tensor | None,
    index: Tensor,
    word: Tensor,
    position: Tensor,
    token_type: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
) -> Tensor:
    return _perfq.embed_layernorm(input_ids, token_type_ids, index, word, position, token_type, weight, bias, eps)


def add_layernorm(x: Tensor, residual: Tensor, linear_bias: Tensor | None, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return _perfq.add_layernorm(x, residual, linear_bias, weight, bias, eps)


def varlen_attention(qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, may_round: bool = False) -> Tensor:
    return _perfq.varlen_attention(qkv, cu_seqlens, heads, scale, may_round)


def pack_weight(weight: Tensor) -> Tensor:
    return _perfq.pack_weight(weight)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, out_features: int, activation: str) -> Tensor:
    return _perfq.linear(x, weight, bias, out_features, activation)


def layer(
    x: Tensor,
    cu_seqlens: Tensor,
    packed: Sequence[Tensor],
    scales: Sequence[Tensor],
    sums: Sequence[Tensor],
    biases: Sequence[Tensor],
    norms: Sequence[Tensor],
    heads: int,
    scale: float,
    attention_eps: float,
    output_eps: float,
    bits: str,
    activation: str,
) -> Tensor:
    weights = list(packed), list(scales), list(sums), list(biases), list(norms)
    return _perfq.layer(x, cu_seqlens, *weights, heads, scale, attention_eps, output_eps, bits, activation)


def pack_weight_int8(weight: Tensor, bits: str) -> Tensor:
    return _perfq.pack_weight_int8(weight, bits)


def linear_int8(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_sum: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    input_zero: Tensor | None,
    output_scale: Tensor | None,
    output_zero: Tensor | None,
    bits: str,
    activation: str,
) -> Tensor:
    scales = (input_scale, input_zero, output_scale, output_zero)
    return _perfq.linear_int8(x, weight, weight_scale, weight_sum, bias, *scales, bits, activation)


def add_layernorm_int8(
    x: Tensor,
    residual: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scales: Sequence[Tensor],
    zeros: Sequence[Tensor],
    levels: int,
) -> Tensor:
    return _perfq.add_layernorm_int8(x, residual, weight, bias, eps, list(scales), list(zeros), levels)


def varlen_attention_int8(
    qkv: Tensor, cu_seqlens: Tensor, heads: int, scale: float, scales: Sequence[Tensor], zeros: Sequence[Tensor], levels: int
) -> Tensor:
    return _perfq.varlen_attention_int8(qkv, cu_seqlens, heads, scale, list(scales), list(zeros), levels)


def quantize(x: Tensor, scale: Tensor, zero: Tensor, levels: int) -> Tensor:
    return _perfq.quantize(x, scale, zero, levels)


def dequantize(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return _perfq.dequantize(x, scale, zero)


def add_layernorm_levels(
    x: Tensor, residual: Tensor, linear_bias: Tensor | None, weight: Tensor, bias: Tensor, eps: float, levels: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, q, scale, zero = _perfq.add_layernorm_levels(x, residual, linear_bias, weight, bias, eps, levels)
    return y, q, scale, zero


def add_layernorm_f8(
    x: Tensor, residual: Tensor, linear_bias: Tensor | None, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    y, q, scale = _perfq.add_layernorm_f8(x, residual, linear_bias, weight, bias, eps)
    return y, q, scale


def add_layernorm_restore(
    x: Tensor,
    residual: Tensor,
    linear_bias: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    index: Tensor,
    batch: int,
    seq: int,
) -> Tensor:
    return _perfq.add_layernorm_restore(x, residual, linear_bias, weight, bias, eps, index, batch, seq)


def bias_activation(x: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return _perfq.bias_activation(x, bias, activation)


def bias_activation_levels(x: Tensor, bias: Tensor | None, activation: str, levels: int) -> tuple[Tensor, Tensor, Tensor]:
    q, scale, zero = _perfq.bias_activation_levels(x, bias, activation, levels)
    return q, scale, zero


def bias_activation_f8(x: Tensor, bias: Tensor | None, activation: str) -> tuple[Tensor, Tensor]:
    q, scale = _perfq.bias_activation_f8(x, bias, activation)
    return q, scale


def linear_fused(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, tile: int = 0) -> Tensor:
    return _perfq.linear_fused(x, weight, bias, activation, tile)


def linear_levels(
    q: Tensor,
    scale: Tensor,
    zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_sum: Tensor,
    bias: Tensor | None,
    activation: str,
    dtype: torch.dtype,
    tile: int = 0,
) -> Tensor:
    return _perfq.linear_levels(q, scale, zero, weight, weight_scale, weight_sum, bias, activation, dtype, tile)


def absmax(most: Tensor, x: Tensor) -> None:
    _perfq.absmax(most, x)
