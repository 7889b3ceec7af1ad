"""One point of a sweep. Its `id` is its name everywhere: pytest id, store key, baseline key.

Knows no backend, no task, no machine.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from pytest_perfq.core.quantization import Quantization
from pytest_perfq.core.spec import Spec
from pytest_perfq.errors import UsageError

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
# Lengths of the rows of a latency batch: all full; uniform on [1, S]; all S/2; as the data set's own examples.
PADDINGS = ("full", "uniform", "half", "dataset")
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One combination to measure, frozen. An accuracy case has no batch_size and no seq_len; a latency case has both.

    model is where the model comes from (hub id, folder, `package:MODULE/PATH`, `synthetic:NAME`), model_name what it is
    called in the id. samples: evaluation examples, None for the whole split. metrics: empty for the task's own.
    test: of a case that no sweep made but a test that times something itself, its name within the file `model_name`.
    """

    task: Spec
    dataset: str
    model: str
    model_name: str
    backend: Spec
    device: str = "cpu"
    precision: str = "fp32"
    quantization: Quantization | None = None
    padding: str = "full"
    batch_size: int | None = None
    seq_len: int | None = None
    tp: int = 1
    pp: int = 1
    samples: int | None = None
    metrics: tuple[str, ...] = ()
    split: str = "validation"
    calibration_split: str = "train"
    test: str | None = None

    @property
    def kind(self) -> str:
        """'accuracy' or 'latency'."""
        return "accuracy" if self.batch_size is None and self.test is None else "latency"

    @property
    def numeric(self) -> str:
        """The quantization's id, after the precision where that is not fp32."""
        if self.quantization is None:
            return self.precision
        return self.quantization.id if self.precision == "fp32" else f"{self.precision}-{self.quantization.id}"

    @property
    def id(self) -> str:
        """Such as `squad/distilbert/ort@cpu/int8-dynamic[Add,MatMul]/b8/s128`, or `.../accuracy-n1000`; of a test
        `benchmark/tests/test_sort.py::test_sort[10]`."""
        if self.test is not None:
            return f"{self.dataset}/{self.model_name}::{self.test}"
        # The embedded default is another data set for each task.
        data = f"synthetic-{self.task.name}" if self.dataset == "synthetic" else self.dataset.rpartition("/")[2]
        data = data.replace(":", "-")
        if self.split != "validation":
            data += f"@{self.split}"
        if self.task.options:
            data += str(self.task).removeprefix(self.task.name)
        parts = [data, self.model_name, f"{self.backend}@{self.device}", self.numeric]
        if self.tp > 1 or self.pp > 1:
            parts.append(f"tp{self.tp}pp{self.pp}")
        if self.kind == "accuracy":
            parts.append("accuracy" if self.samples is None else f"accuracy-n{self.samples}")
        else:
            parts += [f"b{self.batch_size}", f"s{self.seq_len}"]
            if self.padding != "full":
                parts.append(self.padding)
        return "/".join(parts)

    @property
    def is_original(self) -> bool:
        """Whether this is the fp32 eager model that the others stand beside."""
        # As `self == self.original()`, without making one: a sweep asks this of thousands.
        return (
            (self.backend.name, self.backend.options, self.precision) == ("eager", (), "fp32")
            and self.quantization is None
            and self.tp == self.pp == 1
        )

    def original(self) -> Case:
        """The fp32 eager case of the same model, data, device, batch and length."""
        return replace(self, backend=Spec("eager"), precision="fp32", quantization=None, tp=1, pp=1)

    def program(self) -> Case:
        """The same case without batch and length: what must be built, and measured for accuracy, once."""
        return replace(self, batch_size=None, seq_len=None, padding="full")

    def axes(self) -> dict[str, str | int | None]:
        """What `where` patterns and tables see: axis -> text, integer or None."""
        quantization = None if self.quantization is None else self.quantization.id
        return {
            "task": str(self.task), "dataset": self.dataset, "model": self.model_name, "backend": str(self.backend),
            "device": self.device, "precision": self.precision, "quantization": quantization, "padding": self.padding,
            "batch_size": self.batch_size, "seq_len": self.seq_len, "tp": self.tp, "pp": self.pp, "kind": self.kind,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Plain values, one per field, and the id."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"task": str(self.task), "backend": str(self.backend), "metrics": list(self.metrics)}
        values["quantization"] = None if self.quantization is None else self.quantization.to_json()
        if self.test is None:
            del values["test"]  # as every case of a sweep was written before there were tests
        return {"id": self.id, **values}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Case:
        """The inverse of to_json. Raises UsageError when the stored id is not the id of the stored fields."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {key: value for key, value in values.items() if key in known}
        given |= {"task": Spec.parse(given["task"]), "backend": Spec.parse(given["backend"])}
        given["metrics"] = tuple(given.get("metrics", ()))
        if given.get("quantization"):
            given["quantization"] = Quantization.from_json(given["quantization"])
        case = cls(**given)
        if "id" in values and values["id"] != case.id:
            raise UsageError(
                f"case {values['id']!r} holds the fields of {case.id!r}; its record was edited or is of another version"
            )
        return case
