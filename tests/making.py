"""Measurements for tests, made from seeds: no model and no clock."""

import random

from pytest_perfq.core.case import Case
from pytest_perfq.core.fingerprint import Fingerprint
from pytest_perfq.core.measurement import Measurement, Outcomes, Samples, Score, Visit
from pytest_perfq.core.quantization import Dynamic
from pytest_perfq.core.spec import Spec

MACHINE = Fingerprint(
    {"cpu_model": "Test CPU 9000", "cores": 2, "threads": 1, "gpu": None},
    {"torch": "2.13.0", "anchor": 1, "revision": "a" * 40, "dirty": False},
    {"load_1min": 0.5, "hostname": "here"},
)


def case(number=0, *, backend="ort", kind="latency", **fields):
    """A case whose id differs by number."""
    shape = {"batch_size": 1 + number, "seq_len": 32} if kind == "latency" else {"samples": 1000 + number}
    values = {
        "task": Spec("question-answering"),
        "dataset": "squad",
        "model": "synthetic:bert",
        "model_name": "bert",
        "backend": Spec.parse(backend),
        "quantization": Dynamic("MatMul", "Add") if backend != "eager" else None,
        **shape,
        **fields,
    }
    return Case(**values)


def samples(dice, ms, rounds, noise, started_s=1.7e9):
    """Rounds around ms milliseconds with this relative noise."""
    return Samples(
        tuple(max(1, round(ms * 1e6 * dice.gauss(1.0, noise))) for _ in range(rounds)),
        tuple(round(ms * 1.5e6) for _ in range(2)),
        started_s,
    )


def latency(
    number=0, *, ms=5.0, original_ms=10.0, anchor_ms=3.0, visits=3, rounds=30, noise=0.02, day=0.0, visit_noise=0.0,
    process=0.0, seed=0, machine=MACHINE, **fields,
):  # fmt: skip
    """A latency measurement. day: shift in ln that case, original and anchor share. visit_noise: SD in ln of each visit of
    the case alone. process: shift in ln of the case alone over all visits. original_ms, anchor_ms: None for no such side."""
    dice = random.Random(seed * 100_003 + number)
    drift = 2.718281828459045**day
    found = []
    for visit in range(visits):
        own = 2.718281828459045 ** (process + dice.gauss(0.0, visit_noise))
        at = 1.7e9 + visit * 60
        found.append(
            Visit(
                samples(dice, ms * drift * own, rounds, noise, at),
                None if original_ms is None else samples(dice, original_ms * drift, rounds, noise, at),
                None if anchor_ms is None else samples(dice, anchor_ms * drift, rounds, noise, at),
            )
        )
    return Measurement(
        case=case(number, **fields),
        fingerprint=machine,
        visits=tuple(found),
        model_bytes=66_000_000,
        original_bytes=260_000_000,
        peak_memory_bytes=900_000_000,
        load_ns=12_345_678,
        first_call_ns=9_876_543,
        facts={"provider": "CPUExecutionProvider", "nodes_on_it": 1.0, "tokens": 32},
    )


def outcomes(right, *, margins=None, predictions=None, start=0):
    """Outcomes with these right or wrong answers. A prediction is 'yes' where right and 'no' where wrong."""
    right = tuple(float(one) for one in right)
    return Outcomes(
        tuple(f"q{start + index:05d}" for index in range(len(right))),
        tuple(predictions or ("yes" if one else "no" for one in right)),
        tuple(margins or (2.0 for _ in right)),
        {"right": right},
    )


def accuracy(right, original=None, *, number=0, machine=MACHINE, margins=None, churn=None, metric="exact_match", **fields):
    """An accuracy measurement of one mean metric from right and wrong answers."""
    mine = outcomes(right, margins=margins)
    theirs = None if original is None else outcomes(original)

    def score(found):
        return (Score(metric, sum(found.right) / len(found.right), len(found.right), "mean:right", True),)

    return Measurement(
        case=case(number, kind="accuracy", **fields),
        fingerprint=machine,
        scores=score(mine),
        outcomes=mine,
        original_scores=() if theirs is None else score(theirs),
        original_outcomes=theirs,
        model_bytes=66_000_000,
        facts={"provider": "CPUExecutionProvider"},
        churn=churn,
    )
