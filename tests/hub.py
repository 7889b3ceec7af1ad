"""A hub on this machine: as much of the Hugging Face hub's HTTP interface as its clients use to read models, data sets and
metrics, in the standard library. Knows repositories as branches of files, and no client.

    GET      /api/{models,datasets,spaces}/NAME[/revision/REVISION]      what a repository is; `sha` is the commit
    GET      /api/{...}/NAME/tree/REVISION[/FOLDER]?recursive=           what it holds
    POST     /api/{...}/NAME/paths-info/REVISION                         what it holds at these paths
    HEAD GET /[datasets/|spaces/]NAME/resolve/REVISION/FILE              a file; a large one stands elsewhere: 302

As the hub does, it answers 307 under the former name of a renamed repository, and 401 for a repository that is private or
missing where nobody is logged in, 404 where somebody is: its clients cannot tell those apart.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

API = re.compile(r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+(?:/(?!revision/|tree/|paths-info/)[^/]+)?)"
                 r"(?:/(?P<what>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?$")  # fmt: skip
FILE = re.compile(r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)$")
LARGE = (".safetensors", ".bin", ".parquet")  # what the hub keeps outside of git
PARQUET_BRANCH = "refs/convert/parquet"  # where the hub puts its own conversion of a data set


def blob_id(content: bytes) -> str:
    """git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def commit_of(files: dict[str, bytes]) -> str:
    """40 hex digits that change with any file."""
    return hashlib.sha1("".join(f"{path} {blob_id(files[path])}\n" for path in sorted(files)).encode()).hexdigest()


@dataclass
class Repository:
    """branches: name -> path -> content. fault: 'private' shows it to the token's owner only; 'down' answers 500; 'dying' hangs
    up in the middle of the first large file and is down from then on."""

    branches: dict[str, dict[str, bytes]]
    fault: str | None = None

    def tree(self, revision: str) -> dict[str, bytes] | None:
        for branch, files in self.branches.items():
            if revision in (branch, commit_of(files)):
                return files
        return None


