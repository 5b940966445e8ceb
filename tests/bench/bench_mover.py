"""The mover against restic: the same files, the same S3 server, in turns. Prints a table, and JSON on the last line.

    AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… python tests/bench/bench_mover.py --size 1024 --rounds 3

Each round backs the files up into an empty repository with each of the two, then once more unchanged, and restores them. Both
run as processes of their own; memory is the most that the process ever held. Ratios above one mean that Becalm was better.
"""

# ruff: noqa: PLC0415, PTH123  (what is measured is imported after the arguments are read)

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from random import Random

PASSWORD = "bench"
MEBIBYTE = 1 << 20


def make_files(root: Path, mebibytes: int) -> None:
    """Fill a folder: a third each of small files, of middle-sized ones and of large ones; half of the data can be compressed."""
    random = Random(1)
    words = [random.randbytes(random.randrange(3, 10)).hex().encode() for _ in range(4000)]
    share = mebibytes * MEBIBYTE // 3
    _fill(root / "small", random, words, share, lambda: int(random.lognormvariate(9.2, 1.2)))
    _fill(root / "middle", random, words, share, lambda: random.randrange(256 << 10, 8 << 20))
    _fill(root / "large", random, words, share, lambda: min(share, 128 * MEBIBYTE))


def _fill(folder: Path, random: Random, words: list[bytes], total: int, size_of) -> None:
    number = 0
    while total > 0:
        size = min(max(1, size_of()), total)
        place = folder / f"{number % 40}" / f"{number // 40 % 20}"
        place.mkdir(parents=True, exist_ok=True)
        with open(place / f"file-{number}", "wb") as file:
            left = size
            while left > 0:
                piece = min(left, MEBIBYTE)
                file.write(random.randbytes(piece) if number % 2 else _text(random, words, piece))
                left -= piece
        total -= size
        number += 1


