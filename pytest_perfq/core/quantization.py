"""A quantization as data. Knows no backend: who cannot do one refuses it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from pytest_perfq.errors import UnknownName, UsageError

APPROACHES = ("dynamic", "static", "aware")
TYPES = ("int8", "fp8")
CALIBRATIONS = ("minmax", "entropy", "percentile")
FORMATS = ("qdq", "qoperator")
MODES = ("v1", "v2")
# Named groups of nodes; any other entry of `exclude` is a node name or a glob over node names.
GROUPS = ("layernorm", "gelu", "residual", "gather", "softmax")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """How a model comes to compute in eight bits.

    approach: 'dynamic' (activation scales at run time), 'static' (scales from calibration), 'aware' (trained with it).
    operators: ONNX operator types to quantize; empty means all that the backend can.
    exclude: groups of GROUPS, node names or globs over node names that stay in floating point.
    per_channel: one weight scale per output channel instead of one per tensor.
    calibration: 'minmax', 'entropy' or 'percentile' over `calibration_samples` real examples of the training split.
    percentile: of absolute activation values kept, in per cent; only for calibration='percentile'.
    mode: FasterTransformer's INT8 modes 'v1' and 'v2', where a backend has them.
    format: 'qdq' or 'qoperator', how an ONNX graph says it.
    type: 'int8', or 'fp8' (float8_e4m3fn), what weights and activations become.
    """

    approach: str
    operators: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    per_channel: bool = False
    calibration: str = "minmax"
    calibration_samples: int = 100
    percentile: float = 99.99
    mode: str | None = None
    format: str = "qdq"
    type: str = "int8"

    def __new__(cls, *values: object, **given: object) -> Self:
        # Before __init__, whose TypeErrors know no near names.
        if values:
            raise UsageError(f"a quantization was given {values[0]!r} without a keyword; write Dynamic(...) or Static(...)")
        UnknownName.check("quantization field", given, [field.name for field in fields(cls)])
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("quantization approach", self.approach, APPROACHES),
            ("calibration", self.calibration, CALIBRATIONS),
            ("quantization format", self.format, FORMATS),
            ("quantization mode", self.mode, (*MODES, None)),
            ("quantization type", self.type, TYPES),
        ):
            if value not in known:
                raise UnknownName(kind, str(value), [str(one) for one in known if one])
        if self.calibration_samples < 1:
            raise UsageError(f"calibration_samples is {self.calibration_samples}; static calibration needs at least 1 example")
        if not 50.0 < self.percentile <= 100.0:
            raise UsageError(f"percentile is {self.percentile}; give a per cent over 50 and up to 100")
        for name in ("operators", "exclude"):
            values = getattr(self, name)
            if isinstance(values, str):
                raise UsageError(f"{name} is the text {values!r}; give a list of names")
            for value in values:
                if not isinstance(value, str):
                    raise UsageError(f"{name} holds {value!r}; give names, such as 'MatMul'")
            object.__setattr__(self, name, tuple(sorted(set(values))))

    @property
    def id(self) -> str:
        """Short canonical text, such as `int8-static[Add,MatMul]-x[gelu,layernorm]`."""
        parts = [f"{self.type}-{self.approach}"]
        if self.operators:
            parts[0] += f"[{','.join(self.operators)}]"
        if self.exclude:
            parts.append(f"x[{','.join(self.exclude)}]")
        if self.per_channel:
            parts.append("perchannel")
        if self.approach == "static":
            if self.calibration == "percentile":
                parts.append(f"percentile{self.percentile:g}")
            elif self.calibration != "minmax":
                parts.append(self.calibration)
            if self.calibration_samples != 100:
                parts.append(f"n{self.calibration_samples}")
        if self.mode:
            parts.append(self.mode)
        if self.format != "qdq":
            parts.append(self.format)
        return "-".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Plain values, one per field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.type == "int8":
            del values["type"]  # as every quantization was written before there was another
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Quantization:
        """The inverse of to_json."""
        return cls(**_tuples(values))


def Dynamic(*operators: str, **options: Any) -> Quantization:
    """Dynamic quantization of these ONNX operator types: `Dynamic("MatMul", "Add")`."""
    return Quantization(approach="dynamic", operators=operators, **_checked(options))


def Static(*operators: str, **options: Any) -> Quantization:
    """Static quantization of these ONNX operator types: `Static("MatMul", exclude=["layernorm"])`."""
    return Quantization(**_checked(options), approach="static", operators=operators)


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    for name, instead in (
        ("operators", 'name them first, as in Dynamic("MatMul")'),
        ("approach", "it is the name of the call"),
    ):
        if name in options:
            raise UsageError(f"Dynamic and Static take no {name}=, here {options[name]!r}; {instead}")
    return _tuples(options)


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
