"""The parent's end of one worker: a process that measures in another environment, asked by JSON lines.

Every request has a time limit; a worker that dies, hangs or answers nonsense is one sentence. What it answers is
pytest_perfq.worker's.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

from pytest_perfq.errors import DataError, PerfqError, ProgramError, TrialError, Unavailable, UsageError
from pytest_perfq.trials.environment import Environment

# Of the lines that pass between the two; a worker of another number is another version's.
PROTOCOL = 4
# Imports of torch and transformers from a cold disk.
START_S = 120.0
# Building may train, export and quantize.
PREPARE_S = 1800.0
# A block of calls that lasts longer than this hangs.
BLOCK_S = 300.0
# A worker that was asked to end gets this long before it is killed.
END_S = 5.0
# How often it is looked whether a silent worker still lives.
LOOK_S = 1.0
_KINDS: Mapping[str, type[PerfqError]] = {
    "usage": UsageError,
    "data": DataError,
    "unavailable": Unavailable,
    "program": ProgramError,
}


class Worker:
    """One process, which starts at once and is ready within the context. Every request may raise TrialError, and what the
    other side raised."""

    def __init__(self, environment: Environment, given: Mapping[str, Any]) -> None:
        """given: how to measure, see pytest_perfq.worker.Given."""
        self.environment = environment
        self.given = given
        self._errors = tempfile.TemporaryFile()
        self._rest = b""
        try:
            self._process = subprocess.Popen(
                [environment.python, "-m", "pytest_perfq.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=environment.folder,
                env=environment.variables_of_process(),
                # A Ctrl-C is the parent's to handle, and what the worker starts can be ended with it.
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise TrialError(
                f"{environment.label}: {environment.python} cannot be started ({error.strerror}); give the path of a Python"
            ) from error
        assert self._process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self.post("hello")

    def __enter__(self) -> Self:
        try:
            self.facts = self._greet()
        except BaseException:
            self.close(at_once=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        # Nobody waits for what was asked last.
        self.close(at_once=kind is not None and issubclass(kind, KeyboardInterrupt))

    def ask(self, do: str, limit_s: float, **fields: Any) -> Any:
        """The answer to one request. Raises TrialError for a worker that died or took longer than `limit_s`, and the error
        that the request met with, as this process would have raised it."""
        self.post(do, **fields)
        return self.answer(do, limit_s)

    def post(self, do: str, **fields: Any) -> None:
        """Sends a request whose answer is taken later: two workers then work at once."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is told below, with what it said last
            self._process.stdin.write(json.dumps({"do": do, **fields}).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, do: str, limit_s: float) -> Any:
        """The answer to the request posted last, as `ask` has it."""
        line = self._line(do, limit_s)
        try:
            answer = json.loads(line)
        except ValueError:
            raise TrialError(
                f"the worker of {self.environment.label} answered {line[:80]!r} to {do!r}, which is not JSON; "
                "see what writes to its standard output"
            ) from None
        if "error" not in answer:
            return answer["answer"]
        raise _KINDS.get(answer["kind"], TrialError)(f"{self.environment.label}: {answer['error']}")

    def close(self, at_once: bool = False) -> None:
        """Ends the process, gently if it can be; nothing happens the second time."""
        if self._errors.closed:
            return
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        try:
            self._process.wait(0.0 if at_once else END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also of a second Ctrl-C
            self._kill()
            self._selector.close()
            self._errors.close()

    def _kill(self) -> None:
        """Ends it with whatever it has started; nothing happens where it has ended by itself."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _greet(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = self.answer("hello", START_S)
        except TrialError as error:
            if "No module named" in self._said():
                raise TrialError(
                    f"{self.environment.label}: {self.environment.python} has no pytest-perfq that takes part in trials "
                    f"({self._said()}); install it there"
                ) from error
            raise
        if facts["protocol"] != PROTOCOL:
            raise TrialError(
                f"{self.environment.label} has pytest-perfq {facts['version']}, which speaks version {facts['protocol']} of "
                f"trials, and this one speaks {PROTOCOL}; install one version in both"
            )
        self.ask("begin", START_S, **self.given)
        return facts

    def _line(self, do: str, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            left = end - time.monotonic()
            if left <= 0:
                self._kill()
                raise TrialError(
                    f"the worker of {self.environment.label} did not answer {do!r} within {limit_s:g} s and was ended; "
                    "see whether the case hangs there"
                )
            ready = self._selector.select(min(left, LOOK_S))
            # Of a dead worker a child of its own may hold the pipe open: no end of file comes, nor anything else.
            if not ready and self._process.poll() is None:
                continue
            ready = ready or self._selector.select(0.0)
            data = os.read(self._process.stdout.fileno(), 1 << 20) if ready else b""
            if not data:
                raise TrialError(f"the worker of {self.environment.label} {self._fate()} while asked to {do!r}{self._last()}")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _fate(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):  # closed its pipe, and goes on
            self._process.wait(END_S)
        if self._process.poll() is None:
            self._kill()
            return "closed its standard output"
        status = self._process.returncode
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _said(self) -> str:
        """The last line it wrote to its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _last(self) -> str:
        said = self._said()
        return f": {said}" if said else "; it said nothing"
