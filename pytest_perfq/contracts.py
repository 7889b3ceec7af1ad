"""What a task, a model, a backend and a program promise each other. Read this before adding one.

    _declared.check(case)             raises UsageError  while collecting, before either is imported (see registry.declared)
    task.load_model(case, resources)  -> Model           once a model
    backend.refuses(case)             -> reasons         before anything is built
    backend.build(case, model, ...)   -> Program         once a (model, backend, precision, quantization)
    task.evaluate(predict, ...)       -> Outcomes        accuracy
    program.feed / run / fetch                           latency: only `run` is timed

Imports neither torch nor transformers: a Model carries them as opaque objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_perfq.core.case import Case
from pytest_perfq.core.measurement import Outcomes, Score

if TYPE_CHECKING:
    import numpy as np

Arrays = Mapping[str, "np.ndarray[Any, Any]"]
# What an evaluation calls: a batch of int64 arrays [batch, seq] in, logits by output name as float32 arrays out.
Predict = Callable[["Batch"], Arrays]


@dataclass(frozen=True, slots=True)
class Batch:
    """One padded input batch on the host.

    arrays: input name (input_ids, attention_mask and, where the model takes it, token_type_ids) -> int64 [batch, seq];
    rows are padded on the right with mask 0. lengths: real tokens of each row, [batch].
    """

    arrays: Arrays
    lengths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.arrays["input_ids"].shape
        return int(rows), int(columns)


@dataclass(frozen=True, slots=True)
class Resources:
    """Where a run finds things and what it is allowed to do.

    data: a mirror folder `DIR/<name>/<split>.parquet`, or None for the hub. cache: folder for checkpoints, exports and
    generated data, keyed by content. pickle: whether weights may load from pickle files. threads: of every CPU backend.
    progress: called with one line a person reads ("training synthetic:bert on squad, 12 s").
    """

    cache: Path
    data: Path | None = None
    pickle: bool = False
    threads: int = 1
    progress: Callable[[str], None] = field(default=lambda line: None)


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded fp32 model with its head, in eval mode on the CPU, attention 'eager'.

    module: transformers.PreTrainedModel. tokenizer: PreTrainedTokenizerFast. config: PretrainedConfig. key: hex digest of
    weights and configuration (what caches are keyed by). inputs: names in the order of the module's forward. outputs: logit
    names in the order the head gives them ('start_logits', 'end_logits', or 'logits'). max_positions: longest sequence.
    vocab_size: of the embedding. bytes: of the weights. revision: the commit at the hub it came from, None if from elsewhere.
    """

    module: Any
    tokenizer: Any
    config: Any
    key: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_positions: int
    vocab_size: int
    bytes: int
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """A split of a data set as rows in the hub's columns.

    rows: one mapping an example. key: hex digest of their content. labels: class names where the data set has classes.
    revision: the commit at the hub they came from, None if from elsewhere.
    """

    name: str
    split: str
    rows: Sequence[Mapping[str, Any]]
    key: str
    labels: tuple[str, ...] = ()
    revision: str | None = None


class Program(Protocol):
    """A model made ready on one device. `facts`, `bytes` and `load_ns` are known once it is built. One that allocates a GPU's
    memory without PyTorch says so by `own_allocator = True`: its peak is unknown then."""

    facts: dict[str, str | int | float | bool]
    bytes: int

    def feed(self, batch: Batch) -> Any:
        """The batch where the program wants it (device tensors, bound buffers). Not timed."""

    def run(self, feed: Any) -> Any:
        """One forward pass. Timed. On cuda it may return before the device is done."""

    def fetch(self, output: Any) -> Arrays:
        """Logits by the model's output names as float32 host arrays, waiting for the device if need be. Not timed."""

    def synchronize(self) -> None:
        """Wait until the device has done everything asked of it; returns at once on cpu."""

    def close(self) -> None:
        """Give memory back. Nothing may be called afterwards."""


class Profiled(Program, Protocol):
    """A program that can say where its time goes. Whether it is one is asked only where a regression is to be explained."""

    def profile(self, feed: Any, calls: int) -> Mapping[str, tuple[int, int]]:
        """What so many forward passes are made of: operator or kernel -> (calls, nanoseconds that it itself took), over all of
        them. Names are the same in every process. Never slows a `run` that comes later. Raises ProgramError."""


class Recorded(Program, Protocol):
    """A program that makes more of a feed that is run many times, such as a CUDA graph of exactly its shape and buffers.
    Asked for where a call is timed; elsewhere a feed is run once, and the timed output is held against that."""

    def record(self, feed: Any) -> None:
        """Every later `run` of this feed is a replay. Takes as long as it needs. Raises PerfqError where it cannot: never runs
        as before instead."""


class Refilled(Program, Protocol):
    """A program that can be given other words without another feed. Asked for between timed calls: what is kept for a feed, by
    its name or its address, then shows as the logits of other words. A program without it is fed anew."""

    def refill(self, feed: Any, batch: Batch) -> None:
        """Writes the ids of a batch, which alone differ from what was fed, to where the feed lies; that may be the memory of
        the batch that it was made of. Not timed; done when it returns. A recorded feed stays recorded."""


class Lack(str):
    """A reason for refusing that is this machine's and not the case's: something could be installed, or another machine has
    it. A plain reason holds everywhere."""

    __slots__ = ()


class Backend(Protocol):
    """Makes programs. One file in backends/ with a constant BACKEND, or an entry point in `perfq.backends`."""

    name: str

    def refuses(self, case: Case) -> list[str]:
        """Why this case cannot be built here, one sentence each; empty when it can. Cheap: builds and loads nothing. What
        only this machine is to blame for is a Lack: then the case was left unmeasured, and fails under --perf-strict.
        Unknown options of `case.backend` raise UsageError instead. Whoever quantizes looks at every field of the quantization:
        what is not refused is what the program has to be."""

    def build(self, case: Case, model: Model, resources: Resources, calibration: Callable[[], Iterator[Batch]]) -> Program:
        """The program of a case that was not refused. Raises BuildError. calibration: gives batches of real examples of
        the calibration split, `case.quantization.calibration_samples` in all; called only by static quantization."""


class Task(Protocol):
    """What a model is asked to do and how it is scored. One file in tasks/ with a constant TASK."""

    name: str
    metrics: tuple[str, ...]  # built in; the first is the primary one

    def load_model(self, case: Case, resources: Resources) -> Model:
        """The model with this task's head. Raises Unavailable (hub), UsageError (head does not fit)."""

    def examples(self, case: Case, split: str, resources: Resources) -> Examples:
        """All examples of a split. Raises Unavailable (hub), DataError (columns missing)."""

    def batches(self, case: Case, model: Model, examples: Examples, batch_size: int) -> Iterator[Batch]:
        """Encoded batches of the examples in order, as `evaluate` feeds them; for calibration."""

    def evaluate(self, case: Case, model: Model, examples: Examples, predict: Predict, batch_size: int) -> Outcomes:
        """Predictions, margins and per-example columns for every example. Raises ProgramError for logits that are not
        finite or not of the promised shape."""

    def scores(self, case: Case, examples: Examples, outcomes: Outcomes) -> tuple[Score, ...]:
        """The metrics of `case.metrics` from the outcomes, the first primary; where it names none, the task's own
        (`_declared.metrics`)."""

    def token_lengths(self, case: Case, model: Model, examples: Examples) -> tuple[int, ...]:
        """Real tokens of each encoded example, for latency batches with the data set's own lengths."""
