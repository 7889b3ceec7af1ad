"""A revision of the project made ready to measure: a worktree of its own, and an environment of its own where its
dependencies are others.

Both are made once and kept by revision. Knows git and pip; knows no case.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_perfq.errors import TrialError, UsageError
from pytest_perfq.trials.environment import Environment

# The tree as it stands, with whatever is not committed.
WORKING_TREE = "."
# What decides which packages a revision runs on. A lock file counts, a README does not.
DEPENDENCIES = (
    "pyproject.toml", "setup.py", "setup.cfg", "requirements*.txt", "constraints*.txt", "uv.lock", "poetry.lock", "pdm.lock",
    "Pipfile.lock",
)  # fmt: skip
# Parts of pyproject.toml that say so; the settings of linters do not.
PROJECT = ("name", "requires-python", "dependencies", "optional-dependencies", "entry-points", "scripts", "dynamic")
TOOLS = ("poetry", "pdm", "uv", "hatch", "setuptools", "flit")
BUILT = "built"
# With pip, which a command that installs may need as well.
VENV = ("-m", "venv")
OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")


def git(folder: Path, *words: str) -> str:
    """What git prints. Raises UsageError with its own last line."""
    # A hook of git runs with these set to the repository that it is of, whatever the folder.
    variables = {name: value for name, value in os.environ.items() if name not in OF_A_HOOK} | {"LC_ALL": "C"}
    try:
        done = subprocess.run(("git", *words), cwd=folder, env=variables, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TrialError("git is not installed, and revisions are checked out with it; install it") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"git {' '.join(words)} in {folder}: {said}")
    return done.stdout.strip()


def root_of(folder: Path, otherwise: str = "") -> Path:
    """The root of the repository around a folder. otherwise: what else the command at hand can do, such as `, or ...`. Raises
    UsageError outside of one."""
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel"))
    except UsageError:
        raise UsageError(f"{folder} is in no git repository; go into one{otherwise}") from None


def commit_of(name: str, root: Path) -> str:
    """The full id of a revision. Raises UsageError for one that the repository lacks."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except UsageError:
        some = git(root, "for-each-ref", "--count=5", "--sort=-committerdate", "--format=%(refname:short)")
        raise UsageError(
            f"there is no revision {name!r} in {root}; its latest branches and tags: {', '.join(some.split()) or 'none'}; "
            f"{WORKING_TREE!r} is the working tree"
        ) from None


def check(name: str, folder: Path, otherwise: str = "") -> None:
    """Raises UsageError where `name` cannot be measured from this folder: it is in no repository, or that lacks the revision.
    otherwise: see root_of."""
    commit_of("HEAD" if name == WORKING_TREE else name, root_of(folder, otherwise))


def age_s(commit: str, folder: Path) -> float:
    """Seconds since a commit of the repository around a folder was made."""
    return max(0.0, time.time() - float(git(folder, "show", "-s", "--format=%ct", commit)))


def _dependencies(tree: Path) -> str:
    """A digest of what names packages."""
    files = sorted({path for pattern in DEPENDENCIES for path in tree.glob(pattern)})
    return hashlib.sha256(b"".join(path.name.encode() + b"\0" + _naming(path) for path in files)).hexdigest()


def _naming(path: Path) -> bytes:
    text = path.read_bytes()
    if path.name != "pyproject.toml":
        return text
    try:
        found = tomllib.loads(text.decode())
    except ValueError:
        return text  # pip will say what is wrong with it
    project, tool = found.get("project", {}), found.get("tool", {})
    parts = [found.get("build-system"), found.get("dependency-groups")]
    parts += [{name: table.get(name) for name in names} for table, names in ((project, PROJECT), (tool, TOOLS))]
    return json.dumps(parts, sort_keys=True, default=str).encode()


