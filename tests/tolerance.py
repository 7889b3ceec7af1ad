"""How far a kernel, an encoder and a program may be from their oracles: one number each, and why that number.

u is 2^-24 = 6e-8, the relative error of one rounding in float32. Operands are of order one (kernels/operands.py), and so are the
logits of the models (tiny_models.py), so these are absolute; RELATIVE is added for values that are larger.
"""

from __future__ import annotations

import itertools

import torch

from pytest_perfq.kernels import reference

# -- ops, against the oracle in float64

# The oracle in float64 against torch's own functions in float64: a few hundred roundings of 1e-16.
ORACLE = 1e-13
# A handful of roundings in float32 of a value that is far from one.
RELATIVE = 1e-6
# Sums of up to 4096 products of order 1/64: their roundings walk randomly, sqrt(4096) u = 4e-6, and outliers are twice that.
LINEAR = 1e-5
# The same, then an activation of slope up to 1.13, and erf or tanh by a polynomial good to 1e-6.
ACTIVATED = 1.5e-5
# An activation alone: erf, tanh and exp by polynomials, good to a few u where the function bends.
ACTIVATION = 1e-6
# GELU is x Phi(x), and Phi comes to within 4 u of 0 and 1 but not onto them: an error per unit of |x|.
GELU_TAIL = 4 * 2.0**-24
# Two sums over a row and a division; weights up to 4 and normalized values up to 5 make 20 u of one rounding: 1.2e-6.
LAYERNORM = 5e-6
# Rows that stand 1000 away from zero: x itself is known to 1000 u = 6e-5 only, and the mean is subtracted with that error.
LAYERNORM_FAR = 5e-4
# Means of up to 4096 values of order one, and one division by a norm.
POOL = 2e-6
# Scores of up to about 5 with error 128 u each, exp by a polynomial good to 1e-6, an average of values of order one.
ATTENTION = 5e-6
# Scores of up to 1000 are known to 1000 u = 6e-5, and exp makes that the relative error of each weight.
ATTENTION_SHARP = 1e-3
# By tiles of bfloat16 a weight is 2^x by a polynomial good to 1e-4 before it is rounded by up to 2^-8: this much more than rounded.
ATTENTION_ROUGHLY = 1 + 1.1e-4 * 2**8
# The product is exact in int32; scaling, bias and their roundings remain, 4 u of values up to about 5.
INT8 = 2e-6
# The same, then an activation of slope up to 1.13.
INT8_ACTIVATED = 5e-6
# The same, then the shorter polynomial that the INT8 ops have for GELU: 8e-6 within 4 of zero, 5e-6 |x| beyond, and products
# here stay within 12. The step of a row that reaches 12 is at least 12 / 255, so this is under a hundredth of one.
INT8_GELU = 6.5e-5
INT8_GELU_NEAR, INT8_GELU_TAIL = 1e-5, 5.5e-6
# (x - zero) scale: the difference is exact, or up to 255 scale u apart where it is multiplied out first. Per unit of scale.
DEQUANTIZED = 255 * 2.0**-23
# Two normalizations with weights up to 4 behind linears, each of whose errors they divide by the deviation of a row (about 2) and
# multiply by a weight.
LAYER = 6e-5
# The same in bf16, where the rows between linears are rounded to it: one number in some hundreds of thousands lies so near a tie that
# the oracle rounds it to the other side, 2^-8 of itself away. Times a weight of 1/sqrt(K) that was seen to make 1e-3 at K = 384;
# the rounding itself makes 2e-2.
LAYER_BF16 = 4e-3
# The same where attention rounds as well and the oracle's does not: 2^-8 of each of four factors was seen to make 1.6e-2.
LAYER_BF16_TILES = 3e-2
# x / scale in float32, or x times a rounded 1 / scale: relative to the quotient, two roundings, and one to spare.
QUOTIENT = 3 * 2.0**-23
# Two instruction sets on the same call: each is as near to the oracle as the ops above, and LINEAR is the widest of those called.
SETS = LINEAR
# Two sets in the sanitizers' build, in which the compiler fuses other multiply-adds: a few roundings, relative as well, of sums
# that cancel. All other builds have to agree to the last bit.
FUSED = 1e-4
# A row alone and in a batch: another tile takes it, which adds the same products up in another order, and here they are few.
ROW_ALONE = 2e-6

