"""The worker's end of the pipe: one JSON line a request, one an answer, in their order. Knows no request."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from typing import Any, TextIO

# What a request may still be at when its parent is gone, seconds: enough to free models and end.
GRACE_S = 3.0


class Exchange:
    """Requests of the parent as they come. What is given answers the one that was taken last: a request may so be answered
    before all that follows from it is done."""

    def __init__(self) -> None:
        # Libraries print; the channel must hold nothing but answers.
        self._channel: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._lines = _lines()
        self._back: list[dict[str, Any]] = []
        self._over = False
        self.pending = False

    def take(self) -> dict[str, Any] | None:
        """The next request; None where the parent has ended."""
        if not self._back and not self._over:
            line = self._lines.get()
            self._over = line is None
            if line is not None:
                self._back.append(json.loads(line))
        self.pending = bool(self._back)
        return self._back.pop() if self._back else None

    def put_back(self, request: dict[str, Any]) -> None:
        """It is taken again next, by somebody else."""
        self._back.append(request)
        self.pending = False

    def give(self, answer: dict[str, Any]) -> None:
        """Answers the request taken last, unless that was done or it was put back."""
        if self.pending:
            self._channel.write(json.dumps(answer) + "\n")
            self._channel.flush()
            self.pending = False


def _lines() -> queue.SimpleQueue[str | None]:
    """Lines of the parent as they come. Should it go away in the middle of a request, so does this process: a training that
    nobody waits for would hold the machine for hours."""
    source = os.fdopen(os.dup(0), encoding="utf-8")
    # Code under test that asks for input must get none of the parent's.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            lines.put(line)
        lines.put(None)
        time.sleep(GRACE_S)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # and whatever the request has started
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    return lines