def environment(
    name: str, folder: Path, cache: Path, install: str | None = None, say: Callable[[str], None] = lambda line: None
) -> Environment:
    """Where `name`, a revision or the working tree, is measured. Raises UsageError, and TrialError for one that does not build.

    folder: within the repository. cache: folder of worktrees and environments. install: shell command that installs the
    revision, run in its tree with its Python first on the PATH; without one, a revision whose dependency files are those of
    the working tree runs on the packages of this Python, and any other gets an environment of its own by pip. say: told what
    takes long.
    """
    root = root_of(folder)
    inside = folder.resolve().relative_to(root.resolve())
    if name == WORKING_TREE:
        head = commit_of("HEAD", root)
        return Environment(label="the working tree", folder=folder, variables=_importing(root), revision=head)
    commit = commit_of(name, root)
    from filelock import FileLock

    project = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]
    home = cache / "revisions" / f"{project}-{commit[:12]}"
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "lock"):
        tree = _worktree(root, home / "tree", commit)
        python = sys.executable
        if install is not None or _dependencies(tree) != _dependencies(root):
            python = _built(tree, home, name, install, say)
    label = commit[:10] if commit.startswith(name) else f"{name} ({commit[:10]})"
    if not (tree / inside).is_dir():
        raise UsageError(f"{label} has no folder {inside}; start from one that both revisions have")
    return Environment(label=label, python=python, folder=tree / inside, variables=_importing(tree), revision=commit)


def _importing(tree: Path) -> dict[str, str]:
    """The project's modules come from the tree, whatever of it is installed."""
    paths = [str(tree / "src")] if (tree / "src").is_dir() else []
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([*paths, str(tree), *([inherited] if inherited else [])])}


def _worktree(root: Path, tree: Path, commit: str) -> Path:
    """The tree of a commit; one that somebody has changed is made anew."""
    if tree.is_dir():
        try:
            if git(tree, "rev-parse", "HEAD") == commit and not git(tree, "status", "--porcelain", "--untracked-files=no"):
                return tree
        except UsageError:
            pass  # its repository has moved, or its link is broken
        shutil.rmtree(tree)
    git(root, "worktree", "prune")
    git(root, "worktree", "add", "--detach", "--force", str(tree), commit)
    return tree


def _built(tree: Path, home: Path, name: str, install: str | None, say: Callable[[str], None]) -> str:
    """The Python of the revision's own environment."""
    key = hashlib.sha256(f"{_dependencies(tree)} {install} {sys.version}".encode()).hexdigest()[:12]
    venv = home / f"venv-{key}"
    python = venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if (venv / BUILT).exists():
        return str(python)
    if venv.exists():
        shutil.rmtree(venv)  # its building was cut off
    say(f"installing {name} into an environment of its own, once")
    _run([sys.executable, *VENV, str(venv)], tree, name, home / "install.log")
    variables = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}", "VIRTUAL_ENV": str(venv)}
    for command in [install] if install is not None else _installs(tree, python):
        _run(command, tree, name, home / "install.log", variables)
    (venv / BUILT).touch()
    return str(python)


def _installs(tree: Path, python: Path) -> list[Sequence[str]]:
    """What pip is asked for where nobody says."""
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    constraints = [word for path in sorted(tree.glob("constraints*.txt")) for word in ("-c", path.name)]
    wanted = [word for path in sorted(tree.glob("requirements*.txt")) for word in ("-r", path.name)]
    if (tree / "pyproject.toml").exists() or (tree / "setup.py").exists():
        wanted += ["-e", "."]
    return [[*pip, *constraints, *wanted]] if wanted else []


def _run(command: str | Sequence[str], tree: Path, name: str, log: Path, variables: dict[str, str] | None = None) -> None:
    with log.open("a+", encoding="utf-8") as file:
        text = command if isinstance(command, str) else " ".join(command)
        file.write(f"$ {text}\n")
        file.flush()
        done = subprocess.run(
            command, cwd=tree, env=variables, shell=isinstance(command, str), stdout=file, stderr=subprocess.STDOUT, check=False
        )
    if done.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        said = "it said nothing" if last == f"$ {text}" else last
        raise TrialError(
            f"{name} does not build: {text!r} ended with status {done.returncode}: {said}; the whole log is {log}, and "
            "--install gives another command"
        )
