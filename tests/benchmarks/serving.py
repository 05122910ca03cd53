"""Superbin beside LitServe, BentoML and a server written by hand: the same graph, the same photos.

Each server in turn, and all of them again in the next round; the median over rounds is shown. The
load comes from wrk (Debian's package). LitServe and BentoML live in an environment of their own:

    python3 -m venv .rivals
    .rivals/bin/pip install litserve bentoml onnxruntime pillow
    .venv/bin/python -m tests.benchmarks.serving --rivals .rivals/bin/python
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from service.bundle import read_bundle
from service.classifier import Classifier
from service.preprocess import decode
from tests.benchmarks.gpu import busy

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "models" / "refuse" / "4"
RIVALS = "tests.benchmarks.rivals"
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 60.0


@dataclass(frozen=True)
class Contender:
    """A server: how it is started, where it takes photos, and what tells that it is up."""

    name: str
    command: tuple[str, ...]
    route: str
    health: str
    environment: tuple[tuple[str, str], ...]


def contenders(bundle: Path, rivals: str | None, devices: list[str], port: int) -> list[Contender]:
    theirs = (("BENCHMARK_BUNDLE", str(bundle)),)
    ours = (  # the same
        ("SUPERBIN_MODELS_DIR", str(bundle.parent.parent)),
        ("SUPERBIN_MODEL", f"{bundle.parent.name}/{bundle.name}"),
        ("SUPERBIN_LOG_LEVEL", "warning"),
    )
    found = [
        Contender(
            f"superbin, {device}",
            (sys.executable, "-m", "service", "--port", str(port), "--device", device),
            "/v1/classify",
            "/readyz",
            ours,
        )
        for device in devices
    ]
    hand = (sys.executable, "-m", f"{RIVALS}.hand_written", str(port))
    found.append(Contender("written by hand", hand, "/predict", "/health", theirs))
    if rivals:
        lit = (rivals, "-m", f"{RIVALS}.litserve_app", str(port))
        found.append(Contender("LitServe", lit, "/predict", "/health", theirs))
        app = f"{RIVALS}.bentoml_app:Bin"
        bento = (rivals, "-m", "bentoml", "serve", app, "--port", str(port))
        quiet = (*theirs, ("BENTOML_DO_NOT_TRACK", "True"))
        found.append(Contender("BentoML", bento, "/predict", "/readyz", quiet))
    return found


@contextmanager
def started(contender: Contender, port: int, log: Path) -> Iterator[int]:
    """The process of a server that answers."""
    environment = os.environ | dict(contender.environment)
    with log.open("wb") as out:
        process = subprocess.Popen(
            contender.command,
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + START_S
        while not _answers(f"http://127.0.0.1:{port}{contender.health}"):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{contender.name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield process.pid
    finally:
        family = _family(process.pid)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for orphan in family:
            with suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _family(leader: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        fields = _stat(int(file.parent.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(file.parent.name))
    family = [leader]
    for process in family:  # grows while it is gone through
        family += children.get(process, [])
    return family


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none for a process that has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_seconds(leader: int) -> float:
    """Of a process and all that descend from it, so far."""
    stats = [fields for process in _family(leader) if (fields := _stat(process))]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) * TICK_S


def load(url: str, photos: list[Path], connections: int, seconds: int) -> dict[str, Any]:
    """What wrk measured."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(ROOT / "tests" / "benchmarks" / "load.lua"), url]
    environment = os.environ | {"PHOTOS": ":".join(map(str, photos))}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


def measure(
    contender: Contender, port: int, photos: list[Path], connections: int, seconds: int, log: Path
) -> dict[str, float]:
    """Answers a second, latency in milliseconds, CPU milliseconds per answer, GPUs' busy share."""
    url = f"http://127.0.0.1:{port}{contender.route}"
    with started(contender, port, log) as leader:
        load(url, photos, connections, 2)  # warm
        before = cpu_seconds(leader)
        with busy() as shares:
            found = load(url, photos, connections, seconds)
        cpu_s = cpu_seconds(leader) - before
    answered = found["requests"] - found["refused"]
    return {
        "rate": answered / found["seconds"],
        "p50": found["p50_ms"],
        "p99": found["p99_ms"],
        "cpu": 1000 * cpu_s / max(answered, 1),
        "bad": found["refused"] + found["failed"],
        "gpu": statistics.mean(shares) if shares else math.nan,
    }


