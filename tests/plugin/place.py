"""A hub that runs and a folder to run pytest in, apart from everything else that this machine has of the hub's."""

import dataclasses
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

from hub import Hub

from pytest_perfq.core.measurement import Measurement
from pytest_perfq.store import Store

ROOT = Path(__file__).resolve().parents[2]
FAKES = Path(__file__).parent / "fakes"
QUICK = ("-q", "-p", "no:randomly", "-p", "perfq_calm", "--perf-time=60ms", "--perf-visits=1", "--perf-threads=1")


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run of pytest came to. ends: name of a test -> (passed, failure or skipped; message). asked: of the hub.
    measured: name of a test -> Measurement."""

    ends: dict
    asked: list
    measured: dict


@dataclasses.dataclass(frozen=True)
class Place:
    """A hub that runs, the commits it holds, and a folder to run pytest in."""

    hub: Hub
    folder: Path
    commits: dict

    def run(self, *args, **environment):
        """pytest in a process of its own, with a home of the hub's libraries and nothing else of this one's settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PERFQ_", "PYTEST_"))}
        inherited.pop("CI", None)
        given = {
            "HF_ENDPOINT": self.hub.url, "HF_HOME": str(self.folder / "home"), "PERFQ_CACHE": str(self.folder / "cache"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(FAKES)]), "NO_PROXY": "*",
        }  # fmt: skip
        given["TMPDIR"] = str(self.folder)  # where the lock of timed sections is: nobody else's holds these up
        shutil.rmtree(self.folder / ".perfq", ignore_errors=True)
        self.hub.asked.clear()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *QUICK, "--junitxml=found.xml", f"--rootdir={self.folder}", *args],
            cwd=self.folder, env=inherited | given | environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode in (0, 1) and "INTERNALERROR" not in said, said
        return Run(self._ends(), list(self.hub.asked), self._measured())

    def _ends(self):
        found = {}
        for item in xml.parse(self.folder / "found.xml").iter("testcase"):
            ends = [(end.tag, end.get("message")) for end in item if end.tag in ("failure", "skipped", "error")]
            found[item.get("name")] = ends[0] if ends else ("passed", "")
        return found

    def _measured(self):
        with Store.open(str(self.folder / ".perfq/results.db"), readonly=True) as store:
            records = store.records(store.runs()[0].id)
            return {one.nodeid.rpartition("::")[2]: Measurement.from_json(one.measurement) for one in records}
