"""A product of axes with constraints and budgets; iterates cases; decorates a test function or class.

Knows no machine: what `device="auto"` stands for is told to `cases`. Knows no pytest: the decorator leaves the sweep on
the function, and the plugin finds it there.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pytest_perfq import registry
from pytest_perfq.core.budget import AXES, Budget, Limit, limits_for, matches
from pytest_perfq.core.case import DEVICES, PADDINGS, PRECISIONS, Case
from pytest_perfq.core.quantization import Quantization
from pytest_perfq.core.spec import Spec
from pytest_perfq.core.used import check_metrics, check_used
from pytest_perfq.errors import UnknownName, UsageError

ATTRIBUTE = "__perfq_sweep__"
T = TypeVar("T")

# Axis -> its values when a suite is silent. The order is that of the walk: a program's accuracy first, then its latencies.
DEFAULTS: dict[str, Any] = {
    "task": None,
    "model": None,
    "dataset": "synthetic",
    "device": "auto",
    "backend": "eager",
    "precision": "fp32",
    "quantization": None,
    "tp": 1,
    "pp": 1,
    "padding": "full",
    "batch_size": 1,
    "seq_len": 128,
}
FIELDS: dict[str, Any] = {
    "samples": None,
    "metrics": (),
    "split": "validation",
    "calibration_split": "train",
    "exclude": (),
    "budgets": (),
    "accuracy": True,
    "latency": True,
}


def model_label(source: str) -> str:
    """What a model is called in ids: the last part of a hub id or folder, the module of a package, `synthetic-NAME`."""
    kind, separator, rest = source.partition(":")
    if separator and kind in ("synthetic", "finetuned"):
        return f"{kind}-{model_label(rest)}"
    if separator and kind == "package":
        return rest.partition("/")[0]
    return os.path.basename(source.rstrip("/")) or source


def _values(axis: str, value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.items())
    values = list(value) if isinstance(value, (list, tuple, set, range)) else [value]
    if not values:
        raise UsageError(f"empty sweep: axis {axis} has no values; give at least one")
    return values


def _entries(name: str, value: Any, kind: type[Any], example: str) -> tuple[Any, ...]:
    """One entry of this kind or several, as a tuple."""
    entries = (value,) if isinstance(value, kind) or not isinstance(value, (list, tuple)) else tuple(value)
    for entry in entries:
        if not isinstance(entry, kind):
            raise UsageError(f"{name} holds {entry!r}; give {example} entries")
    return entries


def _positive(axis: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{axis} is {value!r}; give a whole number of at least 1")
    return value


def _known(axis: str, value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise UnknownName(axis, str(value), known)
    return str(value)


def _quantization(value: Any) -> Quantization | None:
    if value is None or isinstance(value, Quantization):
        return value
    raise UsageError(f"quantization is {value!r}; give None, Dynamic(...), Static(...) or a Quantization")


def _registered(kind: str, value: Any) -> Spec:
    spec = Spec.parse(value)
    registry.check(kind, spec.name)
    return spec


def _check_declared(case: Case) -> None:
    """Raises UsageError for what the case's task and backend declare that it cannot be. Imports neither."""
    for kind, name in (("task", case.task.name), ("backend", case.backend.name)):
        check = registry.declared(kind, name)
        if check is not None:
            check(case)


def _scored(case: Case) -> tuple[str, ...] | None:
    """What the case's task scores where it is not told; None where the task does not say. Imports no task."""
    metrics = registry.declared("task", case.task.name, "metrics")
    return None if metrics is None else metrics(case)


def _model(value: Any) -> tuple[str, str]:
    if isinstance(value, tuple):
        label, source = value
        return str(label), str(source)
    if not isinstance(value, str) or not value:
        raise UsageError(f"model is {value!r}; give a hub id, a folder, package:MODULE/PATH or synthetic:NAME")
    return model_label(value), value


_READ: dict[str, Callable[[Any], Any]] = {
    "task": lambda value: _registered("task", value),
    "model": _model,
    "dataset": str,
    "device": lambda value: _known("device", value, (*DEVICES, "auto")),
    "backend": lambda value: _registered("backend", value),
    "precision": lambda value: _known("precision", value, PRECISIONS),
    "quantization": _quantization,
    "tp": lambda value: _positive("tp", value),
    "pp": lambda value: _positive("pp", value),
    "padding": lambda value: _known("padding", value, PADDINGS),
    "batch_size": lambda value: _positive("batch_size", value),
    "seq_len": lambda value: _positive("seq_len", value),
}


def _word(value: Any) -> str:
    """A value of an axis as people write it."""
    if isinstance(value, Quantization):
        return value.id
    source = value[1] if isinstance(value, tuple) else value
    return repr(str(source) if isinstance(source, Spec) else source)


def read_axis(axis: str, value: Any) -> Any:
    """One value of an axis as a case holds it. Raises UsageError and UnknownName."""
    return _READ[axis](value)


