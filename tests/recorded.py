"""Timings of programs that did not change, recorded on a real machine: what the table of error rates resamples.

    python tests/recorded.py 540        records for so many seconds and writes tests/data/recorded_visits.npz

Fresh processes in pairs, with one thread, each timing every program: a mix of torch operations and a plain Python loop. A visit
has two sides of the same code, in one process (of each in turn) or in both of a pair, timed by the stopwatch and the plan of a real
run; two processes once free to use every core and once on one. Whatever else ran on the machine is the noise that a real run
meets. Arrays of the file, one row a visit:

    case [V] uint8, an index into `names`; two [V] bool, whether the sides were two processes of a pair; pinned [V] bool, whether both
    had one core; process [V] uint16, in the order they began; started_s [V] float64, since the first; first [V] uint8, the side
    timed first; rounds [V] uint16, of each side; durations_ns [sum of rounds, 2] uint32, visit by visit
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
from pytest_perfq.trials.passes import SIDE_S, VISIT_PRECISION, VISIT_S

PATH = Path(__file__).parent / "data" / "recorded_visits.npz"
PLAN = stopwatch.VisitPlan(VISIT_S, VISIT_PRECISION, side_s=SIDE_S)
# Rounds of a process that other tools' rules are given: each has so many.
ALONE_ROUNDS = 60


@dataclass(frozen=True)
class Recorded:
    """The arrays of the file, rows in the order they were recorded."""

    names: tuple[str, ...]
    case: Any
    two: Any
    pinned: Any
    process: Any
    started_s: Any
    first: Any
    rounds: Any
    durations_ns: Any

    @cached_property
    def visits(self) -> list[Any]:
        """Durations of each visit, [rounds, 2]."""
        return np.split(self.durations_ns, np.cumsum(self.rounds.astype(int))[:-1])

    @cached_property
    def log_ratios(self) -> Any:
        """Median over rounds of ln(b / a), [V]: the statistic of a visit."""
        logs = (np.log(one.astype(np.float64)) for one in self.visits)
        return np.array([np.median(one[:, 1] - one[:, 0]) for one in logs])

    def pool(self, case: int, *, two: bool, pinned: bool) -> Any:
        """ln ratios of all visits of a program, every one also with its sides exchanged: no program differs from itself, and
        which of them was called the base is chance."""
        found = self.log_ratios[(self.case == case) & (self.two == two) & (self.pinned == pinned)]
        return np.concatenate([found, -found])

    def round_s(self, case: int) -> float:
        """A round of a program, seconds."""
        return float(np.median([np.median(self.visits[row]) for row in np.flatnonzero(self.case == case)])) * 1e-9

    def visit_s(self) -> float:
        """Both sides of a visit as timed, seconds, mean over all."""
        return float(self.durations_ns.sum(dtype=np.float64)) * 1e-9 / len(self.rounds)

    def alone(self, case: int) -> tuple[Any, Any]:
        """Every process by itself, free to use every core: when it was timed [P], seconds; durations [P, ALONE_ROUNDS], ns."""
        rows = np.flatnonzero((self.case == case) & ~self.two & ~self.pinned)
        rows = rows[np.argsort(self.started_s[rows], kind="stable")]
        return self.started_s[rows], np.array([self.visits[row][:ALONE_ROUNDS, 0] for row in rows])

    @classmethod
    def load(cls) -> Recorded:
        with np.load(PATH) as file:
            return cls(tuple(file["names"].tolist()), *(file[name] for name in list(cls.__dataclass_fields__)[1:]))


def programs() -> dict[str, Callable[[], object]]:
    """Half a millisecond to two milliseconds each, at one thread of a common core."""
    import torch

    torch.set_num_threads(1)
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
    """A process under test: reads lines `cores 0 1`, `warm side program`, or `block side program rounds settle`, and answers with
    durations."""
    device.keep_memory()
    sides = [
        {name: stopwatch.Local(call, stopwatch.CpuClock()) for name, call in programs().items()} for _ in range(2)
    ]  # fmt: skip
    gc.disable()
    with __import__("torch").inference_mode():
        print(json.dumps(list(sides[0])), flush=True)
        for line in sys.stdin:
            what, *words = line.split()
            if what == "cores":
                os.sched_setaffinity(0, {int(core) for core in words})
                continue
            side = sides[int(words[0])][words[1]]
            answer = side.warm() if what == "warm" else side.block(int(words[2]), settle=bool(int(words[3])))
            print(json.dumps(answer), flush=True)


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


def record(seconds: float) -> None:
    rows: list[tuple[int, bool, bool, int, float, int, list[tuple[int, int]]]] = []
    begin, process, names = time.time(), 0, []
    cores = sorted(os.sched_getaffinity(0))
    while time.time() - begin < seconds:
        one, other = Worker(), Worker()
        names, _ = (worker.answer() for worker in (one, other))
        # Who was started or built first is no part of what is compared: it changes from pair to pair.
        turn = -1 if process // 2 % 2 else 1
        for case, name in enumerate(names):
            first = (process // 4 + case) % 2
            pair = (process, [(one, 0), (other, 0)][::turn])
            alone = [(process, [(one, 0), (one, 1)][::turn]), (process + 1, [(other, 0), (other, 1)][::turn])]
            for pinned, visits in ((False, [*alone, pair]), (True, [pair])):
                for worker in (one, other):
                    worker.tell("cores", *([cores[(process // 2 + case) % len(cores)]] if pinned else cores))
                for number, sides in visits:
                    start, two = time.time() - begin, sides[0][0] is not sides[1][0]
                    rows.append((case, two, pinned, number, start, first, visit(sides, name, first)))
        for worker in (one, other):
            worker.close()
        process += 2
    case, two_sides, on_one_core, processes, started, first_side, durations = zip(*rows, strict=True)
    PATH.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        PATH, names=np.array(names), case=np.array(case, np.uint8), two=np.array(two_sides), pinned=np.array(on_one_core),
        process=np.array(processes, np.uint16), started_s=np.array(started), first=np.array(first_side, np.uint8),
        rounds=np.array([len(one) for one in durations], np.uint16), durations_ns=np.concatenate(durations).astype(np.uint32),
    )  # fmt: skip
    print(f"{len(rows)} visits of {process} processes in {time.time() - begin:.0f} s: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        record(float(sys.argv[1]))
