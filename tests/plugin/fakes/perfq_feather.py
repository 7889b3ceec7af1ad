"""A task and a backend without any framework, so that a worker starts in a second: the model is the function `forward` of the
module `layers` of whatever project is tested, which is what its revisions differ by."""

import importlib
import os
import signal
import sys
import time

import numpy as np

from pytest_perfq.contracts import Model
from pytest_perfq.core.options import Option, read
from pytest_perfq.errors import BuildError, Unavailable

if "PERFQ_FAKES_CALM" in os.environ and "pytest_perfq.runner" in sys.modules:
    # In a worker no plugin of pytest is loaded: see perfq_calm.
    import perfq_calm

    sys.modules["pytest_perfq.runner"].sampler = perfq_calm.unwatched


class Tokens:
    """What latency inputs ask of a tokenizer."""

    all_special_ids = (0,)
    pad_token_id = 0

    def __len__(self):
        return 100


class Feather:
    """Latency alone: there is nothing to be right about."""

    name = "feather"
    metrics = ("accuracy",)

    def load_model(self, case, resources):
        if case.model == "far-away":
            raise Unavailable("far-away cannot be fetched: no network")
        layers = importlib.import_module("layers")
        inputs = ("input_ids", "attention_mask")
        return Model(layers, Tokens(), None, case.model, case.model, inputs, ("logits",), 64, 100, 1_000)


class Program:
    """Calls the project's `forward`."""

    def __init__(self, forward):
        self.facts, self.bytes, self.forward = {}, 1_000, forward

    def feed(self, batch):
        return batch.arrays["input_ids"]

    def run(self, feed):
        return self.forward(feed)

    def fetch(self, output):
        return {"logits": np.asarray(output, dtype=np.float32)}

    def synchronize(self):
        pass

    def close(self):
        pass


class Plume:
    """The feather's backend. `plume[does=...]` goes wrong in one way each, where the variable PERFQ_FAKES_SIDE, which tests
    give to one side alone, is set."""

    name = "plume"

    def refuses(self, case):
        does = case.backend.only("backend", does="", ms=0)["does"]
        wrong = os.environ.get("PERFQ_FAKES_SIDE", "all" if does == "refuse-all" else "")
        if does == "refuse-two":  # sequences a batch
            wrong = "two" if case.batch_size == 2 else ""
        return ["plume takes no such thing"] if does.startswith("refuse") and wrong else []

    def build(self, case, model, resources, calibration):
        options = case.backend.only("backend", does="", ms=0)
        does = options["does"] if "PERFQ_FAKES_SIDE" in os.environ else ""
        print("a library prints while it builds")
        if does == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "once" and not os.path.exists(os.environ["PERFQ_FAKES_SIDE"]):
            open(os.environ["PERFQ_FAKES_SIDE"], "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        if does == "hang":
            time.sleep(60)
        if does == "build":
            raise BuildError("the compiler found no registers; give it some")
        if does == "crash":
            raise ZeroDivisionError("division by zero")
        if does == "read":
            print("asked:", repr(input()))
        forward, calls = model.module.forward, []

        def run(ids):
            time.sleep(options["ms"] / 1e3)
            calls.append(1)
            if does == "run" and len(calls) > 4:
                raise RuntimeError("the program broke in its timed loop")
            return forward(ids)

        return Program(run if options["ms"] or does else forward)


def check_plume(case):
    read("backend", case.backend, {"does": Option(""), "ms": Option(0, least=0)})


FEATHER, PLUME = Feather(), Plume()
