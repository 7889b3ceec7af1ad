"""Whether the hub can be reached, found out once a process, and what is said when it cannot.

Without this every item of a sweep would wait for the same time-outs again. What the hub's cache on this machine already
holds is used when the hub is out of reach. Knows no model and no data set.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pytest_perfq.errors import Unavailable, UsageError

Found = TypeVar("Found")
PROBE_S = 3.0  # how long the one question to the hub may take, name resolution included
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.bin.index.json")
TEXTS = ("config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model")


def _troubles() -> tuple[type[BaseException], ...]:
    """What a failed fetch raises: OSError, or the base class of the HTTP client that this version of the hub library uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, HfHubHTTPError.__bases__[0]


def _ask(session: Any, url: str, answered: list[bool]) -> None:
    try:
        session.head(url, timeout=PROBE_S)
        answered.append(True)
    except _troubles():
        answered.append(False)


@cache
def reachable() -> bool:
    """Whether the hub answers at all. Asks once, for at most PROBE_S; respects HF_HUB_OFFLINE, HF_ENDPOINT and proxies."""
    from huggingface_hub import constants, get_session

    if constants.is_offline_mode():
        return False
    answered: list[bool] = []
    # A thread, because no client's time-out covers name resolution. The session is made here: what importing its parts takes
    # is not the hub's.
    asker = threading.Thread(target=_ask, args=(get_session(), constants.ENDPOINT, answered), daemon=True)
    asker.start()
    asker.join(PROBE_S)
    return bool(answered and answered[0])


@contextmanager
def _offline() -> Iterator[None]:
    """Hub clients read their caches only, and give up at once, within it. Clients must be imported before it."""
    from huggingface_hub import constants

    switches = [(constants, "HF_HUB_OFFLINE")]
    switches += [(sys.modules[name], key) for name, key in (("datasets.config", "HF_HUB_OFFLINE"),
                 ("evaluate.config", "HF_EVALUATE_OFFLINE")) if name in sys.modules]  # fmt: skip
    before = [(module, key, getattr(module, key)) for module, key in switches]
    for module, key in switches:
        setattr(module, key, True)
    try:
        yield
    finally:
        for module, key, value in before:
            setattr(module, key, value)


def fetched(what: str, kind: str, name: str, load: Callable[[str | None], Found], revision: str | None = None) -> Found:
    """What `load` gives of a repository. load: called with the commit that the hub calls `revision` now; with None, and with
    hub clients that read their caches only, where the hub is out of reach or fails on the way. kind: 'model', 'dataset' or
    'space'. Raises UsageError when the hub shows no such repository, Unavailable when there is neither hub nor cache."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, and not in its list

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{what} is neither here nor a name that the hub could have: {_first_line(error)}") from error
    trouble = "the hub is out of reach and"
    if reachable():
        try:
            return load(HfApi().repo_info(name, repo_type=kind, revision=revision).sha)
        except RepositoryNotFoundError as error:
            raise UsageError(
                f"the hub shows no {what} to this account; check the name or log in with `hf auth login`"
            ) from error
        except RevisionNotFoundError as error:
            raise UsageError(f"the hub has no revision {revision!r} of {what}; check the name") from error
        except _troubles() as error:
            trouble = f"{_first_line(error)}, and"
    with _offline():
        try:
            return load(None)
        except _troubles() as error:
            raise Unavailable(f"{what} cannot be fetched: {trouble} its cache here lacks it") from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".:,") or type(error).__name__


def folder(name: str, pickle: bool) -> Path:
    """The hub's snapshot of a model on this disk: configuration, tokenizer and weights, nothing that runs."""
    from huggingface_hub import snapshot_download

    patterns = [*TEXTS, *WEIGHTS, *(PICKLES if pickle else ())]

    def load(commit: str | None) -> Path:
        # By its name and not by the commit: so the cache learns which commit the name stands for, for runs without a hub.
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"], local_files_only=commit is None))

    return fetched(f"model {name!r}", "model", name, load)


def commit_of(path: Path) -> str | None:
    """The commit that a folder of one of the hub's caches holds, 40 hex digits; None for any other folder. Both caches name
    folders so: `snapshots/COMMIT` of models, `VERSION/COMMIT` of prepared data sets."""
    return path.name if re.fullmatch("[0-9a-f]{40}", path.name) else None
