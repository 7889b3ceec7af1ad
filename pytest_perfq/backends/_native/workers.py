"""The native encoder over several processes of this machine: started with their weights, fed by pipes, ended by `close`.

Process 0 to tp * pp - 1 are all children; this process computes nothing and stays outside their group, so that other
programs here may have groups of their own. Knows how processes live and die, not how a layer is split.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from pytest_perfq.backends._native.machine import Machine
from pytest_perfq.backends._native.program import moved_to
from pytest_perfq.contracts import Resources
from pytest_perfq.errors import BuildError, ProgramError
from pytest_perfq.kernels import encoder, packing, parallel, weights

# A child imports torch before it answers: seconds alone, a minute beside many others.
START_LIMIT_S = 300.0
END_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Start:
    """What a process is told at its start. store: file in which the processes find each other."""

    place: parallel.Place
    whole: weights.Weights
    recipe: packing.Recipe
    threads: int
    cache: Path
    store: str
    machine: Machine


class Workers:
    """machine: where each computes; on cuda process N has GPU N. Raises BuildError when a process does not come up."""

    def __init__(
        self, whole: weights.Weights, recipe: packing.Recipe, tp: int, pp: int, resources: Resources, machine: Machine
    ) -> None:
        count = tp * pp
        resources.progress(f"starting {count} processes for tp={tp} and pp={pp}")
        context = torch.multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="perfq-")
        self._processes, self._pipes = [], []
        self._last = range(count)[-tp]  # the first shard of the last stage, which sends the logits
        self._fed: encoder.Feed | None = None
        store = str(Path(self._folder.name) / "store")
        for rank in range(count):
            place = parallel.Place(rank, tp, pp)
            own, own_recipe = parallel.part(whole, recipe, place)
            start = Start(place, own, own_recipe, max(1, resources.threads // count), resources.cache, store, machine)
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(start, theirs), name=f"perfq native {rank}", daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._pipes.append(ours)
        try:
            self.bytes = sum(self._answer(rank, START_LIMIT_S) for rank in range(count))
        except ProgramError as error:
            raise BuildError(str(error)) from error

    def forward(self, feed: encoder.Feed) -> torch.Tensor:
        """Logits of a batch. A batch is sent once however often it is run. Raises ProgramError when a process fails."""
        message = None if feed is self._fed else tuple(feed)
        for rank, pipe in enumerate(self._pipes):
            try:
                pipe.send(("run", message))
            except OSError:
                raise self._failed(rank, self._death(rank)) from None
        self._fed = feed
        for rank in range(len(self._pipes)):
            answer = self._answer(rank)
            if rank == self._last:
                logits = torch.from_numpy(answer)
        return logits

    def _answer(self, rank: int, limit_s: float | None = None) -> Any:
        """What a process says next. Any process that dies meanwhile, or a failure it tells of, ends them all."""
        pipe = self._pipes[rank]
        ready = connection.wait([pipe, *(process.sentinel for process in self._processes)], limit_s)
        dead = [other for other, process in enumerate(self._processes) if process.sentinel in ready]
        if not ready:
            raise self._failed(rank, f"said nothing for {limit_s:g} s")
        if pipe not in ready:
            raise self._failed(dead[0], self._told(dead[0]) or self._death(dead[0]))
        kind, value = self._receive(rank)
        if kind == "failed":
            raise self._failed(*self._cause(rank, value))
        return value

    def _cause(self, rank: int, how: str) -> tuple[int, str]:
        """Who began: a process that was killed makes the others fail, with a lost connection to tell of."""
        killed = [other for other, process in enumerate(self._processes) if (process.exitcode or 0) < 0]
        return (killed[0], self._death(killed[0])) if killed else (rank, how)

    def _receive(self, rank: int) -> tuple[str, Any]:
        try:
            kind, value = self._pipes[rank].recv()
        except (EOFError, OSError):
            return "failed", self._death(rank)
        return kind, value

    def _told(self, rank: int) -> str | None:
        """The failure that a dead process told of before it ended."""
        if not self._pipes[rank].poll():
            return None
        kind, value = self._receive(rank)
        return str(value) if kind == "failed" else None

    def _death(self, rank: int) -> str:
        self._processes[rank].join(END_LIMIT_S)
        return f"ended with exit status {self._processes[rank].exitcode}"

    def _failed(self, rank: int, how: str) -> ProgramError:
        count = len(self._processes)
        self._end(0.0)  # the others wait for the one that failed, and hear nothing else
        return ProgramError(
            f"process {rank} of {count} of the native encoder {how}; run it with tp and pp 1 to see whether it lasts"
        )

    def close(self) -> None:
        """Ends the processes. May be called again."""
        self._end(END_LIMIT_S)

    def _end(self, patience_s: float) -> None:
        """Asks the processes to end, and makes those that do not in time."""
        for pipe in self._pipes:
            try:
                pipe.send(("end", None))
            except OSError:
                continue  # it is dead already
        for process in self._processes:
            process.join(patience_s)
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._processes = [], []
        self._folder.cleanup()


def work(start: Start, pipe: Any) -> None:
    """A process: makes its part, says how many bytes it holds, and answers until it is told to end."""
    try:
        mine = _join(start)
        pipe.send(("ready", mine.weights.bytes))
        feed: encoder.Feed | None = None
        while True:
            kind, message = pipe.recv()
            if kind == "end":
                break
            if message is not None:
                feed = encoder.Feed(*message)
                feed = moved_to(start.machine.place(), feed) if start.machine.cuda else feed
            assert feed is not None
            with torch.inference_mode():
                logits = parallel.forward(mine, feed, start.place)
            last = logits is not None and start.place.shard == 0
            pipe.send(("done", logits.float().cpu().numpy() if last and logits is not None else None))
    except (EOFError, KeyboardInterrupt):
        return  # the one who asked is gone
    except Exception as error:  # told to the one who asked, who makes a sentence of it
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        pipe.send(("failed", f"failed: {line}"))
        os._exit(1)  # gloo's threads, left by a process that died, would abort an ordinary exit with noise of their own
    dist.destroy_process_group()


def _join(start: Start) -> encoder.Encoder:
    torch.set_num_threads(start.threads)
    if sys.platform.startswith("linux"):
        # All are on this machine; gloo would otherwise look up the host's name, which need not lead anywhere.
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    place, machine = start.place, start.machine
    if machine.cuda:
        torch.cuda.set_device(place.rank)
        torch.backends.cuda.matmul.allow_tf32 = machine.precision == "tf32"
    dist.init_process_group(
        machine.communication, init_method=f"file://{start.store}", rank=place.rank, world_size=place.tp * place.pp
    )
    return machine.encoder(start.whole, start.recipe, start.cache, lambda line: None, parallel.reducer(place))
