"""A throw-away project in a git repository of its own: one suite over the feather, and the module whose revisions differ."""

import os
import subprocess
from pathlib import Path

FAKES = Path(__file__).resolve().parents[1] / "plugin" / "fakes"
SUITE = """\
from pytest_perfq import Budget, Sweep
S = Sweep(task="feather", model="light", seq_len=8, {sweep})
@S
def test_it(case, perfq):
    perfq(case)
"""
LAYERS = """\
import time
SCALE, LABELS = {scale}, {labels!r}
def forward(ids):
    time.sleep({ms} / 1e3)
    return [[float(row.sum()), 1.0] for row in ids]
"""
FEATHER = "backend='plume', accuracy=False"
LABELS = ("no", "yes")


class Project:
    """Files and commits."""

    def __init__(self, path):
        self.path = path
        path.mkdir(exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *words):
        return subprocess.run(("git", *words), cwd=self.path, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, **files):
        """name -> text; two underscores stand for a folder's slash and one more for the dot of `.py`."""
        for name, text in files.items():
            file = self.path / f"{name.replace('__', '/')}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def layers(self, ms=1.0, scale=1.0, labels=LABELS):
        self.write(layers=LAYERS.format(ms=ms, scale=scale, labels=labels))

    def suite(self, sweep=FEATHER):
        self.write(test_it=SUITE.format(sweep=sweep))

    def commit(self, subject="a change"):
        """The id of a commit of everything."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", subject)
        return self.git("rev-parse", "HEAD")


def variables(**others):
    """Of a process whose git needs nobody's settings, and whose Python finds the fakes."""
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in (("NAME", "A"), ("EMAIL", "a@b"))}
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return {**who, **quiet, "PYTHONPATH": str(FAKES), "COLUMNS": "200", **others}
