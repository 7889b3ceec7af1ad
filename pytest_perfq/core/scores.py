"""Formulas: how a metric follows from column sums of per-example statistics.

Every built-in metric is a function of sums over examples, so a metric of any subset, or of any swap of examples between
two models, is one sum away. That is what makes exact paired tests of F1 or Matthews possible. A formula is text, so that
it can be stored beside the value it made:

    mean:COLUMN              sum(COLUMN) / n
    ratio:A/B                sum(A) / sum(B)                          precision, recall, token accuracy
    f1:RIGHT/PREDICTED/TRUE  2 RIGHT / (PREDICTED + TRUE)             entity F1, binary F1
    matthews:TP/TN/FP/FN     the Matthews correlation coefficient

A zero denominator gives 0.0, as seqeval and scikit-learn do. Source: Matthews 1975; seqeval 1.2; scikit-learn 1.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_perfq.errors import UnknownName


def columns(formula: str) -> list[str]:
    """The columns that a formula reads."""
    return formula.partition(":")[2].split("/")


def apply(formula: str, sums: Mapping[str, Any], n: int) -> Any:
    """The value from column sums: floats, or numpy arrays of equal shape (one value per entry). n: examples summed."""
    import numpy as np

    kind, names = formula.partition(":")[0], columns(formula)
    values = [np.asarray(sums[name], dtype=np.float64) for name in names]
    if kind == "mean":
        top, bottom = values[0], np.full_like(values[0], n)
    elif kind == "ratio":
        top, bottom = values
    elif kind == "f1":
        top, bottom = 2.0 * values[0], values[1] + values[2]
    elif kind == "matthews":
        tp, tn, fp, fn = values
        top = tp * tn - fp * fn
        bottom = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    else:
        raise UnknownName("formula", kind, ["mean", "ratio", "f1", "matthews"])
    value = np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)
    return float(value) if value.ndim == 0 else value


def score(formula: str, table: Mapping[str, Any]) -> float:
    """The value over all examples of a table of columns, each of shape [n]."""
    import numpy as np

    names = columns(formula)
    sums = {name: float(np.sum(np.asarray(table[name], dtype=np.float64))) for name in names}
    return float(apply(formula, sums, len(table[names[0]])))
