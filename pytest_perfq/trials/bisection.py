"""Which commit made a case worse: git chooses the commits, somebody else decides about each. Knows git; measures nothing.

git bisects in a worktree of its own, which is empty: the user's tree, and a bisection of theirs, are left alone.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pytest_perfq.errors import UsageError
from pytest_perfq.trials.revisions import commit_of, git

Answer = Literal["good", "bad", "skip", "undecided"]


@dataclass(frozen=True, slots=True)
class Step:
    """One commit and what was found of it. why: in a few words."""

    commit: str
    subject: str
    answer: Answer
    why: str

    def __str__(self) -> str:
        return f"{self.answer:<9} {self.commit[:10]} {self.subject}: {self.why}"


@dataclass(slots=True)
class Bisection:
    """good, bad: full ids, the first an ancestor of the second and neither decided here. decide: (answer, why) of a commit.
    told: of every step. first: the first bad commit, None where that stayed open. left: commits it may be, the latest
    first."""

    root: Path
    good: str
    bad: str
    decide: Callable[[str], tuple[Answer, str]]
    told: Callable[[Step], None] = lambda step: None
    steps: list[Step] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def first(self) -> str | None:
        return self.left[0] if len(self.left) == 1 else None

    def run(self) -> None:
        """Fills steps and left. Stops at the first commit that stays undecided, and where only skipped ones are left."""
        with _tree(self.root, self.good) as tree:
            git(tree, "bisect", "start", "--no-checkout", self.bad, self.good)
            while self._open(tree):
                commit = git(tree, "rev-parse", "BISECT_HEAD")
                answer, why = self.decide(commit)
                self.steps.append(Step(commit, subject(self.root, commit), answer, why))
                self.told(self.steps[-1])
                if answer == "undecided":
                    return
                try:
                    git(tree, "bisect", answer)
                except UsageError:
                    # Its status is an error too where it has none but skipped ones to go on with.
                    if self._open(tree):
                        raise

    def _open(self, tree: Path) -> bool:
        """Whether there is a commit to ask for."""
        self._look(tree)
        # The first of those left is the known bad one.
        return not set(self.left[1:]) <= {step.commit for step in self.steps if step.answer == "skip"}

    def _look(self, tree: Path) -> None:
        """The commits that may still be the first bad one, the known bad one first."""
        good = git(tree, "for-each-ref", "--format=%(objectname)", "refs/bisect/good-*").split()
        self.left = git(tree, "rev-list", "--topo-order", "refs/bisect/bad", "--not", *good).split()


@contextlib.contextmanager
def _tree(root: Path, commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="perfq-bisect-") as folder:
        tree = Path(folder) / "tree"
        git(root, "worktree", "add", "--detach", "--no-checkout", str(tree), commit)
        try:
            yield tree
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


def subject(root: Path, commit: str) -> str:
    """The first line of a commit's message."""
    return git(root, "show", "--no-patch", "--format=%s", commit)


def ends(root: Path, good: str, bad: str) -> tuple[str, str]:
    """Both revisions as full ids. Raises UsageError unless commits lead from the one to the other."""
    one, other = commit_of(good, root), commit_of(bad, root)
    if one == other:
        raise UsageError(f"{good} and {bad} are the same revision {one[:10]}; give one before and one after the change")
    common = git(root, "merge-base", "--all", one, other).split()
    if one not in common:
        if common == [other]:
            raise UsageError(f"{bad} comes before {good}; give the good revision first, then the bad one")
        near = f"; the last commit that both have is {common[0][:10]}, try that" if common else ""
        raise UsageError(f"{good} is no ancestor of {bad}{near}")
    return one, other