def _text(random: Random, words: list[bytes], size: int) -> bytes:
    return b" ".join(random.choices(words, k=size // 8 + 1))[:size].ljust(size, b"\n")


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float, float]:
    """Run a command; return its seconds, its processor seconds and its largest memory in MiB."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        if process.returncode:
            sink.seek(0)
            raise SystemExit(f"{command} failed: {sink.read()[-2000:].decode(errors='replace')}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Becalm:
    """The mover, as its pod would run it."""

    name = "becalm"

    def __init__(self, url: str, credentials: dict[str, str], work: Path) -> None:
        from becalm.repository.reader import init_repository
        from becalm.storage import open_store

        self._url, self._work = url, work
        self._secrets = work / f"secrets-{uuid.uuid4().hex}"
        self._secrets.mkdir()
        for name, value in {**credentials, "password": PASSWORD}.items():
            (self._secrets / name).write_text(value)
        self._store = open_store(url, credentials)
        init_repository(self._store, PASSWORD)
        self._tree = ""

    def _run(self, volume: Path, **spec: object) -> tuple[float, float, float]:
        from becalm.model import Direction, MoverResult, MoverSpec, VolumeRef, from_payload, payload
        from becalm.repository.format import Layout

        given = MoverSpec(
            name=f"m{uuid.uuid4().hex[:8]}",
            run="bench",
            direction=Direction(spec.pop("direction")),
            volume=VolumeRef(namespace="bench", claim="data"),
            namespace="bench",
            claim="data",
            repository=self._url,
            secret="none",
            stable_inodes=True,
            **spec,
        )
        environment = {
            "PATH": os.environ["PATH"],
            "BECALM_MOVER_SPEC": json.dumps(payload(given)),
            "BECALM_SECRET_DIR": str(self._secrets),
            "BECALM_VOLUME": str(volume),
            "BECALM_TERMINATION": str(self._work / "termination"),
        }
        measured = timed([sys.executable, "-m", "becalm.mover"], environment)
        result = from_payload(MoverResult, json.loads(self._store.get(Layout.run_result("bench", given.name))))
        assert not result.error, result.error
        assert not result.unreadable, result.unreadable
        self._tree = result.tree
        return measured

    def back_up(self, volume: Path) -> tuple[float, float, float]:
        """Back up; the second time with the first as the parent."""
        return self._run(volume, direction="back-up", parent=self._tree)

    def restore(self, target: Path) -> tuple[float, float, float]:
        """Restore what was backed up last."""
        return self._run(target, direction="restore", tree=self._tree)


class Restic:
    """The restic command."""

    name = "restic"

    def __init__(self, program: str, url: str, credentials: dict[str, str], work: Path) -> None:
        bucket = url.removeprefix("s3://")
        where = f"s3:{credentials['AWS_ENDPOINT_URL']}/{bucket}" if url.startswith("s3://") else url.removeprefix("file://")
        self._command = [program, "-r", where, "--quiet"]
        self._environment = {
            **credentials,
            "PATH": os.environ["PATH"],
            "HOME": str(work / f"home-{uuid.uuid4().hex}"),
            "RESTIC_PASSWORD": PASSWORD,
        }
        timed([*self._command, "init"], self._environment)

    def back_up(self, volume: Path) -> tuple[float, float, float]:
        """Back up; restic finds its parent by itself."""
        return timed([*self._command, "backup", str(volume)], self._environment)

    def restore(self, target: Path) -> tuple[float, float, float]:
        """Restore the latest."""
        return timed([*self._command, "restore", "latest", "--target", str(target)], self._environment)


def drop(client, bucket: str) -> None:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
        if keys:
            client.delete_objects(Bucket=bucket, Delete={"Objects": keys})
    client.delete_bucket(Bucket=bucket)


def round_of(
    number: int, *, restic: str, credentials: dict[str, str], files: Path, work: Path, client
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Measure both once; who begins changes with every round."""
    measured: dict[str, dict[str, tuple[float, float, float]]] = {"backup": {}, "unchanged": {}, "restore": {}}
    pairs = []
    for kind in ("becalm", "restic"):
        bucket = f"bench-{kind}-{uuid.uuid4().hex[:8]}"
        client.create_bucket(Bucket=bucket)
        url = f"s3://{bucket}/repository"
        pairs.append((bucket, Becalm(url, credentials, work) if kind == "becalm" else Restic(restic, url, credentials, work)))
    pairs = pairs[:: -1 if number % 2 else 1]
    try:
        for what in ("backup", "unchanged", "restore"):
            for _, subject in pairs:
                target = work / f"target-{subject.name}"
                target.mkdir(exist_ok=True)
                measured[what][subject.name] = subject.restore(target) if what == "restore" else subject.back_up(files)
                shutil.rmtree(target)
    finally:
        for bucket, _ in pairs:
            drop(client, bucket)
    return measured


def variables() -> dict[str, str]:
    """Return how the S3 server is reached, as the environment says it."""
    return {name: os.environ[name] for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}


def find_restic() -> str | None:
    """Return the restic to compare with: the one that RESTIC names, or the installed one."""
    return os.environ.get("RESTIC") or shutil.which("restic")


def compare(*, size: int, rounds: int, restic: str, work: Path | None = None) -> dict:
    """Measure both in turns; return the medians, and the ratio of the seconds for each of the three works."""
    import boto3

    credentials = variables()
    client = boto3.client(
        "s3",
        endpoint_url=credentials["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id=credentials["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=credentials["AWS_SECRET_ACCESS_KEY"],
    )
    with tempfile.TemporaryDirectory(dir=work) as folder:
        place = Path(folder)
        files = place / "files"
        make_files(files, size)
        count = sum(len(names) for _, _, names in os.walk(files))
        measured = [
            round_of(number, restic=restic, credentials=credentials, files=files, work=place, client=client) for number in range(rounds)
        ]
    found: dict = {"size_mebibytes": size, "files": count, "rounds": rounds}
    for what in ("backup", "unchanged", "restore"):
        found[what] = {
            name: dict(
                zip(
                    ("seconds", "cpu", "memory"),
                    (statistics.median(one[what][name][index] for one in measured) for index in range(3)),
                    strict=True,
                )
            )
            for name in ("becalm", "restic")
        }
        ratios = [one[what]["restic"][0] / one[what]["becalm"][0] for one in measured]
        found[what] |= {"ratio": round(statistics.median(ratios), 2), "ratios": [round(ratio, 2) for ratio in ratios]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of files")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--restic", default=find_restic())
    parser.add_argument("--work", type=Path, default=None, help="a folder with room for three times the size")
    given = parser.parse_args()
    found = compare(size=given.size, rounds=given.rounds, restic=given.restic, work=given.work)
    print(f"{given.size} MiB in {found['files']} files, {os.cpu_count()} processors, {given.rounds} rounds, load {os.getloadavg()[0]:.1f}")
    print(f"{'':10} {'':8} {'seconds':>9} {'MiB/s':>8} {'cpu s':>8} {'peak MiB':>9}")
    for what in ("backup", "unchanged", "restore"):
        for name in ("becalm", "restic"):
            one = found[what][name]
            print(f"{what:10} {name:8} {one['seconds']:9.2f} {given.size / one['seconds']:8.0f} {one['cpu']:8.2f} {one['memory']:9.0f}")
        print(f"{'':10} ratio {found[what]['ratio']:.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
