"""How the schema came to be: one file a version, `v0001_...` upwards, each with a function `upgrade(connection)`.

A file that was released never changes; the next change of tables.py is the next file, and a stored fixture of the version
before it joins the tests.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Migration:
    """One step. version: of the schema after it."""

    version: int
    name: str
    upgrade: Callable[[Connection], None]


def known() -> list[Migration]:
    """All steps in order."""
    found = []
    for module in pkgutil.iter_modules(__path__):
        number, _, name = module.name.removeprefix("v").partition("_")
        upgrade = importlib.import_module(f"{__name__}.{module.name}").upgrade
        found.append(Migration(int(number), name.replace("_", " "), upgrade))
    found.sort(key=lambda one: one.version)
    if [one.version for one in found] != list(range(1, len(found) + 1)):
        raise RuntimeError(f"migrations are numbered {[one.version for one in found]}; they must count up from 1")
    return found
