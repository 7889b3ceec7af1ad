"""From the entries of `Quantization.exclude` to node names of one graph. Every entry must mean something there."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase

import onnx

from pytest_perfq.backends._onnx import groups
from pytest_perfq.errors import UsageError

NEAR = 3  # names offered for one that matches nothing


def name_nodes(graph: onnx.GraphProto) -> None:
    """Gives every node a name of its own: a node without one cannot be excluded, nor counted."""
    taken = {node.name for node in graph.node}
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            name = f"{node.op_type}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)


def excluded(graph: onnx.GraphProto, entries: tuple[str, ...], source: str) -> dict[str, list[str]]:
    """Entry -> names of the nodes that it excludes: a group of core.quantization.GROUPS, a node name, or a glob over names.
    Raises UsageError for an entry that matches nothing. source: what the message calls the model."""
    walk = groups.Graph(graph)
    names = [node.name for node in graph.node]
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry in groups.FINDERS:
            found[entry] = sorted({node.name for node in groups.FINDERS[entry](walk)})
        else:
            found[entry] = [name for name in names if name == entry or fnmatchcase(name, entry)]
        if not found[entry]:
            raise UsageError(_nothing(entry, names, walk, source))
    return found


def _nothing(entry: str, names: list[str], walk: groups.Graph, source: str) -> str:
    start = f"exclude entry {entry!r} matches none of the {len(names)} nodes of {source}"
    has = [name for name, finder in groups.FINDERS.items() if finder(walk)]
    if entry in groups.FINDERS:
        return f"{start}; groups that it has: {', '.join(has) or 'none'}"
    near = difflib.get_close_matches(entry, names, n=NEAR, cutoff=0.3)
    return f"{start}; near names: {', '.join(near) or 'none'}; groups: {', '.join(has) or 'none'}"
