"""Whether the hub can be reached, found out once a process, and what is said when it cannot.

Without this every item of a sweep would wait for the same time-outs again. What the hub's cache on this machine already
holds is used when the hub is out of reach. Knows no model and no data set.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pytest_perfq.errors import Unavailable, UsageError

PROBE_S = 1.5  # how long the one question to the hub may take, name resolution included
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("*.bin", "*.bin.index.json")
TEXTS = ("config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.model")


def _troubles() -> tuple[type[BaseException], ...]:
    """What a failed fetch raises: OSError, or the base class of the HTTP client that this version of the hub library uses."""
    from huggingface_hub.errors import HfHubHTTPError

    return OSError, HfHubHTTPError.__bases__[0]


def _ask(answered: list[bool]) -> None:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_S)
        answered.append(True)
    except _troubles():
        answered.append(False)


@cache
def reachable() -> bool:
    """Whether the hub answers at all. Asks once, for at most PROBE_S; respects HF_HUB_OFFLINE, HF_ENDPOINT and proxies."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answered: list[bool] = []
    # A thread, because no client's time-out covers name resolution.
    asker = threading.Thread(target=_ask, args=(answered,), daemon=True)
    asker.start()
    asker.join(PROBE_S)
    return bool(answered and answered[0])


@contextmanager
def _offline() -> Iterator[None]:
    """Hub clients read their caches only, and give up at once, within it."""
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


@contextmanager
def reach(what: str) -> Iterator[None]:
    """Around a call that fetches `what`. Raises Unavailable when the hub is out of reach and its cache lacks it, and
    UsageError when the hub answers that it has no such thing."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if not reachable():
        try:
            with _offline():
                yield
        except _troubles() as error:
            raise Unavailable(f"{what} cannot be fetched: the hub is out of reach and its cache here lacks it") from error
        return
    try:
        yield
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise UsageError(f"the hub shows no {what} to this account; check the name or log in with `hf auth login`") from error
    except FileNotFoundError as error:  # how `datasets` and `evaluate` say that there is no such thing
        raise UsageError(f"the hub has no {what}; check the name") from error
    except _troubles() as error:
        raise Unavailable(f"{what} cannot be fetched: {str(error).splitlines()[0]}") from error


def folder(name: str, pickle: bool) -> Path:
    """The hub's snapshot of a model on this disk: configuration, tokenizer and weights, nothing that runs."""
    from huggingface_hub import snapshot_download

    with reach(f"model {name!r}"):
        patterns = [*TEXTS, *WEIGHTS, *(PICKLES if pickle else ())]
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"], local_files_only=not reachable()))
