"""Watches the machine while a visit goes on, from a process of its own, so that what is timed pays nothing for it.

    sampler.begin(device="cpu", threads=2)
    ...                                          the visit
    conditions = sampler.end()

A Sampler never raises for what it cannot find out: the Conditions say so, and the rule in core.conditions decides what that
means. Knows no case and no runner.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from pytest_perfq.core.conditions import Conditions
from pytest_perfq.core.readings import Reading, summarize

# For an answer of the process: the first one on a GPU waits for the driver, which takes seconds where nothing keeps it loaded.
ANSWER_S = 20.0
CLOSE_S = 2.0
PACKAGE = Path(__file__).resolve().parents[1]
# The packages without their own modules, which would load much that readings need not wait for.
BOOT = """
import sys, types
package, libraries = sys.argv[1:]
for name in ("", ".core", ".device"):
    module = types.ModuleType("pytest_perfq" + name)
    module.__path__ = [package + name.replace(".", "/")]
    sys.modules[module.__name__] = module
sys.path += [libraries] if libraries else []
from pytest_perfq.device.probing import main
main()
"""


class Sampler(Protocol):
    """Watches one visit at a time."""

    def begin(self, *, device: str, threads: int, pid: int | None = None) -> None:
        """A visit on 'cpu' or 'cuda' begins. threads: of the visit that compute at once. pid: of the process whose tree is
        the visit's own (None: this one); everything else on the machine is somebody else's."""

    def end(self) -> Conditions:
        """The visit has ended. What it was like."""

    def close(self) -> None:
        """Ends what the sampler runs. It may be used again, and then starts anew."""


class _Lost(Exception):
    """The process cannot answer, and why."""


class SamplerProcess:
    """One small process a run, asleep between visits. It ends with this process, however that ends.

    command: what is started instead, in tests. answer_s: how long an answer may take.
    """

    def __init__(self, command: Sequence[str] | None = None, answer_s: float = ANSWER_S) -> None:
        self._command = list(command) if command is not None else None
        self._answer_s = answer_s
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._pending = b""
        self._owner = 0
        self._lost: str | None = "no visit was begun"

    @property
    def pid(self) -> int | None:
        """Of the process; None while none runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Starts the process ahead of the first visit, where it is not running, without waiting for it. Raises OSError."""
        if self._owner != os.getpid():
            self._process = None  # a fork has its parent's: not ours to speak with, or to end
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._owner, self._pending = os.getpid(), b""
        # In a file: what nobody reads would fill a pipe.
        self._complaints = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            self._command or command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            start_new_session=True,  # Ctrl-C is for the run, which then closes the pipe
        )

    def begin(self, *, device: str, threads: int, pid: int | None = None) -> None:
        """See Sampler. Returns once the first reading is taken."""
        order = {"do": "begin", "pid": os.getpid() if pid is None else pid, "threads": threads, "cuda": device != "cpu"}
        try:
            self.start()
            self._ask(order)
            self._lost = None
        except OSError as error:
            self._lost = f"the sampler process could not be started: {error}"
        except _Lost as error:
            self._lost = str(error)

    def end(self) -> Conditions:
        """See Sampler."""
        if self._lost is not None:
            return Conditions(unknown=self._lost)
        self._lost = "no visit was begun"
        try:
            readings: list[Reading] = self._ask({"do": "end"})
        except _Lost as error:
            return Conditions(unknown=str(error))
        return summarize(readings)

    def close(self) -> None:
        """See Sampler."""
        process, self._process = self._process, None
        self._lost = "no visit was begun"
        if process is None or self._owner != os.getpid():
            return
        assert process.stdin is not None and process.stdout is not None and self._complaints is not None
        try:
            process.stdin.close()  # that is how it is told
        except OSError:
            pass  # it has ended already
        try:
            process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._complaints.close()

    def _ask(self, order: dict[str, Any]) -> Any:
        """The readings that the process answers an order with."""
        process = self._process
        assert process is not None and process.stdin is not None
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            return json.loads(self._line(process))["readings"]
        except TimeoutError:
            reason = f"the sampler process did not answer within {self._answer_s:g} s"
            process.kill()
        except (OSError, EOFError):
            reason = self._ended(process)
        except (ValueError, KeyError) as error:
            reason = f"the sampler process gave an answer that is none ({error})"
            process.kill()
        except BaseException:
            # Ctrl-C between question and answer: the answer must not be taken for the next one's.
            self.close()
            raise
        self.close()
        raise _Lost(reason)

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        until = time.monotonic() + self._answer_s
        while b"\n" not in self._pending:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise TimeoutError
            data = os.read(process.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _ended(self, process: subprocess.Popen[bytes]) -> str:
        """How the process came to its end, in one sentence."""
        assert self._complaints is not None
        try:
            code = process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            return "the sampler process closed its pipe and went on"
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").strip().splitlines()
        return f"the sampler process {how}" + (f": {said[-1]}" if said else "")


def command() -> list[str]:
    """What starts the process: the interpreter without site-packages, which are slow to set up, but with NVML's bindings."""
    nvml = importlib.util.find_spec("pynvml")
    libraries = "" if nvml is None or nvml.origin is None else os.path.dirname(nvml.origin)
    return [sys.executable, "-I", "-S", "-c", BOOT, str(PACKAGE), libraries]


class Recorded:
    """Replays readings, a list of them a visit, and the last list again for every visit after them. An exception among them
    is a sampler that could not tell, with its text as the reason."""

    def __init__(self, visits: Iterable[Sequence[Reading] | Exception]) -> None:
        self._visits = deque(visits)
        self.begun = 0

    def begin(self, *, device: str, threads: int, pid: int | None = None) -> None:
        self.begun += 1

    def end(self) -> Conditions:
        found = self._visits[0] if len(self._visits) == 1 else self._visits.popleft()
        return Conditions(unknown=str(found)) if isinstance(found, Exception) else summarize(found)

    def close(self) -> None:
        pass


class Blind:
    """Where no visit can be watched: every visit's conditions say why."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def begin(self, *, device: str, threads: int, pid: int | None = None) -> None:
        pass

    def end(self) -> Conditions:
        return Conditions(missing=(self._reason,))

    def close(self) -> None:
        pass


def sampler() -> Sampler:
    """The sampler of this machine."""
    if os.name != "posix":
        return Blind(f"visits cannot be watched on {sys.platform}: clocks and what other processes take are unknown")
    found = SamplerProcess()
    try:
        found.start()
    except OSError:
        pass  # the first visit says so
    return found
