"""The commands of `perfq`, in the order its help shows them. Each reads, hands over and prints; none computes."""

from __future__ import annotations

import shutil
from typing import Any

import click

from pytest_perfq.cli import accept as accepting
from pytest_perfq.cli import compare as comparing
from pytest_perfq.cli import doctor as examining
from pytest_perfq.cli import show

DEFAULT_STORE = ".perfq/results.db"
STORE = click.option(
    "--store", metavar="URL", default=DEFAULT_STORE, envvar="PERFQ_STORE", show_default=True, show_envvar=True,
    help="Path of an SQLite file, or an SQLAlchemy URL.",
)  # fmt: skip


class _Ordered(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


def width() -> int:
    """Characters in a line of the terminal; enough for every column where the output goes elsewhere."""
    return shutil.get_terminal_size((140, 24)).columns


@click.group(cls=_Ordered, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pytest-perfq")
def perfq() -> None:
    """Ask about accuracy and latency that pytest measured.

    A run is named by its id, the beginning of it, or `last`; a baseline by its folder.
    Exit status: 0 fine, 1 a regression or a broken promise, 2 undecided, 3 a usage or data error.
    """


@perfq.command()
@click.argument("baseline", metavar="A")
@click.argument("candidate", metavar="B")
@click.option("--format", "how", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@click.option("--subset", is_flag=True, help="Cases of A that B lacks were left out on purpose.")
@click.option("--all", "everything", is_flag=True, help="Show every case, not only the worst.")
@STORE
@click.pass_context
def compare(context: click.Context, /, store: str, everything: bool, **options: Any) -> None:
    """Is B worse than A? A and B are baseline folders or runs.

    Judges B's own promises, accuracy example by example, and latency by visits. Exits 0 when nothing is worse, 1 when
    something is, 2 when something cannot be decided or nothing could be compared, 3 when A or B cannot be read.
    """
    text, status = comparing.compare(store=store, everything=everything, width=width(), **options)
    click.echo(text)
    context.exit(status)


@perfq.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[A B] [PYTEST ARGUMENTS]...")
@click.option("--env", multiple=True, metavar="PYTHON", help="Compare two environments: the base's Python, then the other's.")
@click.option(
    "--vs", metavar="AXIS=VALUE", help="Compare each case with itself under this backend, precision ...; or original."
)
@click.option("--time", metavar="TIME", help="Most time for the latency cases, such as 10m.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every CPU backend, as --perf-threads.")
@click.option("--data", metavar="DIR", help="Local mirror of data sets, as --perf-data.")
@click.option("--cache", metavar="DIR", help="Folder of checkpoints, exports and revisions, as --perf-cache.")
@click.option("--allow-pickle", "pickle", is_flag=True, help="As --perf-allow-pickle.")
@click.option("--install", metavar="COMMAND", help="Shell command that installs a revision, run in its tree.")
@click.option("--only", type=click.Choice(["accuracy", "latency"]), help="Only cases of this kind.")
@click.option("--subset", is_flag=True, help="Cases of A that B lacks were left out on purpose.")
@click.option("--format", "how", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@click.option("--all", "everything", is_flag=True, help="Show every case, not only the worst.")
@STORE
@click.pass_context
def ab(context: click.Context, /, how: str, everything: bool, **asked: Any) -> None:
    """Is B worse than A, measured side by side?

    A and B are revisions of this repository, `.` the working tree; with --env or --vs there are none. What follows goes to
    pytest, to name the suites: `perfq ab main . suites/ -k squad`. Visits of both sides alternate in fresh processes, in
    passes over all cases; suspects are confirmed by fresh visits. Exits 0 when nothing is worse, 1 when something is, 2 when
    something cannot be decided or B lacks a case of A, 3 when a side cannot be measured at all. Tests that use pytest-benchmark
    are held like cases.
    """
    from pytest_perfq.cli import ab as trying

    text, status = trying.ab(trying.Asked(**asked), how, everything, width())
    click.echo(text)
    context.exit(status)


@perfq.command(context_settings={"ignore_unknown_options": True})
@click.argument("case")
@click.argument("good")
@click.argument("bad")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
@click.option("--time", metavar="TIME", help="Most time for the timing of each step, such as 10m.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every CPU backend, as --perf-threads.")
@click.option("--data", metavar="DIR", help="Local mirror of data sets, as --perf-data.")
@click.option("--cache", metavar="DIR", help="Folder of checkpoints, exports and revisions, as --perf-cache.")
@click.option("--allow-pickle", "pickle", is_flag=True, help="As --perf-allow-pickle.")
@click.option("--install", metavar="COMMAND", help="Shell command that installs a revision, run in its tree.")
@STORE
@click.pass_context
def bisect(context: click.Context, /, **asked: Any) -> None:
    """Which commit between GOOD and BAD made CASE worse?

    CASE is the id of a case, or the name of a test that uses pytest-benchmark. Each step of `git bisect` is held against GOOD
    side by side, in worktrees of its own; a commit that does not build is skipped. Exits 0 with the first bad commit, 2 where a
    step cannot be decided, with what is left, and 3 when GOOD or BAD cannot be measured.
    """
    from pytest_perfq.cli import bisect as bisecting

    text, status = bisecting.bisect(bisecting.Asked(**asked))
    click.echo(text)
    context.exit(status)


@perfq.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
@click.option("--visits", type=int, default=6, show_default=True, help="A/A visits of each case.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of every CPU backend, as --perf-threads.")
@STORE
@click.pass_context
def calibrate(context: click.Context, /, words: tuple[str, ...], visits: int, threads: int | None, store: str) -> None:
    """Find out what slow-downs can be seen here.

    Visits every latency case beside itself in two fresh processes, in passes, and stores how far the two differ. Runs on this
    machine then refuse a max_slowdown that nobody could see. Exits 0, 2 where it was stopped before every case had its visits,
    3 where nothing could be calibrated.
    """
    from pytest_perfq.cli import calibrate as calibrating

    text, status = calibrating.calibrate(words, visits, store, threads, width())
    click.echo(text)
    context.exit(status)


@perfq.command()
@click.argument("run", default="last")
@click.option("--format", "how", type=click.Choice(["table", "markdown"]), default="table", show_default=True)
@STORE
def report(run: str, how: str, store: str) -> None:
    """Show a run or a baseline: table or model card."""
    click.echo(show.report(run, how, store, width()))


@perfq.command("list")
@click.argument("what", type=click.Choice(["runs", "cases", "baselines"]), default="runs")
@click.option("--folder", default="baselines", show_default=True, help="Where baselines are.")
@STORE
def list_(what: str, folder: str, store: str) -> None:
    """List runs, cases or baselines."""
    click.echo(show.baselines_in(folder, width()) if what == "baselines" else show.stored(what, store, width()))


@perfq.command()
@click.argument("case", required=False)
@click.option("--changes", is_flag=True, help="Name the runs between which the level changed; without a CASE, of all cases.")
@STORE
def history(case: str | None, changes: bool, store: str) -> None:
    """One case over all runs, or where its level changed."""
    from pytest_perfq.cli import history as looking_back

    if case is None and not changes:
        raise click.UsageError("name a CASE, or ask for the --changes of all")
    click.echo(looking_back.changed(case, store, width()) if changes else looking_back.history(str(case), store, width()))


@perfq.command("import")
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False))
@STORE
def import_(path: str, store: str) -> None:
    """Take what pytest-benchmark saved into the store, as a run.

    FILE is what `pytest --benchmark-json=FILE` writes. compare, report, history and export then know its benchmarks; two
    imported runs were not measured side by side, so that what looks slower stays undecided.
    """
    from pytest_perfq.cli import import_ as importing

    click.echo(importing.import_(path, store))


@perfq.command()
@click.argument("run", default="last")
@click.option(
    "--format", "how", type=click.Choice(["pytest-benchmark", "junit", "csv", "json"]), default="json", show_default=True
)
@click.option("--output", "-o", type=click.Path(dir_okay=False), help="File to write; standard output without it.")
@STORE
def export(run: str, how: str, output: str | None, store: str) -> None:
    """Write a run in the format of another tool."""
    text = show.export(run, how, store)
    if output is None:
        click.echo(text)
        return
    try:
        with open(output, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise click.ClickException(f"cannot write {output}: {error.strerror}; give another --output") from error


@perfq.command()
@click.argument("run")
@click.argument("folder")
@click.option("--overwrite", is_flag=True, help="Replace a baseline that stands there; it is moved aside, not deleted.")
@click.option("--subset", is_flag=True, help="Cases of FOLDER that RUN lacks were left out on purpose.")
@STORE
def accept(run: str, folder: str, overwrite: bool, subset: bool, store: str) -> None:
    """Save a stored run as the baseline FOLDER. Refuses runs with failing or invalid cases, unfinished ones, those of
    `perfq ab` and `perfq import`, and one that lacks cases of the baseline that it replaces."""
    click.echo(accepting.accept(run, folder, overwrite, subset, store))


@perfq.command()
@click.argument("model")
@click.option("--gpu", metavar="NAME", default="auto", show_default=True, help="The GPU that must be here, as --perf-gpu.")
@click.option("--precision", type=click.Choice(["fp32", "tf32", "fp16", "bf16"]), default="fp16", show_default=True)
@click.option("--tokens", type=click.IntRange(1, 262144), default=8192, show_default=True, help="Of the largest batch.")
@click.option("--task", metavar="NAME", default="question-answering", show_default=True, help="Which head to load MODEL with.")
@click.option("--cache", metavar="DIR", help="Folder to keep the choices in, as --perf-cache.  [default: the user's]")
def tune(**asked: Any) -> None:
    """Time the products of MODEL on this GPU, and keep the fastest.

    For every bucket of tokens, each way that the native encoder can compute a linear is timed: cuBLASLt, cuBLAS, an epilogue,
    our own tiles. The choices are kept for this GPU and these library versions, and serve backend native from here on.
    """
    from pytest_perfq.cli import tune as tuning

    click.echo(tuning.tune(tuning.Asked(**asked), width()))


@perfq.command()
@click.option("--format", "how", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.option("--cache", metavar="DIR", help="Folder of checkpoints and exports, as --perf-cache.  [default: the user's]")
@click.option("--data", metavar="DIR", help="Local mirror of data sets to look at, as --perf-data.")
@STORE
@click.pass_context
def doctor(context: click.Context, how: str, cache: str | None, data: str | None, store: str) -> None:
    """Show this machine, its stores and what is refused.

    Names what the machine has, where results, caches and data are and whether they can be written, what other packages
    bring, and what each backend refuses and why. Makes and changes nothing. Exits 0 whatever it finds, and 3 where --data
    cannot be used.
    """
    text, status = examining.doctor(how, store, cache, data, width())
    click.echo(text)
    context.exit(status)
