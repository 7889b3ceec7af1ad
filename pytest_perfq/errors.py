"""Everything that can go wrong and is somebody's to mend. Every message names the thing, gives both values and ends
with the next step. This module knows nothing else of the package."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class PerfqError(Exception):
    """The root: an error with one clear sentence for a person."""


class UsageError(PerfqError):
    """What was asked for cannot be: a bad option, sweep, budget or model."""


class UnknownName(UsageError):
    """A name that nothing answers to. Offers the nearest known one. meant: the one that it is another name of."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "", meant: str | None = None) -> None:
        import difflib  # not at pytest start-up

        known = sorted(known)
        spelt = {one.lower(): one for one in known}  # letters in the wrong case are near too
        near = [spelt[one] for one in difflib.get_close_matches(str(name).lower(), spelt, n=1, cutoff=0.5)]
        asked = f"; did you mean {meant or near[0]!r}?" if meant or near else ";"
        super().__init__(f"unknown {kind} {name!r}{asked} known: {', '.join(known) or 'none'}{'; ' + hint if hint else ''}")
        self.kind, self.name, self.known = kind, name, known

    @classmethod
    def check(cls, kind: str, given: Iterable[str], known: Collection[str]) -> None:
        """Raises it for the first of the given names that is not known."""
        for name in given:
            if name not in known:
                raise cls(kind, name, known)


class Unavailable(PerfqError):
    """Something that must be fetched (a hub's model, data set or metric) and cannot be had from here. Items skip, and fail
    under --perf-strict."""


class DataError(PerfqError):
    """A data set that is here but is not what the task needs."""


class BuildError(PerfqError):
    """A backend could not make a program of the model, or the program is not faithful to it."""


class KernelsUnavailable(BuildError):
    """The native kernels cannot be built or loaded on this machine."""


class ProgramError(PerfqError):
    """A program ran and what came out cannot be used: not finite, wrong shape, out of memory."""


class StoreError(PerfqError):
    """The history database cannot be read or written as asked."""


class BaselineError(PerfqError):
    """A stored baseline is missing, torn or newer than this version reads."""


class TrialError(PerfqError):
    """A side of a trial cannot be measured: its revision does not build, its worker died or hangs, it lacks the plugin."""
