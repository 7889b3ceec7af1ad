"""Real workers of a project that takes part, and what they are asked to measure."""

import sys

from scripted import case
from throwaway import variables

from pytest_perfq.core.spec import Spec
from pytest_perfq.trials.environment import Environment


def plume(does="", **fields):
    """A case of the feather's backend. does: what goes wrong, see perfq_feather."""
    backend = Spec.parse(f"plume[does={does}]" if does else "plume")
    return case(**{"backend": backend, "dataset": "synthetic", **fields})


# Of all the plugins that are installed here: others take a second to load in every worker.
BENCHMARKED = "pytest_perfq.plugin,pytest_benchmark.plugin"


def environment(folder, label="main", side=None, python=sys.executable, plugins=None):
    """side: marks the side that goes wrong; see perfq_feather. plugins: of pytest, None for all that are installed."""
    # A folder for temporary files of its own: nobody else's timing holds the device.
    given = variables(TMPDIR=str(folder), **({} if side is None else {"PERFQ_FAKES_SIDE": str(side)}))
    if plugins is not None:
        given |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": plugins}
    return Environment(label=label, python=str(python), folder=folder, variables=given)