@dataclass
class Hub:
    """Repositories by kind and name. down: 500 is all it answers. moved: former name -> name. asked: 'METHOD path' of every
    request so far."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    token: str = "hf_of_these_tests"
    down: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""
    store: str = ""  # of large files: another host, to which clients must not take their token

    def publish(self, kind: str, name: str, files: dict[str, bytes], branch: str = "main", fault: str | None = None) -> str:
        """Puts a repository there, or another branch or commit of one, and gives its commit."""
        repository = self.repositories.setdefault((kind, name), Repository({}))
        repository.branches[branch], repository.fault = files, fault
        return commit_of(files)

    def start(self) -> ThreadingHTTPServer:
        """Serves on a free port in threads of its own; `shutdown` and `server_close` end it."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": self}))
        server.daemon_threads = True
        self.url, self.store = f"http://127.0.0.1:{server.server_port}", f"http://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return server


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: `Hub.asked` is the log."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.asked.append(f"{self.command} {self.path}")
        path = urlsplit(self.path).path
        if self.hub.down:
            return self.answer(500, b"the hub is not well")
        if path == "/":
            return self.answer(200, b"a hub")
        found = API.match(path) or FILE.match(path)
        if found is None:
            return self.answer(404, b"no such page")
        part = {name: unquote(text) for name, text in found.groupdict().items() if text is not None}
        kind, name = part.get("kind", "models"), part["name"]
        if name in self.hub.moved:
            # Relative, as the hub's: clients follow it to the same host only.
            return self.answer(307, Location=self.path.replace(name, self.hub.moved[name], 1))
        repository = self.hub.repositories.get((kind, name))
        # Links to the store of large files are signed by the real hub: who was shown one may follow it.
        known = self.stored or self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repository is None or (repository.fault == "private" and not known):
            error = {"X_Error_Code": "RepoNotFound", "X_Error_Message": "Repository not found"}
            return self.answer(404 if known else 401, b"Repository not found", **error)
        if repository.fault == "down":
            return self.answer(500, b"this repository is not well")
        files = repository.tree(part.get("revision", "main"))
        if files is None:
            return self.answer(404, b"Invalid rev id", X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        if found.re is FILE:
            return self.file(repository, files, part["path"])
        return self.described(part, name, files)

    @property
    def stored(self) -> bool:
        """Whether the store of large files is asked, not the hub."""
        return self.hub.store.endswith(f"//{self.headers['Host']}")

    def described(self, part: dict[str, str], name: str, files: dict[str, bytes]) -> None:
        what, folder = part.get("what"), part.get("path", "").strip("/")
        if what == "tree":
            entries = entries_of(files, folder, "true" in parse_qs(urlsplit(self.path).query.lower()).get("recursive", []))
            if folder and not entries:
                return self.absent(files)
            return self.json(entries)
        if what == "paths-info":
            wanted = parse_qs(self.body.decode()).get("paths", [])
            if "json" in self.headers.get("Content-Type", ""):
                wanted = json.loads(self.body)["paths"]
            known = {entry["path"]: entry for entry in entries_of(files, "", recursive=True)}
            return self.json([known[path] for path in wanted if path in known])
        siblings = [{"rfilename": path} for path in sorted(files)]
        facts = {"_id": "0", "id": name, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        return self.json({**facts, "tags": [], "sha": commit_of(files), "siblings": siblings})

    def file(self, repository: Repository, files: dict[str, bytes], path: str) -> None:
        if path not in files:
            return self.absent(files)
        content, commit = files[path], commit_of(files)
        if not path.endswith(LARGE):
            return self.content(content, ETag=f'"{blob_id(content)}"', X_Repo_Commit=commit)
        digest = hashlib.sha256(content).hexdigest()
        if not self.stored:
            linked = {"X_Linked_Size": str(len(content)), "X_Linked_ETag": f'"{digest}"'}
            return self.answer(302, Location=f"{self.hub.store}{self.path}", X_Repo_Commit=commit, **linked)
        torn = repository.fault == "dying" and self.command == "GET"
        if torn:
            repository.fault = "down"
        return self.content(content, torn, ETag=f'"{digest}"')

    def absent(self, files: dict[str, bytes]) -> None:
        error = {"X_Error_Code": "EntryNotFound", "X_Error_Message": "Entry not found"}
        return self.answer(404, b"Entry not found", X_Repo_Commit=commit_of(files), **error)

    def json(self, value: object) -> None:
        return self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def content(self, content: bytes, torn: bool = False, **headers: str) -> None:
        """A file or the part of it that is asked for."""
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        status, first, last = 200, 0, len(content) - 1
        if wanted is not None:
            status, first, last = 206, int(wanted[1]), min(int(wanted[2] or last), last)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        return self.answer(status, content[first : last + 1], torn=torn, Accept_Ranges="bytes", **headers)

    def answer(self, status: int, body: bytes = b"", torn: bool = False, **headers: str) -> None:
        """torn: promise all of the body, send half, hang up."""
        self.send_response(status)
        for name, value in {**headers, "Content_Length": str(len(body))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if torn else body)
            self.close_connection = self.close_connection or torn


def entries_of(files: dict[str, bytes], folder: str, recursive: bool) -> list[dict[str, object]]:
    """Files and folders under a folder ('' is the root), as the hub lists them."""
    start = f"{folder}/" if folder else ""
    inside = sorted(path for path in files if path.startswith(start))
    folders = sorted({path[: at.start()] for path in inside for at in re.finditer("/", path) if at.start() >= len(start)})
    entries: list[dict[str, object]] = []
    for path in [*folders, *inside]:
        if not recursive and "/" in path[len(start) :]:
            continue
        if path in folders:
            entries.append({"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path})
            continue
        entry = {"type": "file", "oid": blob_id(files[path]), "size": len(files[path]), "path": path}
        if path.endswith(LARGE):
            entry["lfs"] = {"oid": hashlib.sha256(files[path]).hexdigest(), "size": len(files[path]), "pointerSize": 134}
        entries.append(entry)
    return entries
