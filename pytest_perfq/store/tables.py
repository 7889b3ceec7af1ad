"""The tables as they are now. How they became so is in migrations/; a test holds the two against each other.

    runs          one row a run
    records       one row for each (run, item, attempt), with the numbers that SQL asks for in columns; `visits` of an attempt
                  that `continues` another come after those of that one
    blobs         packed contents by digest: example ids and outcomes, which many records share
    fingerprints  machine and software by digest, which many records share
    calibrations  how far A/A visits of a case differed on a machine, one row a calibration

Names begin with `perfq_`, so that a store may live in a database beside other tables.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)  # fmt: skip

metadata = MetaData()

schema = Table(
    "perfq_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("applied_s", Double, nullable=False),
)

runs = Table(
    "perfq_runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_s", Double, nullable=False),
    Column("finished_s", Double),
    Column("argv", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("revision", Text),
    Column("dirty", Boolean),
    Column("machine", Text),
    Column("pid", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
)

fingerprints = Table(
    "perfq_fingerprints",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("machine", Text, nullable=False),
    Column("facts", Text, nullable=False),
)

blobs = Table(
    "perfq_blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

records = Table(
    "perfq_records",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, ForeignKey("perfq_runs.id"), nullable=False),
    Column("nodeid", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("case_id", Text, nullable=False),
    Column("recorded_s", Double, nullable=False),
    Column("status", Text, nullable=False),
    Column("p50_ms", Double),
    Column("p95_ms", Double),
    Column("metric", Text),
    Column("score", Double),
    Column("drop", Double),
    Column("speedup", Double),
    Column("bytes", BigInteger),
    Column("fingerprint", Text, ForeignKey("perfq_fingerprints.digest"), nullable=False),
    Column("volatile", Text, nullable=False),
    Column("case_json", Text, nullable=False),
    Column("verdict_json", Text, nullable=False),
    Column("rest_json", Text, nullable=False),
    Column("visits", LargeBinary),
    Column("ids", Text, ForeignKey("perfq_blobs.digest")),
    Column("outcomes", Text, ForeignKey("perfq_blobs.digest")),
    Column("original_ids", Text, ForeignKey("perfq_blobs.digest")),
    Column("original_outcomes", Text, ForeignKey("perfq_blobs.digest")),
    Column("continues", Integer),
    UniqueConstraint("run_id", "nodeid", "attempt", name="perfq_records_once"),
    Index("perfq_records_case", "case_id", "recorded_s"),
)

calibrations = Table(
    "perfq_calibrations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("recorded_s", Double, nullable=False),
    Column("machine", Text, nullable=False),
    Column("case_id", Text, nullable=False),
    Column("visits", Integer, nullable=False),
    Column("deviation", Double, nullable=False),
    Index("perfq_calibrations_case", "machine", "case_id"),
)
