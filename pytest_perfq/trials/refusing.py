"""Whether another configuration takes any case that could be held beside it, asked before a run is begun. Measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_perfq.core.case import Case
from pytest_perfq.core.configuration import ORIGINAL
from pytest_perfq.errors import PerfqError, UsageError
from pytest_perfq.trials.entry import Entry
from pytest_perfq.trials.environment import Environment
from pytest_perfq.trials.worker import START_S, Worker

# Reasons that differ, in one sentence; cases of one sweep mostly share one.
SHOWN_REASONS = 2


def check(entries: Sequence[Entry], environment: Environment, given: Mapping[str, Any], text: str) -> None:
    """Raises UsageError where the other configuration of every case that can be measured here is refused; TrialError where
    nothing can be asked. In a process of its own: backends load frameworks, and may claim the GPU that is to be timed.

    given: see pytest_perfq.worker.Given. text: what --perf-vs says.
    """
    refused: list[Entry] = []
    reasons: list[str] = []
    with Worker(environment, given) as worker:
        for entry in entries:
            if _reasons(worker, entry.candidate):
                continue  # its item says so
            found = _reasons(worker, entry.base)
            if not found:
                return
            refused.append(entry)
            reasons += [one for one in found if one not in reasons]
    if refused:
        all_of = "the only case is" if len(refused) == 1 else f"all {len(refused)} cases are"
        why = "; ".join(reasons[:SHOWN_REASONS]) + _more(len(reasons) - SHOWN_REASONS)
        raise UsageError(f"--perf-vs is {text!r}, and {all_of} refused in that configuration: {why}; {_instead(refused, text)}")


def _reasons(worker: Worker, case: Case) -> list[str]:
    """Why a case is not measured here. What goes wrong otherwise when it is asked, the run finds out and puts down to it."""
    try:
        found: list[str] = worker.ask("refuses", START_S, case=case.to_json())
    except UsageError as error:
        return [str(error).removeprefix(f"{worker.environment.label}: ")]
    except PerfqError:
        return []
    return found


def _more(number: int) -> str:
    return f"; and {number} more {'reason' if number == 1 else 'reasons'}" if number > 0 else ""


def _instead(refused: Sequence[Entry], text: str) -> str:
    if text != ORIGINAL and all(one.base.quantization is not None for one in refused):
        return "hold quantized cases beside their fp32 original: --perf-vs=original"
    return "give another configuration, or leave --perf-vs out"