# -- encoders and programs, by their logits

# In float64, of transformers and ours: the same sums in another order, a few thousand roundings of 1e-16 through two layers.
MODEL_FLOAT64 = 1e-12
# In fp32: those sums by roundings of 6e-8, through at most six layers, split over any number of processes.
MODEL = 2e-5
# In fp32 with rows behind the last token that belong to no sequence: the same tokens in another tile, as in ROW_ALONE.
MODEL_TAIL = 2e-6
# bf16 in the largest logit: the rounding of weights and rows to 2^-8 was seen to make 1.4e-2, and must make more than fp32's
# own error, or it was fp32 under another name.
MODEL_BF16_LEAST, MODEL_BF16 = 1e-4, 5e-2
# INT8 must move the largest logit by more than this, or it was fp32 under another name.
MODEL_INT8_LEAST = 1e-3
# Least cosine of INT8's logits with those of transformers, by how scales are found. The fewest bits of all three were seen to give
# 0.9998, 0.9998 and 0.9991 on random models; wrong scales or zeros give 0.9 and less.
COSINE = {"dynamic": 0.9997, "static": 0.9996, "v2": 0.998}
# Of the kernels' INT8 with plain torch's: a sum in another order rounds some numbers to the other side of a half, and the layers
# after it see another number. That is less than half of what INT8 itself changes.
COSINE_SAME = {approach: (1 + least) / 2 for approach, least in COSINE.items()}
# The same in bf16: 4e-6 short of one was seen, and 4e-5 from torch's own bf16. Kernels against plain torch: 5e-8 was seen.
COSINE_BF16 = 0.9999
COSINE_BF16_SAME = 1 - 1e-6
# And where attention rounds in the kernels alone: 2e-6 was seen, half of what rounding in the linears makes.
COSINE_BF16_TILES = 1 - 5e-6
# Of a trained model, the embedded one: w7a7 with one calibrated scale a tensor was the worst of a dozen kinds seen, 0.99997.
COSINE_TRAINED = 0.9999
# At most this much of a trained model's primary metric may be lost: what fp32 and INT8 or bf16 of the same model may lie apart.
DROP = 0.003
# A logit of several processes against that of one. fp32: as above. INT8: static scales and the rows of a weight are those of one
# process, and what differs is values that round to the other side of a half, seen up to 0.01; dynamic scales are those of the
# shard's own columns of a token, finer than the whole token's and so another rounding of every value, seen up to 0.027 on logits
# of 2.7. bf16: the other side of a tie, 2^-8 of a value. v2 over stages exchanges the bytes that one process keeps: to the bit.
SPLIT = {"fp32": MODEL, "bf16": 5e-3, "dynamic": 5e-2, "static": 5e-2, "v2": 0.0}


def close(actual: torch.Tensor, expected: torch.Tensor, allowed: float | torch.Tensor) -> None:
    """actual is float32 and within `allowed` + RELATIVE |expected| of the oracle everywhere; NaN only where the oracle has it."""
    assert actual.dtype == torch.float32 and expected.dtype == torch.float64 and actual.shape == expected.shape
    assert torch.equal(actual.isnan(), expected.isnan()), "NaN is not where the oracle has it"
    excess = ((actual.double() - expected).abs() - allowed - RELATIVE * expected.abs()).nan_to_num(0.0)
    worst = excess.max().item() if excess.numel() else -1.0
    assert worst <= 0, (
        f"{int((excess > 0).sum())} of {excess.numel()} values are too far; the worst by {worst:.3g} more than allowed"
    )


