"""Every store the contract runs over, and a throw-away PostgreSQL server."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def _server_user():
    """PostgreSQL refuses to run as root: the user to run it as, None for the present one."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("postgresql: running as root and there is no user postgres or nobody")


@pytest.fixture(scope="session")
def postgresql():
    """URL of a server on a Unix socket, gone after the session."""
    pytest.importorskip("psycopg", reason="postgresql: the driver psycopg is not installed")
    for binary in ("initdb", "pg_ctl"):
        if shutil.which(binary) is None:
            pytest.skip(f"postgresql: {binary} is not on the path")
    user = _server_user()
    # A short path of its own: a socket's path may have 107 characters, and another user must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)

    def run(*words):
        options = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(words, check=True, capture_output=True, cwd=folder, timeout=60, **options)

    try:
        run("initdb", "-D", "data", "-U", "perfq", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", f"-c listen_addresses= -k {folder} -c fsync=off", "start")
        yield f"postgresql+psycopg://perfq@/postgres?host={folder}"
    finally:
        subprocess.run(
            ["pg_ctl", "-D", "data", "-m", "immediate", "stop"], capture_output=True, cwd=folder,
            **({} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}),
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def url(request, tmp_path):
    """The URL of an empty store of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "history" / "results.db")
    if request.param == "memory":
        return "sqlite://"
    server = request.getfixturevalue("postgresql")
    import psycopg

    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return server
