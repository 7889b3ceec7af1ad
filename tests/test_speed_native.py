"""The program that times the native encoder beside its peers: what it makes of times, not how long anything takes."""

import json
import math

import pytest
import speed_native
from speed_native import Figure, Row, figures, keep, timed


def row(shape, half, cosine=0.9995, **milliseconds):
    times = {name.replace("_", "-"): [one, one * 2, one * 9] for name, one in milliseconds.items()}
    return Row("minilm", 1, shape, half, times, {"w7a7": cosine, "native": 1.0})


def named(found, name):
    (one,) = [figure for figure in found if figure.name == f"native {name}; minilm, 1 thread"]
    return one


def test_a_figure_is_the_geometric_mean_of_ratios_of_medians_with_the_lowest_cosine_beside_it():
    rows = [row((1, 32), False, w7a7=1.0, ort_int8=2.0), row((8, 32), False, cosine=0.9991, w7a7=1.0, ort_int8=0.5)]
    rows.append(row((8, 32), True, cosine=0.9, w7a7=1.0, ort_int8=4.0))
    found = list(figures(rows))
    full, half = named(found, "w7a7 / ort INT8 padded, full"), named(found, "w7a7 / ort INT8 padded, half")
    assert (full.value, full.best, full.shapes, full.cosine) == (pytest.approx(1.0), pytest.approx(1.0), 2, 0.9991)
    assert (half.value, half.cosine, half.goal) == (pytest.approx(4.0), 0.9, 3.3)
    assert "cosine 0.99910   goal 1.6   MISSED" in full.line() and half.line().endswith("cosine 0.90000   goal 3.3")
    assert named(found, "w7a7 with eager, random weights, the lowest").value == 0.9
    assert not [one for one in found if "TorchScript" in one.name or "each alone" in one.name]


def test_the_best_peer_in_fp32_is_the_one_of_each_shape():
    rows = [
        row((1, 32), False, native=2.0, ort=3.0, torchscript=4.0),
        row((1, 128), False, native=2.0, ort=8.0, torchscript=1.0),
    ]
    found = list(figures(rows))
    assert named(found, "fp32 / best other fp32, full").value == pytest.approx(math.sqrt(1.5 * 0.5))
    assert named(found, "fp32 / best other fp32, full, the lowest").value == pytest.approx(0.5)


def test_w8a8_is_shown_without_a_goal_that_eight_bit_weights_meet_in_w8a7():
    found = list(figures([row((1, 32), False, w8a8=1.0, w8a7=1.0, ort_int8=1.2)]))
    assert named(found, "w8a8 / ort INT8 padded, full").line().rstrip().endswith("x")
    assert named(found, "w8a7 / ort INT8 padded, full").line().endswith("goal 1.3   MISSED")


def test_a_run_of_one_model_keeps_the_figures_of_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_native, "ROOT", tmp_path)
    keep([Figure("native a; bert", 1.0, "x", 1.5), Figure("native a; minilm", 2.0, "x", 1.5)], [])
    keep([Figure("native a; minilm", 3.0, "x", None, cosine=0.99912)], [row((1, 32), False, w7a7=1.0)])
    found = json.loads((tmp_path / ".perfq/speed.json").read_text())
    assert {one["name"]: one["value"] for one in found} == {"native a; bert": 1.0, "native a; minilm": 3.0}
    assert found[1]["cosine"] == 0.99912 and found[1]["goal"] is None
    (kept,) = json.loads((tmp_path / ".perfq/speed-native.json").read_text())
    assert kept["shape"] == [1, 32] and kept["times"]["w7a7"] == [1.0, 2.0, 9.0]


def test_rounds_begin_with_each_program_in_turn_and_prime_the_short_ones():
    now, seen = [0.0], []

    def call(name, seconds):
        def run():
            seen.append(name)
            now[0] += seconds

        return run

    found = timed({"short": call("short", 0.01), "long": call("long", 0.2)}, 3, lambda: now[0])
    assert found == {"short": pytest.approx([0.01] * 3), "long": pytest.approx([0.2] * 3)}
    first, second = ["short"] * 2 + ["long"] * 2, ["long"] + ["short"] * 2
    assert seen == [*first, *second, "short", "short", "long"]


@pytest.mark.parametrize("shape", [*speed_native.SHAPES, (32, 384)])
def test_half_padding_is_half(shape):
    rows, columns = shape
    batch = speed_native.batch_of(rows, columns, half=True)
    mask = batch.arrays["attention_mask"]
    assert mask.sum() * 2 == rows * columns
    assert tuple(mask.sum(1)) == batch.lengths and min(batch.lengths) >= 1
    assert rows == 1 or (max(batch.lengths) == columns and len(set(batch.lengths)) > rows // 2)
    assert batch.lengths == speed_native.batch_of(rows, columns, half=True).lengths