def quantized(
    actual: torch.Tensor, expected: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, levels: int, allowed: float = 0.0
) -> None:
    """actual is what rounding `expected` (float64), known to `allowed`, can give: at most half a level and that error away, within
    0..levels; which leaves one level of choice to values at a rounding tie, and none to others."""
    assert actual.dtype == torch.uint8 and actual.shape == expected.shape
    quotient = expected / scale.double()
    exact = (quotient + zero).clamp(0, levels)
    slack = QUOTIENT * quotient.abs() + allowed / scale.double()
    excess = (actual.double() - exact).abs() - 0.5 - slack
    worst = excess.max().item() if excess.numel() else -1.0
    assert worst <= 0, (
        f"{int((excess > 0).sum())} of {excess.numel()} values are not roundings of the oracle's; worst by {worst:.3g}"
    )
    nearest = reference.quantize(expected, scale.double(), zero, levels)
    at_ties = ((quotient - quotient.floor() - 0.5).abs() <= slack).sum().item()
    assert (actual != nearest).sum().item() <= at_ties


# Half of the distance to the next value of a type, relative: what storing in it costs; and its smallest step.
HALF_STEP = {torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
SMALLEST = {torch.float32: 0.0, torch.float16: 2.0**-24, torch.bfloat16: 0.0}


def rounded(actual: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, allowed: float | torch.Tensor) -> None:
    """actual is of dtype, and what is within `allowed` of the oracle, computed in float32, rounded to it once."""
    assert actual.dtype == dtype
    slack = allowed + (HALF_STEP[dtype] * 1.01) * expected.abs() + SMALLEST[dtype]
    close(actual.float(), expected, slack)


def rounded_weights(
    qkv: torch.Tensor, cu_seqlens: torch.Tensor, heads: int, scale: float, expected: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """How far attention may be from `expected`, the oracle's in float64, where tensor cores take the weights as dtype: each is
    off by half a step of itself, and their sum is that of the rounded ones, so what is left are the values' distances from
    their mean, weighed. Between levels that is at most 2^-11 of 255 levels of qkv, an eighth, and mostly a tenth of that."""
    if dtype == torch.float32:
        return torch.zeros_like(expected)
    distances = torch.zeros_like(expected)
    hidden = expected.shape[1]
    for begin, end in itertools.pairwise(cu_seqlens.tolist()):
        if begin == end:
            continue
        queries, keys, values = qkv[begin:end].view(-1, 3, heads, hidden // heads).permute(1, 2, 0, 3)
        weights = torch.softmax(scale * queries @ keys.transpose(1, 2), dim=-1)  # [heads, L, L]
        means = expected[begin:end].view(-1, heads, hidden // heads).transpose(0, 1)
        # From a weight's smallest step on, a constant share of the largest one.
        error = HALF_STEP[dtype] * weights + SMALLEST[dtype] / 2 * weights.amax(-1, keepdim=True)
        apart = (values[:, None] - means[:, :, None]).abs()  # [heads, L, L, D]
        distances[begin:end] = (error[..., None] * apart).sum(2).transpose(0, 1).reshape(-1, hidden)
    return distances


def attention_in_bf16(
    qkv: torch.Tensor, cu_seqlens: torch.Tensor, heads: int, scale: float, allowed: float = ATTENTION
) -> tuple[torch.Tensor, torch.Tensor]:
    """What attention that rounds queries, keys, values and weights to bfloat16 gives, in float64, and how far it may be from it.
    qkv: float64 [T, 3H]. The first three are rounded as here; of the fourth it is known how far rounding takes it."""
    rounded = qkv.to(torch.bfloat16).double()
    expected = reference.varlen_attention(rounded, cu_seqlens, heads, scale)
    apart = rounded_weights(rounded, cu_seqlens, heads, scale, expected, torch.bfloat16)
    return expected, allowed + ATTENTION_ROUGHLY * apart.nan_to_num(0.0)
