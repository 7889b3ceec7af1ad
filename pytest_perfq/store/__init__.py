"""The history of runs in a database: SQLite by default, any other by its SQLAlchemy URL. Judges nothing."""

from pytest_perfq.store.history import Store
from pytest_perfq.store.rows import Calibration, Point, Record, Run
from pytest_perfq.store.state import State, state

__all__ = ["Calibration", "Point", "Record", "Run", "State", "Store", "state"]
