"""The store as the commands use it: opened in their own words, and trials kept in it as a run while they are made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_perfq.core.verdict import Pair, Verdict
    from pytest_perfq.store import Store
    from pytest_perfq.trials.entry import Entry
    from pytest_perfq.trials.running import Trials


def opened(url: str, *, readonly: bool = False) -> Store:
    """The store of a command, whose sentences name the command's own option."""
    from pytest_perfq.store import Store

    return Store.open(url, readonly=readonly, option="--store")


def kept(store: Store, trials: Trials, told: dict[str, Any]) -> str:
    """Runs trials and stores what is known of a case whenever it gained a visit; the run's id. told: what the run is about."""
    run = store.begin_run(sys.argv, {"items": len(trials.entries), "trial": told})

    def keep(entry: Entry, pair: Pair, verdict: Verdict) -> None:
        assert pair.candidate is not None
        store.record(run, entry.nodeid, pair.candidate.to_json(), verdict.to_json())

    trials.keep = keep
    try:
        trials.run()
    finally:
        # Also where it was stopped: trials cannot be taken up again, and the store must not offer it.
        store.finish_run(run)
    return run
