"""Bulk runs beside the ceiling, in turns within one run; and their memory as they grow.

    python -m tests.benchmarks.bulk PHOTOS                  # photos a second, ratios
    python -m tests.benchmarks.bulk PHOTOS --memory 20000   # resident memory along one long run
    python -m tests.benchmarks.bulk tests/photos --memory 1000000 --tiny --kill 3

The ceiling is decoding and the model on every core in this process, with nothing made of the
answers. Where other work shares the machine, the CPU time of a photo is the steadier figure.
What a million rows take is seen in minutes with `--tiny`: a model and photos of next to no size.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from service.bulk.cluster import LOCAL, connected
from service.bulk.columns import schema
from service.bulk.inputs import Inputs
from service.bulk.local import Station, on_this_machine
from service.bulk.merged import merge
from service.bulk.parts import clear, write_part
from service.bulk.plan import Asked, make_plan, model_of
from service.bundle import Bundle, read_bundle
from service.classifier import Classifier
from service.preprocess import decode
from service.settings import load_settings
from tests.tiny_bundle import write_bundle
from tests.tiny_graph import SIZE

CHUNK = 128  # smaller than by default, so that a short run has several
Way = Callable[[], None]


def main() -> None:
    """Compare, or watch the memory of one long run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="a folder")
    parser.add_argument("--bundle", type=Path, default=Path("models/refuse/2"))
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0, help="photos; the folder's are repeated")
    parser.add_argument("--kill", type=int, default=0, help="times that the long run is killed")
    parser.add_argument("--tiny", action="store_true", help="a model and photos of 32 px")
    asked = parser.parse_args()
    photos = [os.fsdecode(path) for path in Inputs([str(asked.photos)]).paths()]
    random.Random(0).shuffle(photos)
    with tempfile.TemporaryDirectory() as name:
        bundle = asked.bundle
        if asked.tiny:
            bundle, photos = write_bundle(Path(name)), shrunk(photos, Path(name))
        if asked.memory:
            watch(photos, bundle, asked.memory, asked.kill)
        else:
            compare(photos[: asked.count], bundle, asked.rounds)


def shrunk(photos: Sequence[str], folder: Path) -> list[str]:
    """Copies of a few kilobytes."""
    copies = []
    for index, photo in enumerate(photos):
        copy = folder / f"{index}.jpg"
        with Image.open(photo) as image:
            image.convert("RGB").resize((SIZE, SIZE)).save(copy)
        copies.append(str(copy))
    return copies


