"""Where results, caches and data of this project are, and whether they can be used. Looks, and makes nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytest_perfq.report.explain import size
from pytest_perfq.settings import default_cache

# Splits and data sets named in one line.
SHOWN_DATA = 12


def places(store: str, cache: str | None, data: str | None) -> dict[str, Any]:
    """store, cache and data mirror as plain facts; `problem` is one sentence, None where there is none. Raises StoreError
    for a store that is neither a path nor a URL."""
    return {"store": _store(store), "cache": _cache(Path(cache) if cache else default_cache()), "data": _data(data)}


def _store(url: str) -> dict[str, Any]:
    from pytest_perfq.store import state

    found = state(url)
    return {"url": found.name, "exists": found.exists, "runs": found.runs, "problem": found.problem}


def _cache(folder: Path) -> dict[str, Any]:
    sizes = [
        os.lstat(os.path.join(inside, name)).st_size for inside, _, names in os.walk(folder) for name in names
    ]  # fmt: skip
    return {
        "folder": str(folder),
        "exists": folder.is_dir(),
        "files": len(sizes),
        "bytes": sum(sizes),
        "problem": _unwritable(folder),
    }


def _unwritable(folder: Path) -> str | None:
    if folder.exists() and not folder.is_dir():
        return f"{folder} is not a folder; give another with --perf-cache"
    standing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK | os.X_OK):
        return f"{standing} cannot be written to; give another folder with --perf-cache"
    return None


def _data(folder: str | None) -> dict[str, Any] | None:
    """The data sets of a mirror: name -> splits."""
    if folder is None:
        return None
    files = sorted(Path(folder).glob("*/*.parquet"))
    sets: dict[str, list[str]] = {}
    for file in files:
        sets.setdefault(file.parent.name, []).append(file.stem)
    problem = None
    if not Path(folder).is_dir():
        problem = f"{folder} is not a folder; give one that holds <name>/<split>.parquet"
    elif not files:
        problem = f"{folder} holds no <name>/<split>.parquet; give the folder that does"
    return {"folder": folder, "sets": sets, "problem": problem}


def described(found: dict[str, Any]) -> dict[str, str]:
    """The places as a sentence each."""
    return {"store": _said_store(found["store"]), "cache": _said_cache(found["cache"]), "data": _said_data(found["data"])}


def _said_store(store: dict[str, Any]) -> str:
    if store["problem"] is not None:
        return str(store["problem"]) if store["url"] in store["problem"] else f"{store['url']}: {store['problem']}"
    if not store["exists"]:
        return f"{store['url']}: not there yet, a run of pytest can make it"
    return f"{store['url']}: {store['runs']} {'run' if store['runs'] == 1 else 'runs'}, can be written to"


def _said_cache(cache: dict[str, Any]) -> str:
    held = f"{size(cache['bytes'])} in {cache['files']} {'file' if cache['files'] == 1 else 'files'}"
    if cache["problem"] is not None:
        return f"{cache['folder']}: {held if cache['exists'] else 'not there'}; {cache['problem']}"
    return (
        f"{cache['folder']}: {held}, can be written to"
        if cache["exists"]
        else f"{cache['folder']}: not there yet, a run can make it"
    )


def _said_data(data: dict[str, Any] | None) -> str:
    if data is None:
        return "no mirror given, so data sets come from the hub; look at one with --data DIR"
    if data["problem"] is not None:
        return str(data["problem"])
    sets = [f"{name} ({', '.join(splits)})" for name, splits in data["sets"].items()]
    more = f" and {len(sets) - SHOWN_DATA} more" if len(sets) > SHOWN_DATA else ""
    return f"{data['folder']}: {', '.join(sets[:SHOWN_DATA])}{more}"
