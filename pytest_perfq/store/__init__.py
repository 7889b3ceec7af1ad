"""The history of runs in a database: SQLite by default, any other by its SQLAlchemy URL. Judges nothing."""

from pytest_perfq.store.history import Store
from pytest_perfq.store.rows import Point, Record, Run

__all__ = ["Point", "Record", "Run", "Store"]