class Sweep:
    """Every combination of the axes, as cases.

    task, dataset, model, backend, device, precision, quantization, padding, batch_size, seq_len, tp, pp: one value or a
    list of them; model may also map labels to sources. samples, metrics, split, calibration_split: for every case.
    exclude: `where` patterns of combinations to leave out. budgets: promises, later and more specific entries override.
    accuracy, latency: which kinds of case to make. Raises UsageError, UnknownName.

    Accuracy is one case for each (model, backend, precision, quantization), followed by its latency cases, one for each
    (padding, batch_size, seq_len).
    """

    def __init__(self, **given: Any) -> None:
        UnknownName.check("axis", given, (*DEFAULTS, *FIELDS))
        for name in ("task", "model"):
            if given.get(name) is None:
                raise UsageError(f"a sweep needs a {name}; known tasks: {', '.join(sorted(registry.names('task')))}")
        self.axes = {axis: self._axis(axis, given.get(axis, default)) for axis, default in DEFAULTS.items()}
        self.fields = {name: given.get(name, default) for name, default in FIELDS.items()}
        self.fields["metrics"] = tuple(_values("metrics", self.fields["metrics"])) if self.fields["metrics"] else ()
        if self.fields["samples"] is not None:
            _positive("samples", self.fields["samples"])
        self.exclude = _entries("exclude", self.fields.pop("exclude"), Mapping, "{axis: value or pattern}")
        self.budgets = _entries("budgets", self.fields.pop("budgets"), Budget, "Budget(...)")
        for where in self.exclude:
            UnknownName.check("axis in exclude", where, AXES)
        self._cases: dict[tuple[str, str], tuple[Case, ...]] = {}

    @staticmethod
    def _axis(axis: str, value: Any) -> list[Any]:
        values = [_READ[axis](one) for one in _values(axis, value)]
        for first, second in itertools.combinations(values, 2):
            if first == second or (axis == "model" and first[0] == second[0]):
                if first == second:
                    raise UsageError(f"axis {axis} holds {_word(first)} twice; keep one")
                both = f"{_word(first)} and {_word(second)}"
                raise UsageError(
                    f"axis {axis} holds {both}: the same case twice; name them apart with a mapping label -> source"
                )
        return values

    def __call__(self, *target: T, **given: Any) -> T:
        """Decorates a test function or class that takes `case` and `perfq`. Raises UsageError where it is called with anything
        else, as in `@S()`."""
        if given or len(target) != 1 or not callable(target[0]):
            raise UsageError("a Sweep stands above a test as it is, and was called without one; write @S, not @S(...)")
        setattr(target[0], ATTRIBUTE, self)
        return target[0]

    def cases(self, accuracy_device: str = "cpu", latency_device: str = "cpu") -> tuple[Case, ...]:
        """All cases in the order of the walk. The two devices are what 'auto' stands for. Raises UsageError for an empty
        sweep and for a budget that matches none of the cases."""
        key = (accuracy_device, latency_device)
        if key not in self._cases:
            idle = set(range(len(self.exclude)))
            cases = tuple(self._generate(accuracy_device, latency_device, idle))
            if not (cases or self.fields["accuracy"] or self.fields["latency"]):
                raise UsageError("empty sweep: accuracy and latency are both False; let it make one kind of case")
            if not cases:
                raise UsageError(f"empty sweep: its exclude entries {list(self.exclude)} leave no case; take one out")
            for index in sorted(idle):
                if "device" not in self.exclude[index]:
                    raise UsageError(
                        f"exclude entry {index + 1}, {dict(self.exclude[index])}, leaves out no case; mend it or take it out"
                    )
            # On a machine without the device asked for, entries about it are idle, not wrong.
            floating = {"gpu"} | ({"device"} if "auto" in self.axes["device"] else set())
            check_used(self.budgets, cases, floating)
            check_metrics(self.budgets, cases, _scored, floating)
            self._cases[key] = cases
        return self._cases[key]

    def _generate(self, accuracy_device: str, latency_device: str, idle: set[int]) -> Iterator[Case]:
        """idle: indices of exclude entries; those that leave something out are taken from it."""
        fields = {name: self.fields[name] for name in ("samples", "metrics", "split", "calibration_split")}
        names = list(DEFAULTS)[: list(DEFAULTS).index("padding")]
        shapes = list(itertools.product(self.axes["padding"], self.axes["batch_size"], self.axes["seq_len"]))
        for values in itertools.product(*(self.axes[name] for name in names)):
            point = dict(zip(names, values, strict=True)) | fields
            point["model_name"], point["model"] = point["model"]
            auto = point["device"] == "auto"
            devices = (accuracy_device, latency_device) if auto else (point["device"],) * 2
            checked: set[str] = set()
            for case in self._of_program(point, devices, shapes, idle):
                # Once a program: the sizes say nothing of what can be.
                if case.device not in checked:
                    checked.add(case.device)
                    _check_declared(case)
                yield case

    def _of_program(
        self, point: dict[str, Any], devices: tuple[str, str], shapes: Sequence[tuple[str, int, int]], idle: set[int]
    ) -> Iterator[Case]:
        """The accuracy case of a program, then its latency cases. devices: of accuracy and of latency."""
        if self.fields["accuracy"]:
            yield from self._kept(point | {"device": devices[0]}, idle)
        for padding, batch_size, seq_len in shapes if self.fields["latency"] else ():
            shape = {"padding": padding, "batch_size": batch_size, "seq_len": seq_len}
            yield from self._kept(point | {"device": devices[1]} | shape, idle)

    def _kept(self, point: dict[str, Any], idle: set[int]) -> Iterator[Case]:
        case = Case(**point)
        if self.exclude:
            axes = case.axes()
            hits = {index for index, where in enumerate(self.exclude) if matches(where, axes)}
            idle -= hits
            if hits:
                return
        yield case

    def limits(self, case: Case, gpu: str) -> tuple[Limit, ...]:
        """The promises for one case on this GPU ('cpu' without one)."""
        return limits_for(self.budgets, case, gpu)
