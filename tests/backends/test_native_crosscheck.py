"""A native program is the model that it was made of: held against eager in fp32 before it is quantized, and how far it then is."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import numpy as np
import pytest
import torch
from native_programs import build, compiles
from tiny_models import eager_logits, make_batch, make_model

from pytest_perfq.backends import _check
from pytest_perfq.backends._native import crosscheck
from pytest_perfq.core.quantization import Dynamic, Static
from pytest_perfq.errors import BuildError, ProgramError
from pytest_perfq.kernels import packing
from pytest_perfq.report.progress import Progress

QA = "question-answering"
PROGRAMS = {
    "fp32": {},
    "w8a7": {"quantization": Dynamic()},
    "w8a8": {"backend": "native[bits=w8a8]", "quantization": Dynamic()},
    "w7a7": {"backend": "native[bits=w7a7]", "quantization": Dynamic()},
    "static": {"quantization": Static()},
    "v2": {"quantization": Static(mode="v2")},
}


def built(model, resources, how, **fields):
    batches = [make_batch(model, (20, 9), 30)]
    return build(model, resources, calibration=lambda: iter(batches), **PROGRAMS[how], **fields)


def other_activation(layer):
    layer.intermediate.intermediate_act_fn = torch.nn.SiLU()


def other_scaling(layer):
    layer.attention.self.scaling = 1.0


def no_norm(layer):
    layer.output.LayerNorm.forward = lambda x: x


@compiles
@pytest.mark.parametrize("how", PROGRAMS)
@pytest.mark.parametrize("change", [other_activation, other_scaling, no_norm])
def test_a_model_that_is_not_what_its_configuration_says_is_refused(change, how, lasting_resources):
    model = make_model("bert", QA)
    for layer in model.module.bert.encoder.layer:
        change(layer)
    with pytest.raises(BuildError) as caught:
        built(model, lasting_resources, how)
    name = "the native encoder" if how == "fp32" else "the native encoder in fp32"
    assert str(caught.value).startswith(f"{name} of tiny:bert differs from eager by ")
    assert str(caught.value).endswith("; it is not the same model: use backend eager and report the model")


@compiles
@pytest.mark.parametrize("how", ["fp32", "w8a7", "v2"])
def test_a_model_that_has_no_one_answer_is_refused(how, lasting_resources):
    model = make_model("bert", QA)
    model.module.train()
    with pytest.raises(BuildError) as caught:
        built(model, lasting_resources, how)
    assert str(caught.value) == "tiny:bert is in training mode, in which eager drops values at random; call its eval() before"
    model.module.eval()
    model.module.bert.encoder.layer[1].attention.self.query.weight.data[3, 4] = float("nan")
    with pytest.raises(BuildError) as caught:
        built(model, lasting_resources, how)
    assert str(caught.value) == "eager itself gives logits of tiny:bert that are no numbers; check its weights"


@compiles
@pytest.mark.parametrize("how", ["fp32", "w8a7"])
@pytest.mark.parametrize("kind", ["float64", "float16", "bfloat16"])
def test_weights_of_another_type_are_named(how, kind, lasting_resources):
    model = make_model("bert", QA)
    model.module.bert.encoder.to(getattr(torch, kind))
    with pytest.raises(BuildError) as caught:
        built(model, lasting_resources, how)
    assert str(caught.value) == (
        f"tiny:bert has bert.encoder.layer.0.attention.self.query.weight in {kind}, and the native encoder reads float32; "
        "load it in float32"
    )


@compiles
@pytest.mark.parametrize("how", PROGRAMS)
def test_the_distances_are_facts_and_one_line_of_progress(how, lasting_resources):
    """Against numbers that torch finds of the same logits."""
    model, said = make_model("bert", QA), []
    program = built(model, dataclasses.replace(lasting_resources, progress=said.append), how)
    mine, theirs = [], []
    for batch in _check.check_batches(model):
        mask = batch.arrays["attention_mask"].astype(bool)
        got, wanted = program.predict(batch), eager_logits(model, batch)
        mine += [torch.from_numpy(got[name][mask]).double() for name in model.outputs]
        theirs += [torch.from_numpy(np.array(wanted[name][mask])).double() for name in model.outputs]
    gaps = [(one - other).abs() for one, other in zip(mine, theirs, strict=True)]
    facts = program.facts
    assert facts["max_abs_difference"] == max(float(gap.max()) for gap in gaps)
    assert facts["min_abs_difference"] == min(float(gap.min()) for gap in gaps)
    assert facts["mean_abs_difference"] == pytest.approx(sum(float(gap.mean()) for gap in gaps) / len(gaps), rel=1e-12)
    cosine = float(torch.nn.functional.cosine_similarity(torch.cat(mine), torch.cat(theirs), dim=0))
    assert facts["eager_cosine"] == pytest.approx(cosine, rel=1e-12)
    largest, mean, least = (f"{facts[f'{name}_abs_difference']:.3g}" for name in ("max", "mean", "min"))
    called = {"static": "w8a7", "v2": "w8a7"}.get(how, how)
    wanted = f"native {called}: logits against eager, max {largest}, mean {mean}, min {least}, cosine {cosine:.5f}"
    assert said[-1] == wanted


def test_the_line_is_shown_where_progress_is_live_and_is_no_noise_in_a_log():
    found = {"max_abs_difference": 0.0123, "mean_abs_difference": 0.0011, "min_abs_difference": 0.0, "eager_cosine": 0.99951}
    text = "native w8a7: logits against eager, max 0.0123, mean 0.0011, min 0, cosine 0.99951"
    assert crosscheck.line("w8a7", found) == text
    for live, shown in ((True, True), (False, False)):
        written: list[str] = []
        progress = Progress(1, written.append, live, clock=lambda: 0.0)
        progress.starting("a/b/c")
        progress.step(text)
        assert ("native w8a7: logits" in "".join(written)) == shown


@compiles
def test_eager_runs_once_a_batch_and_the_copy_in_fp32_is_gone_before_int8_is_packed(lasting_resources, monkeypatch):
    model, calls, watched, alive = make_model("bert", QA), [], [], []
    forward, pack = model.module.forward, packing.pack
    monkeypatch.setattr(model.module, "forward", lambda **given: calls.append(1) or forward(**given))

    def packed(whole, ops, recipe=packing.FP32):
        gc.collect()
        alive.append([held() is not None for held in watched])
        made = pack(whole, ops, recipe)
        watched.append(weakref.ref(made.layers[0].qkv.weight))
        return made

    monkeypatch.setattr(packing, "pack", packed)
    program = build(model, lasting_resources, quantization=Dynamic())
    assert alive == [[], [False]] and [held() is not None for held in watched] == [False, True]
    assert len(calls) == len(_check.check_batches(model)) and program.facts["bits"] == "w8a7"


def test_what_is_no_number_or_cannot_run_is_a_failure_to_build():
    model = make_model("bert", QA)
    given = crosscheck.eager(model)

    def nan(batch):
        return {name: np.full(batch.shape, np.nan, np.float32) for name in model.outputs}

    def refuses(batch):
        raise ProgramError("the native encoder cannot run this")

    with pytest.raises(BuildError) as caught:
        crosscheck.distances(nan, given, None)
    assert (
        str(caught.value)
        == "the quantized encoder of tiny:bert gives logits that are no numbers; use bits=w8a8, or no quantization"
    )
    with pytest.raises(BuildError, match="differs from eager by nan at batch 1 x 7, where bf16 may"):
        crosscheck.distances(nan, given, "bf16")
    with pytest.raises(BuildError, match=r"^the native encoder cannot run this$"):
        crosscheck.distances(refuses, given, None)


@compiles
def test_two_processes_are_held_the_same_way(lasting_resources):
    model = make_model("bert", QA)
    other_activation(model.module.bert.encoder.layer[1])
    with pytest.raises(BuildError, match=r"^the native encoder in fp32 of tiny:bert differs from eager by"):
        build(model, lasting_resources, quantization=Dynamic(), tp=2)
