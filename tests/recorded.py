"""Timings of programs that did not change, recorded on a real machine: what the table of error rates resamples.

    python tests/recorded.py 900                records for so many seconds and writes tests/data/recorded_visits.npz
    python tests/recorded.py 300 "all cores"    these kinds of visits alone, and keeps the others

Fresh processes in pairs, each timing every program: a mix of torch operations and a plain Python loop. A visit has two sides of
the same code, in one process (of each in turn) or in both of a pair, timed by the stopwatch and the plan of a real run. Whatever
else ran on the machine is the noise that a real run meets. Arrays of the file, one row a visit:

    case [V] uint8, an index into `names`; kind [V] uint8, an index into KINDS; process [V] uint16, in the order they began; started_s
    [V] float64, since the first; first [V] uint8, the side timed first; rounds [V] uint16, of each side; ticks
    [sum of rounds, 2] uint32, durations in TICK_NS, visit by visit
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pytest_perfq import device, stopwatch
from pytest_perfq.trials.pace import visit_plan

PATH = Path(__file__).parent / "data" / "recorded_visits.npz"
PLAN = visit_plan()
# Rounds of a process that other tools' rules are given: each has so many.
ALONE_ROUNDS = 60
# 0.02 % of the shortest program; finer ones would double the file.
TICK_NS = 100
# Where the two sides of a visit ran: in one process or in two; these held to one core with one thread, or to all cores with a
# thread on each, as a run holds them, or with one thread on whichever core the system gave them.
KINDS = ("one process", "one core", "all cores", "any core")
HELD = KINDS[1:3]


@dataclass(frozen=True)
class Recorded:
    """The arrays of the file, rows in the order they were recorded."""

    names: tuple[str, ...]
    case: Any
    kind: Any
    process: Any
    started_s: Any
    first: Any
    rounds: Any
    ticks: Any

    @cached_property
    def visits(self) -> list[Any]:
        """Durations of each visit, ns [rounds, 2]."""
        return np.split(self.ticks * np.float64(TICK_NS), np.cumsum(self.rounds.astype(int))[:-1])

    @cached_property
    def log_ratios(self) -> Any:
        """Median over rounds of ln(b / a), [V]: the statistic of a visit."""
        logs = (np.log(one) for one in self.visits)
        return np.array([np.median(one[:, 1] - one[:, 0]) for one in logs])

    def pools(self, kind: str) -> list[Any]:
        """By program, ln ratios of all its visits, every one also with its sides exchanged: no program differs from itself, and
        which of them was called the base is chance."""
        return [self._pool(case, kind) for case in range(len(self.names))]

    def _pool(self, case: int, kind: str) -> Any:
        found = self.log_ratios[(self.case == case) & (self.kind == KINDS.index(kind))]
        return np.concatenate([found, -found])

    def visit_s(self) -> float:
        """Both sides of a visit as timed, seconds, mean over all."""
        return float(self.ticks.sum(dtype=np.float64)) * TICK_NS * 1e-9 / len(self.rounds)

    def alone(self, case: int) -> tuple[Any, Any]:
        """Every process, with one thread and free to use every core: when it was timed [P], seconds; durations
        [P, ALONE_ROUNDS], ns."""
        rows = np.flatnonzero((self.case == case) & (self.kind == KINDS.index("any core")))
        rows = rows[np.argsort(self.started_s[rows], kind="stable")]
        return np.repeat(self.started_s[rows], 2), np.concatenate([self.visits[row][:ALONE_ROUNDS].T for row in rows])

    def instead(self, other: Recorded, kinds: list[str]) -> Recorded:
        """These visits with those of some kinds taken from another recording."""
        if other.names != self.names:
            raise SystemExit(f"recorded were {self.names} and now {other.names}; record every kind")
        kept = ~np.isin(self.kind, [KINDS.index(kind) for kind in kinds])
        rest = [
            one for one, keep in zip(np.split(self.ticks, np.cumsum(self.rounds.astype(int))[:-1]), kept, strict=True) if keep
        ]
        rows = {
            name: np.concatenate([getattr(self, name)[kept], getattr(other, name)])
            for name in ("case", "kind", "process", "started_s", "first", "rounds")
        }
        return Recorded(names=self.names, ticks=np.concatenate([*rest, other.ticks]), **rows)

    @classmethod
    def load(cls) -> Recorded:
        with np.load(PATH) as file:
            return cls(tuple(file["names"].tolist()), *(file[name] for name in list(cls.__dataclass_fields__)[1:]))


def programs() -> dict[str, Callable[[], object]]:
    """Half a millisecond to two milliseconds each, at one thread of a common core."""
    import torch

    torch.manual_seed(0)
    wide, square = torch.randn(256, 512), torch.randn(512, 256)
    hidden, scores, table = torch.randn(1024, 768), torch.randn(48, 128, 128), torch.randn(30_000, 256)
    ids = torch.randint(0, 30_000, (8192,))

    def loop() -> int:
        total = 0
        for number in range(20_000):
            total += number & 7
        return total

    return {
        "matmul": lambda: wide @ square,
        "gelu": lambda: torch.nn.functional.gelu(hidden[:512]),
        "layernorm": lambda: torch.nn.functional.layer_norm(hidden, (768,)),
        "softmax": lambda: torch.softmax(scores, -1),
        "embedding": lambda: torch.nn.functional.embedding(ids, table),
        "loop": loop,
    }


def serve() -> None:
    """A process under test: reads lines `free 0 1` or `held 0 1`, `threads 1`, `warm side program`, or `block side program rounds
    settle`, and answers with durations. One that is held has its main thread on the first core, as a worker of a run has."""
    import torch

    device.keep_memory()
    sides = [
        {name: stopwatch.Local(call, stopwatch.CpuClock()) for name, call in programs().items()} for _ in range(2)
    ]  # fmt: skip
    cores, held = sorted(os.sched_getaffinity(0)), False
    gc.disable()
    with torch.inference_mode():
        print(json.dumps(list(sides[0])), flush=True)
        for line in sys.stdin:
            what, *words = line.split()
            if what in ("free", "held"):
                cores, held = [int(core) for core in words], what == "held"
                continue
            if what == "threads":
                torch.set_num_threads(int(words[0]))
                continue
            side = sides[int(words[0])][words[1]]
            if what == "block":
                print(json.dumps(side.block(int(words[2]), settle=bool(int(words[3])))), flush=True)
                continue
            device.hold(cores)
            print(json.dumps(side.warm()), flush=True)
            if held:
                device.lead(cores)


class Worker:
    def __init__(self) -> None:
        command = [sys.executable, __file__, "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@dataclass(frozen=True)
class Side:
    """One of the two of a visit, as the stopwatch takes it."""

    worker: Worker
    number: int
    name: str

    def warm(self) -> list[int]:
        self.worker.tell("warm", self.number, self.name)
        return list(self.worker.answer())

    def block(self, rounds: int, settle: bool) -> tuple[list[int], list[int]]:
        self.worker.tell("block", self.number, self.name, rounds, int(settle))
        settling, timed = self.worker.answer()
        return settling, timed


def visit(sides: list[tuple[Worker, int]], name: str, first: int) -> list[tuple[int, int]]:
    """Durations of both sides, round by round."""
    by_name: dict[str, stopwatch.Side] = {str(one): Side(*sides[one], name) for one in (first, 1 - first)}
    found = stopwatch.alternate(by_name, PLAN)
    return list(zip(found["0"].durations_ns, found["1"].durations_ns, strict=True))


def record(seconds: float, kinds: list[str]) -> Recorded:
    """Visits of these kinds, for so many seconds."""
    rows: list[tuple[int, int, int, float, int, list[tuple[int, int]]]] = []
    begin, process, names = time.time(), 0, []
    cores = sorted(os.sched_getaffinity(0))
    while time.time() - begin < seconds:
        one, other = Worker(), Worker()
        names, _ = (worker.answer() for worker in (one, other))
        # Who was started or built first is no part of what is compared: it changes from pair to pair.
        turn = -1 if process // 2 % 2 else 1
        for case, name in enumerate(names):
            first = (process // 4 + case) % 2
            for kind in kinds:
                lead = (process // 2 + case) % len(cores)
                taken = [*cores[lead:], *cores[:lead]]
                threads = len(cores) if kind == "all cores" else 1
                for worker in (one, other):
                    worker.tell("threads", threads)
                    worker.tell(*(("held", *taken[:threads]) if kind in HELD else ("free", *cores)))
                number, sides = process, [(one, 0), (other, 0)]
                if kind == "one process":
                    number, sides = (process, [(one, 0), (one, 1)]) if turn > 0 else (process + 1, [(other, 0), (other, 1)])
                rows.append((case, KINDS.index(kind), number, time.time() - begin, first, visit(sides[::turn], name, first)))
        for worker in (one, other):
            worker.close()
        process += 2
    cases, numbers, processes, started, first_side, durations = zip(*rows, strict=True)
    print(f"{len(rows)} visits of {process} processes in {time.time() - begin:.0f} s")
    return Recorded(
        names=tuple(names), case=np.array(cases, np.uint8), kind=np.array(numbers, np.uint8),
        process=np.array(processes, np.uint16), started_s=np.array(started), first=np.array(first_side, np.uint8),
        rounds=np.array([len(one) for one in durations], np.uint16),
        ticks=np.rint(np.concatenate(durations) / TICK_NS).astype(np.uint32),
    )  # fmt: skip


def main() -> None:
    kinds = [*sys.argv[2:]] or [*KINDS]
    if unknown := set(kinds) - {*KINDS}:
        raise SystemExit(f"{sorted(unknown)} are no kinds of visits; give some of {KINDS}")
    found = record(float(sys.argv[1]), kinds)
    if set(kinds) != {*KINDS}:
        found = Recorded.load().instead(found, kinds)
    PATH.parent.mkdir(exist_ok=True)
    fields = {name: np.array(getattr(found, name)) for name in Recorded.__dataclass_fields__}
    np.savez_compressed(PATH, **fields)
    print(f"{len(found.rounds)} visits: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        main()
