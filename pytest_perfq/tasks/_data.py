"""Where labelled examples come from: a mirror folder of parquet files, the hub, or the embedded corpus.

Knows names, splits and columns; what the columns mean is a task's. The mirror is `DIR/<name>/<split>.parquet` with the
hub's columns, `/` and `:` in a name written `-`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pytest_perfq.contracts import Resources
from pytest_perfq.errors import DataError, Unavailable, UsageError
from pytest_perfq.tasks import _hub
from pytest_perfq.tasks._table import Table

_TYPO = 0.8  # likeness from which a name is a misspelling: one letter of five, and not another data set of the same family
# Short names of suites -> what the hub calls the set: path, configuration, revision. CoNLL-2003 is published there as a
# script, which `datasets` no longer runs; its converted revision holds parquet, and no configurations.
HUB_NAMES: dict[str, tuple[str, str | None, str | None]] = {
    "squad": ("rajpurkar/squad", None, None),
    "squad_v2": ("rajpurkar/squad_v2", None, None),
    "conll2003": ("eriktks/conll2003", None, "refs/convert/parquet"),
    **{
        name: ("nyu-mll/glue", task, None)
        for task in ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "wnli")
        for name in (f"glue/{task}", f"glue-{task}")
    },
}


def load(name: str, split: str, resources: Resources) -> Table:
    """All rows of a split. Raises Unavailable (hub), UsageError (not in the mirror, unknown to the hub) and DataError (no such
    split)."""
    if name.startswith("synthetic:"):
        from pytest_perfq.tasks import _synthetic

        return _synthetic.table(name, split)
    return _mirrored(resources.data, name, split) if resources.data is not None else _from_hub(name, split)


def _meant(name: str, held: Sequence[str]) -> str | None:
    """The data set of a mirror that `name` is misspelt for, or is the end of; None where nothing is near."""
    near = difflib.get_close_matches(name, held, n=1, cutoff=_TYPO)
    return next(iter(near or [one for one in held if one.endswith(f"-{name}")]), None)


def _folder(name: str) -> str:
    """What a data set's folder in a mirror is called."""
    return name.replace("/", "-").replace(":", "-")


@lru_cache(maxsize=8)
def _mirrored(mirror: Path, name: str, split: str) -> Table:
    folder = mirror / _folder(name)
    if not folder.is_dir():
        held = sorted(path.name for path in mirror.iterdir() if path.is_dir()) if mirror.is_dir() else []
        meant = None if name in HUB_NAMES else _meant(folder.name, held)
        asked = "" if meant is None else f"did you mean {meant!r}? else "
        # Nothing was to be fetched: whoever names the folder can mend it, and nobody mends what is skipped.
        raise UsageError(
            f"data set {name!r} is not in the mirror {mirror}, which holds {', '.join(held) or 'nothing'}; "
            f"{asked}add {folder.name}/{split}.parquet or run without --perf-data"
        )
    path = folder / f"{split}.parquet"
    if not path.is_file():
        splits = ", ".join(sorted(one.stem for one in folder.glob("*.parquet")))
        raise DataError(f"data set {name!r} in {mirror} has no split {split!r}; it has {splits or 'none'}")
    import pyarrow.parquet as parquet

    try:
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a parquet file that can be read ({error}); copy it again") from error
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = metadata.get("info", {}).get("features", {})
    return Table(name, split, tuple(table.column_names), table.to_pylist(), _classes(features))


def _classes(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Class names by column, from features as the hub's files describe them."""
    found = {}
    for column, feature in features.items():
        inner = feature
        while isinstance(inner, Mapping) and "names" not in inner and isinstance(inner.get("feature"), Mapping):
            inner = inner["feature"]
        if isinstance(inner, Mapping) and inner.get("_type") == "ClassLabel" and "names" in inner:
            found[column] = tuple(inner["names"])
    return found


@lru_cache(maxsize=8)
def _from_hub(name: str, split: str) -> Table:
    import datasets
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetsError

    path, configuration, revision = HUB_NAMES.get(name, (name.partition(":")[0], name.partition(":")[2] or None, None))

    def load(commit: str | None) -> Any:
        try:
            # By the commit: what is read is then what is recorded.
            return datasets.load_dataset(path, configuration, split=split, revision=commit)
        except (ValueError, DataFilesNotFoundError, EmptyDatasetError) as error:  # no such configuration or split; no data
            raise _unreadable(name, error) from error
        except DatasetsError as error:  # files that are not what their names say
            if isinstance(error, OSError):  # or did not come
                raise
            raise _unreadable(name, error) from error
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            raise DataError(
                f"data set {name!r} is a script at the hub, and scripts are not run; convert it to parquet, "
                f"DIR/{path.replace('/', '-')}/{split}.parquet, and give --perf-data DIR"
            ) from error

    try:
        loaded = _hub.fetched(f"data set {name!r}", "dataset", path, load, revision)
    except Unavailable as error:
        raise Unavailable(f"{error}; without the hub, --perf-data=DIR reads DIR/{_folder(name)}/{split}.parquet") from error
    table = Table(name, split, tuple(loaded.column_names), loaded.to_list(), _classes(loaded.features.to_dict()))
    files = loaded.cache_files
    return replace(table, revision=_hub.commit_of(Path(files[0]["filename"]).parent)) if files else table


def _unreadable(name: str, error: Exception) -> DataError:
    return DataError(f"data set {name!r} cannot be loaded from the hub: {str(error).splitlines()[0]}")
