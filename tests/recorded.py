"""Timings of programs that did not change, recorded on a real machine: what the table of error rates resamples.

    python tests/recorded.py 540        records for so many seconds and writes tests/data/recorded_visits.npz

Fresh processes in pairs, with one thread, each timing every program: a mix of torch operations and a plain Python loop. A visit
has two sides of the same code, in one process (of each in turn) or in both of a pair, alternated in blocks AB BA with one
discarded call at each switch; once free to use every core and once with both sides on one. Whatever else ran on the machine is
the noise that a real run meets. Arrays of the file, one row a visit:

    case [V] uint8, an index into `names`; two [V] bool, whether the sides were two processes of a pair; pinned [V] bool, whether both
    had one core; process [V] uint16, in the order they began; started_s [V] float64, since the first; first [V] uint8, the side
    timed first; durations_ns [V, 2, ROUNDS] uint32
"""

from __future__ import annotations

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

PATH = Path(__file__).parent / "data" / "recorded_visits.npz"
ROUNDS, BLOCK = 40, 4
WARMUP_CALLS = 10


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
    durations_ns: Any

    @cached_property
    def log_ratios(self) -> Any:
        """Median over rounds of ln(b / a), [V]: the statistic of a visit."""
        logs = np.log(self.durations_ns.astype(np.float64))
        return np.median(logs[:, 1] - logs[:, 0], axis=1)

    def pool(self, case: int, *, two: bool, pinned: bool) -> Any:
        """ln ratios of all visits of a program, every one also with its sides exchanged: no program differs from itself, and
        which of them was called the base is chance."""
        found = self.log_ratios[(self.case == case) & (self.two == two) & (self.pinned == pinned)]
        return np.concatenate([found, -found])

    def round_s(self, case: int) -> float:
        """A round of a program, seconds."""
        return float(np.median(self.durations_ns[self.case == case])) * 1e-9

    def alone(self, case: int) -> tuple[Any, Any]:
        """Every process by itself, free to use every core: when it was timed [P], seconds; durations [P, ROUNDS], ns."""
        rows = np.flatnonzero((self.case == case) & ~self.two & ~self.pinned)
        rows = rows[np.argsort(self.started_s[rows], kind="stable")]
        return self.started_s[rows], self.durations_ns[rows, 0]

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
    """A process under test: reads lines `cores 0 1`, or `side program count` and answers with the durations of so many calls."""
    sides = [programs(), programs()]
    with __import__("torch").inference_mode():
        print(*sides[0], flush=True)
        for line in sys.stdin:
            words = line.split()
            if words[0] == "cores":
                os.sched_setaffinity(0, {int(core) for core in words[1:]})
                continue
            call, durations = sides[int(words[0])][words[1]], []
            for _ in range(int(words[2])):
                start = time.perf_counter_ns()
                call()
                durations.append(time.perf_counter_ns() - start)
            print(*durations, flush=True)


class Worker:
    def __init__(self) -> None:
        command = [sys.executable, __file__, "serve"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words: object) -> None:
        assert self.process.stdin is not None
        print(*words, file=self.process.stdin, flush=True)

    def time(self, side: int, name: str, count: int) -> list[int]:
        self.ask(side, name, count)
        return [int(one) for one in self.answer()]

    def answer(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


Side = tuple[Worker, int]


def visit(sides: list[Side], name: str, first: int) -> list[list[int]]:
    """Durations of both sides, ROUNDS each: blocks A B, B A, A B ..."""
    found: list[list[int]] = [[], []]
    for worker, side in sides:
        worker.time(side, name, WARMUP_CALLS)
    order = [first, 1 - first]
    for _ in range(ROUNDS // BLOCK):
        for one in order:
            worker, side = sides[one]
            found[one] += worker.time(side, name, BLOCK + 1)[1:]
        order.reverse()
    return found


def record(seconds: float) -> None:
    rows: list[tuple[int, bool, bool, int, float, int, list[list[int]]]] = []
    begin, process, names = time.time(), 0, []
    cores = sorted(os.sched_getaffinity(0))
    while time.time() - begin < seconds:
        one, other = Worker(), Worker()
        names, _ = (worker.answer() for worker in (one, other))
        # Who was started or built first is no part of what is compared: it changes from pair to pair.
        turn = -1 if process // 2 % 2 else 1
        for case, name in enumerate(names):
            first = (process // 4 + case) % 2
            for pinned in (False, True):
                for worker in (one, other):
                    worker.ask("cores", *([cores[(process // 2 + case) % len(cores)]] if pinned else cores))
                alone: list[tuple[int, list[Side]]] = [
                    (process, [(one, 0), (one, 1)][::turn]), (process + 1, [(other, 0), (other, 1)][::turn])
                ]  # fmt: skip
                for number, sides in (*alone, (process, [(one, 0), (other, 0)][::turn])):
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
        durations_ns=np.array(durations, np.uint32),
    )  # fmt: skip
    print(f"{len(rows)} visits of {process} processes in {time.time() - begin:.0f} s: {PATH.stat().st_size} bytes")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        record(float(sys.argv[1]))
