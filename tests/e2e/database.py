"""A PostgreSQL server for Airflow's metadata, from Debian's package, on a free loopback port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from becalm.sandbox.conductor import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL = Path(__file__).parents[1] / "install-debian"


def _programs() -> Path:
    """Return the folder of the newest installed server's programs, installing one where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        subprocess.run([INSTALL, "postgresql"], check=True)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent


def _as_postgres() -> list[str]:
    """The server refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"] if os.geteuid() == 0 else []


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server with its data in a temporary folder; yield SQLAlchemy's URL of an empty database for Airflow."""
    programs, prefix, port = _programs(), _as_postgres(), free_port()
    data = Path(tempfile.mkdtemp(prefix="becalm-postgresql-"))
    if prefix:
        account = pwd.getpwnam("postgres")
        os.chown(data, account.pw_uid, account.pw_gid)

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    run(str(programs / "initdb"), "-D", str(data), "-U", "airflow", "-A", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c max_connections=200"
    run(str(programs / "pg_ctl"), "-D", str(data), "-o", options, "-l", str(data / "server.log"), "-w", "start")
    try:
        run(str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "airflow")
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        run(str(programs / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
        shutil.rmtree(data)
