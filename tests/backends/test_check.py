"""Is it the same model? What the check sees, what it leaves out, and what it never lets through."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_models import make_batch, make_case, make_model, no_calibration

from pytest_perfq import registry
from pytest_perfq.backends import _check
from pytest_perfq.contracts import Model
from pytest_perfq.errors import BuildError


def build(name, model, resources):
    return registry.load("backend", name).build(make_case(name), model, resources, no_calibration)


class Branching(torch.nn.Module):
    """Takes a branch by its input: what tracing freezes."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, **inputs):
        output = self.module(**inputs)
        if inputs["attention_mask"].shape[0] == 2:
            output.start_logits = output.start_logits + 1
        return output


def test_a_branch_frozen_by_tracing_is_found(resources):
    whole = make_model("bert", "question-answering")
    model = Model(Branching(whole.module).eval(), *(getattr(whole, name) for name in Model.__slots__[1:]))
    with pytest.raises(BuildError) as caught:
        build("torchscript", model, resources)
    assert str(caught.value).startswith(
        "the traced graph of tiny:bert differs from eager by 1 at batch 2 x 40, where fp32 may "
    )
    assert str(caught.value).endswith("it is not the same model: tracing has frozen a branch or a size; use backend compile")


def test_check_batches_hold_padding_and_fit_the_model(bert):
    batches = _check.check_batches(bert)
    assert [batch.shape for batch in batches] == [(1, 7), (3, 16), (2, 40)]
    for batch in batches:
        assert batch.arrays["attention_mask"].sum(axis=1).tolist() == list(batch.lengths)
        assert (batch.arrays["input_ids"][batch.arrays["attention_mask"] == 0] == bert.config.pad_token_id).all()
    short = Model(*(12 if name == "max_positions" else getattr(bert, name) for name in Model.__slots__))
    assert [batch.shape for batch in _check.check_batches(short)] == [(1, 7), (3, 12), (2, 12)]


def test_difference_looks_at_real_tokens_only(bert):
    batch = make_batch(bert, (4, 2), 4)
    wanted = {"start_logits": np.zeros((2, 4), np.float32)}
    padded, real = np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)
    padded[1, 3], real[1, 1] = 9, -3
    assert _check.difference(batch, {"start_logits": padded}, wanted) == (0.0, 0.0)
    assert _check.difference(batch, {"start_logits": real}, wanted) == (3.0, 0.0)
    with pytest.raises(BuildError, match="the program gives end_logits and lacks output 'start_logits' of the model"):
        _check.difference(batch, {"end_logits": real}, wanted)
    with pytest.raises(BuildError, match=r"has shape \(1, 4\), that of the model \(2, 4\)"):
        _check.difference(batch, {"start_logits": real[:1]}, wanted)


def test_nan_is_never_faithful(bert):
    def nan(batch):
        return {name: np.full(batch.shape, np.nan, np.float32) for name in bert.outputs}

    with pytest.raises(BuildError, match="differs from eager by nan at batch 1 x 7"):
        _check.faithful(bert, nan, "fp32", "a graph", "mend it")
    with pytest.raises(BuildError, match="the quantized graph of a case gives logits that are not finite"):
        _check.distance(bert, nan, "a case")
