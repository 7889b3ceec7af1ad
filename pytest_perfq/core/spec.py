"""A name with options, as people write it on an axis: `ort`, `ort[opset=11,level=1]`, `question-answering[version_2]`.

Knows nothing of what the names mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from pytest_perfq.errors import UnknownName, UsageError

Value = str | int | float | bool

_SPEC = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)(?:\[(?P<options>[^\[\]]*)\])?$")


def _value(text: str) -> Value:
    if text in ("true", "True"):
        return True
    if text in ("false", "False"):
        return False
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, slots=True)
class Spec:
    """A name and its options, canonical (options sorted by key). `str(Spec.parse(text))` reads back to an equal Spec."""

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    @classmethod
    def parse(cls, text: str | Spec) -> Spec:
        """Reads `name`, `name[key=value,flag]`. Raises UsageError for anything else."""
        if isinstance(text, Spec):
            return text
        match = _SPEC.match(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise UsageError(f"cannot read {text!r} as a name with options; write name or name[key=value,key=value]")
        options: dict[str, Value] = {}
        for part in filter(None, (match["options"] or "").split(",")):
            key, separator, value = part.partition("=")
            key = key.strip()
            if key in options:
                raise UsageError(f"option {key!r} stands twice in {text!r}; keep one")
            options[key] = _value(value.strip()) if separator else True
        return cls(match["name"], tuple(sorted(options.items())))

    def of(self, **options: Value) -> Self:
        """The same name with these options added or replaced."""
        return type(self)(self.name, tuple(sorted({**dict(self.options), **options}.items())))

    def only(self, kind: str, **known: Value) -> dict[str, Value]:
        """The options over the defaults in `known`. Raises UnknownName for any other key, UsageError for another type."""
        values = dict(known)
        for key, value in self.options:
            if key not in known:
                raise UnknownName(f"option of {kind} {self.name}", key, known)
            default = known[key]
            right = type(default) if default is not None else None
            if right is float and type(value) is int:
                value = float(value)
            if right is not None and type(value) is not right:
                wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[right]
                given = f"option {key} of {kind} {self.name} is {value!r}"
                raise UsageError(f"{given}; it takes {wanted}, such as {_text(default)}")
            values[key] = value
        return values

    def __str__(self) -> str:
        if not self.options:
            return self.name
        parts = (key if value is True else f"{key}={_text(value)}" for key, value in self.options)
        return f"{self.name}[{','.join(parts)}]"