def ceiling(
    folder: Path, photos: list[Path], seconds: float, workers: int, threads: int
) -> dict[str, float]:
    """Decode and run in this process, photo by photo, without any HTTP.

    Args:
        workers: that do so beside each other, each with a session of its own.
        threads: of each session.
    """
    bundle = read_bundle(folder)
    classifiers = [Classifier(bundle, threads=threads) for _ in range(workers)]
    for classifier in classifiers:
        classifier.time_batch(1)
    data = [photo.read_bytes() for photo in photos]
    times: list[float] = []
    end = time.perf_counter() + seconds

    def work(classifier: Classifier) -> None:
        turn = 0
        while (began := time.perf_counter()) < end:
            pixels = decode(data[turn % len(data)], bundle.manifest.preprocessing)
            classifier.run(pixels[np.newaxis])
            times.append(time.perf_counter() - began)
            turn += 1

    cpu, began = time.process_time(), time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, classifiers))
    cpu, took = time.process_time() - cpu, time.perf_counter() - began
    return {
        "rate": len(times) / took,
        "p50": 1000 * statistics.median(times),
        "p99": 1000 * float(np.percentile(times, 99)),
        "cpu": 1000 * cpu / len(times),
        "bad": 0,
        "gpu": math.nan,
    }


def make_photos(folder: Path) -> dict[str, list[Path]]:
    """TrashNet's size (512 x 384) and twelve megapixels (enlarged)."""
    found: dict[str, list[Path]] = {"512x384": [], "12 megapixels": []}
    for photo in sorted((ROOT / "tests" / "photos").glob("*.jpg")):
        for name, size in (("512x384", (512, 384)), ("12 megapixels", (4000, 3000))):
            file = folder / f"{size[0]}-{photo.name}"
            Image.open(photo).resize(size, Image.Resampling.BICUBIC).save(file, quality=92)
            found[name].append(file)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", help="python of the environment with LitServe and BentoML")
    parser.add_argument("--bundle", type=Path, default=BUNDLE, help="whose graph all run")
    parser.add_argument("--device", action="append", help="of Superbin; repeatable")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--photos", nargs="+", default=["512x384", "12 megapixels"])
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="parts of the names of the servers to run")
    asked = parser.parse_args()
    bundle = asked.bundle.resolve()
    port = free_port()
    cores = len(os.sched_getaffinity(0))
    ceilings = [
        (f"in process, 1 x {cores} threads", 1, cores),
        (f"in process, {cores} x 1 thread", cores, 1),
    ]
    everyone = contenders(bundle, asked.rivals, asked.device or ["cpu"], port)
    everyone = [c for c in everyone if not asked.only or any(o in c.name for o in asked.only)]
    with tempfile.TemporaryDirectory() as folder:
        sizes = make_photos(Path(folder))
        for size in asked.photos:
            photos = sizes[size]
            nbytes = statistics.mean(photo.stat().st_size for photo in photos)
            for connections in asked.connections:
                print(f"\n{size} photos of {nbytes / 1000:.0f} kB, {connections} connections")
                rows: dict[str, list[dict[str, float]]] = {}
                for _ in range(asked.rounds):
                    for name, workers, threads in ceilings:
                        found = ceiling(bundle, photos, asked.seconds, workers, threads)
                        rows.setdefault(name, []).append(found)
                    for one in everyone:
                        log = Path(folder) / "log"
                        result = measure(one, port, photos, connections, asked.seconds, log)
                        rows.setdefault(one.name, []).append(result)
                _print(rows, everyone[0].name)


def _print(rows: dict[str, list[dict[str, float]]], base: str) -> None:
    print(f"{'':27} answers/s   ratio   p50 ms   p99 ms   CPU ms/photo   bad   GPU busy")
    ours = statistics.median(row["rate"] for row in rows[base])
    for name, results in rows.items():
        middle = {key: statistics.median(row[key] for row in results) for key in results[0]}
        print(
            f"{name:27} {middle['rate']:9.1f} {ours / (middle['rate'] or math.nan):7.2f} "
            f"{middle['p50']:8.2f} "
            f"{middle['p99']:8.2f} {middle['cpu']:14.2f} {middle['bad']:5.0f} "
            f"{'-' if math.isnan(middle['gpu']) else format(middle['gpu'], '.0%'):>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