def compare(photos: list[str], path: Path, rounds: int) -> None:
    """A table of photos a second and CPU time, the median of rounds in turns."""
    bundle = read_bundle(path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways = all_ways(photos, bundle, folder, stack)
        for way in ways.values():
            way()  # warm
        wall: dict[str, list[float]] = {name: [] for name in ways}
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                started, busy = time.perf_counter(), time.process_time()
                way()
                wall[name].append((time.perf_counter() - started) / len(photos))
                cpu[name].append((time.process_time() - busy) / len(photos))
    print(f"{bundle.id}, {len(photos)} photos, median of {rounds} rounds, {os.cpu_count()} cores")
    for name in ways:
        rate = 1 / statistics.median(wall[name])
        told = f"{name:28} {rate:7.1f} photos/s, {ratio(wall, name):.3f} of the ceiling"
        if name != RAY:
            own = 1000 * statistics.median(cpu[name])
            told += f"; {own:6.2f} ms CPU a photo, {ratio(cpu, name):.3f}"
        print(told)


CEILING, BULK, RAY, LOOP = "ceiling", "bulk, one process", "bulk, Ray local", "a loop by hand"


def ratio(seconds: dict[str, list[float]], name: str) -> float:
    """Of the ceiling's seconds to this way's, round by round."""
    pairs = zip(seconds[CEILING], seconds[name], strict=True)
    return statistics.median(ceiling / one for ceiling, one in pairs)


def all_ways(photos: list[str], bundle: Bundle, folder: Path, stack: ExitStack) -> dict[str, Way]:
    """Each opened and ready to go."""
    settings = load_settings(models_dir=bundle.path.parent.parent, model=bundle.id)
    (folder / "list").write_text("\n".join(photos))
    asked = Asked(Inputs([str(folder / "list")]), model_of(bundle, None), settings, CHUNK)
    plan = make_plan(asked, folder)
    station = Station(bundle.path, settings)

    def finish(tables: Iterator[tuple[int, pa.Table]]) -> None:
        for chunk, rows in tables:
            write_part(folder, plan, chunk, rows)
        merge(folder, plan, schema(bundle.manifest.superclasses), folder / "out")

    def bulk() -> None:
        finish(on_this_machine(station, plan, folder, plan.chunks, (), unseen))

    ways: dict[str, Way] = {
        CEILING: ceiling(photos, bundle, settings.threads),
        BULK: bulk,
        LOOP: loop(photos, bundle, folder / "loop"),
    }
    if find_spec("ray") is None:
        print("without Ray: the extra `ray` is not installed")
        return ways
    cluster = stack.enter_context(connected(LOCAL, bundle.path, plan, settings))
    ways[RAY] = lambda: finish(cluster.tables(plan, folder, plan.chunks, (), unseen))
    return ways


def unseen(photos: int, bad: int) -> None:
    """No progress bar."""


def ceiling(photos: Sequence[str], bundle: Bundle, threads: int) -> Way:
    """Decoding and the model, a photo on each core."""
    session = Classifier(bundle, threads=1)

    def one(photo: str) -> None:
        pixels = decode(Path(photo).read_bytes(), bundle.manifest.preprocessing)
        session.run(pixels[np.newaxis])

    def way() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(one, photos):
                pass

    return way


def loop(photos: Sequence[str], bundle: Bundle, out: Path) -> Way:
    """What one writes in five minutes: photo by photo, a session with its defaults."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(bundle.model_path()), options)
    spec = bundle.manifest.preprocessing

    def way() -> None:
        rows = []
        for photo in photos:
            image = Image.open(photo).convert("RGB").resize((spec.width, spec.height))
            (found,) = session.run(["probabilities"], {"images": np.asarray(image)[np.newaxis]})
            rows.append({"path": photo, "probabilities": found[0].tolist()})
        pq.write_table(pa.Table.from_pylist(rows), out)

    return way


def watch(photos: Sequence[str], path: Path, count: int, kills: int) -> None:
    """Resident memory of the command at each tenth of its parts; killed, it is begun again."""
    chunk = max(1, min(2048, count // 20))
    chunks = -(-count // chunk)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = (photos[i % len(photos)] for i in range(count))
        (folder / "list").write_text("\n".join(map(os.path.abspath, listed)))
        command = "from service.cli import main; main()"
        given = ["classify", "list", "--out", "out.parquet", "--chunk", str(chunk)]
        given += ["--models-dir", str(path.parent.parent.resolve())]
        given += ["--model", f"{path.parent.name}/{path.name}"]
        variables = os.environ | {"PYTHONPATH": str(Path.cwd())}
        ends = [chunks * (kill + 1) // (kills + 1) for kill in range(kills)]
        started = time.monotonic()
        for end in [*ends, chunks + 1]:
            with subprocess.Popen(
                [sys.executable, "-c", command, *given], cwd=folder, env=variables
            ) as process:
                follow(process, folder / "out.parquet.parts", chunks, end)
        seconds = time.monotonic() - started
        rows = pq.read_metadata(folder / "out.parquet").num_rows
        size = (folder / "out.parquet").stat().st_size
        print(f"{rows:,} rows of {size / 1e6:,.0f} MB, {count / seconds:,.0f} photos/s")
        clear(folder / "out.parquet.parts")


def follow(process: subprocess.Popen[bytes], parts: Path, chunks: int, end: int) -> None:
    """Print a line at each tenth; kill it once `end` parts are there."""
    done = len(list(parts.glob("*.parquet")))
    next_tenth = 10 * done // chunks + 1
    most = 0
    while process.poll() is None:
        done = len(list(parts.glob("*.parquet")))
        most = max(most, memory(process.pid, "VmHWM"))
        if 10 * done >= next_tenth * chunks:
            resident = memory(process.pid, "VmRSS")
            print(f"{done} of {chunks} parts: {resident} MB resident, {most} at most", flush=True)
            next_tenth = 10 * done // chunks + 1
        if done >= end:
            process.kill()
            print(f"killed after {done} parts", flush=True)
            return
        time.sleep(0.2)
    print(f"ended with {process.returncode}, {most} MB at most", flush=True)


def memory(pid: int, field: str) -> int:
    """In MB, as the kernel counts it; 0 once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1000 for line in lines if line.startswith(field)), 0)


if __name__ == "__main__":
    main()
