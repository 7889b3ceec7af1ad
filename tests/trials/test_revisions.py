"""Revisions made ready: worktrees, environments and every way in which they cannot be had, in throw-away repositories."""

import os
import sys
from pathlib import Path

import pytest

from pytest_perfq.cli.ab import Asked, ab
from pytest_perfq.errors import TrialError, UsageError
from pytest_perfq.trials import revisions

PYPROJECT = """\
[project]
name = "thing"
version = "{version}"
dependencies = [{dependencies}]
[tool.ruff]
line-length = {length}
"""


@pytest.fixture
def made(project, monkeypatch):
    """A repository with two commits, and a function that makes a revision of it ready."""
    monkeypatch.setattr(revisions, "VENV", ("-m", "venv", "--without-pip"))  # pip takes ten seconds to unpack
    project.layers(1.0)
    project.write(sub__inner="WHERE = 'sub'")
    one = project.commit("one")
    project.layers(2.0)
    project.commit("two")
    project.git("tag", "v2")
    said = []

    def environment(name, install=None, folder=None):
        return revisions.environment(name, folder or project.path, project.path.parent / "cache", install, said.append)

    environment.said, environment.one = said, one
    return environment


def test_a_revision_has_a_tree_of_its_own_and_keeps_it(made, project):
    found = made(made.one)
    assert "1.0" in (found.folder / "layers.py").read_text() and "2.0" in (project.path / "layers.py").read_text()
    assert (found.revision, found.label, found.python) == (made.one, made.one[:10], sys.executable)
    stamp = (found.folder / "layers.py").stat().st_mtime_ns
    assert made(made.one) == found and (found.folder / "layers.py").stat().st_mtime_ns == stamp
    assert project.git("status", "--porcelain") == "" and project.git("rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert made("v2").folder != found.folder and made("v2").label.startswith("v2 (")


def test_its_modules_are_those_of_its_tree(made, project):
    for name, tree in ((made.one, made(made.one).folder), (".", project.path)):
        assert made(name).variables["PYTHONPATH"].split(os.pathsep)[0] == str(tree)
    (project.path / "src").mkdir()
    assert made(".").variables["PYTHONPATH"].split(os.pathsep)[:2] == [str(project.path / "src"), str(project.path)]


@pytest.mark.parametrize("damage", ["changed", "moved", "torn"])
def test_a_tree_that_somebody_has_changed_is_made_anew(made, damage):
    tree = made(made.one).folder
    if damage == "changed":
        (tree / "layers.py").write_text("broken = True\n")
    elif damage == "moved":
        revisions.git(tree, "checkout", "-q", "v2")
    else:
        (tree / ".git").unlink()
    assert made(made.one).folder == tree and "1.0" in (tree / "layers.py").read_text()


def test_a_worktree_that_was_deleted_by_hand_is_made_anew(made):
    import shutil

    tree = made(made.one).folder
    shutil.rmtree(tree)
    assert made(made.one).folder == tree and (tree / "layers.py").exists()


def test_a_sub_folder_is_that_of_the_revision(made, project):
    found = made(made.one, folder=project.path / "sub")
    assert found.folder.name == "sub" and (found.folder / "inner.py").exists()
    project.write(later__new="X = 1")
    project.commit("three")
    with pytest.raises(UsageError, match=rf"{made.one[:10]} has no folder later; start from one that both revisions have"):
        made(made.one, folder=project.path / "later")


def test_the_working_tree_is_measured_where_it_stands(made, project):
    project.layers(9.0)
    found = made(".", folder=project.path / "sub")
    assert found.folder == project.path / "sub" and found.revision == project.git("rev-parse", "HEAD")
    assert found.label == "the working tree" and found.python == sys.executable
    assert "9.0" in (project.path / "layers.py").read_text()


def test_within_a_hook_of_git_the_revision_is_still_its_own(made, project, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(project.path / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(project.path / ".git" / "index"))
    assert "1.0" in (made(made.one).folder / "layers.py").read_text()


# ---- environments


@pytest.mark.parametrize(
    "change, alike",
    [({"length": 120, "version": "2"}, True), ({"dependencies": '"numpy>=2"'}, False), ({"dependencies": "torn"}, False)],
    ids=["linter", "dependency", "torn"],
)
def test_what_names_packages_decides_whether_a_revision_shares_this_environment(tmp_path, change, alike):
    plain = {"version": "1", "dependencies": "", "length": 80}
    trees = []
    for number, values in enumerate((plain, plain | change)):
        trees.append(tmp_path / str(number))
        trees[-1].mkdir()
        (trees[-1] / "pyproject.toml").write_text(PYPROJECT.format(**values))
    assert (revisions._dependencies(trees[0]) == revisions._dependencies(trees[1])) is alike
    (trees[0] / "README.md").write_text("more")
    same = revisions._dependencies(trees[0])
    (trees[0] / "requirements-dev.txt").write_text("numpy")
    assert revisions._dependencies(trees[0]) != same


def test_what_pip_is_asked_for(tmp_path):
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    words = ["-m", "pip", "install", "--quiet", "-c", "constraints.txt", "-r", "requirements.txt", "-e", "."]
    assert revisions._installs(tmp_path, Path("python")) == [["python", *words]]


def test_other_dependencies_get_an_environment_of_their_own_once(made, project):
    """Built without pip and without a network: the command that installs is given."""
    install = f"echo made >> {project.path.parent / 'count'} && which python"
    found = made(made.one, install)
    assert found.python != sys.executable and Path(found.python).is_relative_to(project.path.parent / "cache")
    assert made(made.one, install) == found and (project.path.parent / "count").read_text() == "made\n"
    assert made.said == [f"installing {made.one} into an environment of its own, once"]
    log = found.folder.parent / "install.log"
    # Its own Python came first on the path of the command.
    assert str(Path(found.python).parent) in log.read_text()
    made(made.one, f"{install} && true")
    assert len(made.said) == 2  # another command is another environment


def test_a_revision_that_does_not_build_is_one_sentence_with_its_log(made):
    with pytest.raises(TrialError) as told:
        made(made.one, "echo no such package: torch==99; exit 4")
    text = str(told.value)
    assert text.startswith(f"{made.one} does not build: 'echo no such package: torch==99; exit 4' ended with status 4: ")
    assert "no such package: torch==99; the whole log is " in text and "--install gives another command" in text
    log = Path(text.split("the whole log is ")[1].split(",")[0])
    assert "no such package: torch==99" in log.read_text()
    with pytest.raises(TrialError, match="'exit 5' ended with status 5: it said nothing; the whole log"):
        made(made.one, "exit 5")
    # What was cut off is begun again, not taken for whole.
    assert made(made.one, "true").python != sys.executable


# ---- what cannot be had


def test_an_unknown_revision_is_one_sentence(made, project):
    with pytest.raises(UsageError) as told:
        made("mian")
    assert f"there is no revision 'mian' in {project.path}; its latest branches and tags: " in str(told.value)
    assert "main" in str(told.value) and "v2" in str(told.value) and "'.' is the working tree" in str(told.value)
    with pytest.raises(UsageError, match="there is no revision '--upload-pack=x'"):
        made("--upload-pack=x")


def test_outside_of_a_repository_is_one_sentence(tmp_path, monkeypatch):
    """With what else each command can do: `perfq bisect` can do nothing else."""
    with pytest.raises(UsageError, match=r"is in no git repository; go into one$"):
        revisions.environment("main", tmp_path, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"is in no git repository; go into one, or compare two environments with --env$"):
        ab(Asked(words=("main", ".")), "table", everything=False, width=100)


def test_a_repository_without_a_commit_is_one_sentence(project):
    with pytest.raises(UsageError, match=r"there is no revision 'HEAD' in .*tags: none"):
        revisions.environment(".", project.path, project.path / "cache")


def test_without_git_the_sentence_says_so(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TrialError, match=r"git is not installed.*; install it$"):
        revisions.environment("main", project.path, project.path / "cache")
