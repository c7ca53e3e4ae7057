"""Memory of a build's driver and actors over many scenes, which shall stay flat.

    python benchmarks/build_memory.py [--scenes 1000] [--workers 2] [--every 10] [--json FILE] [--plot FILE]

A build of tiny scenes of the fast engine (64 px, three views), in a process of its own. After every tenth scene the
resident (RSS) and the proportional (PSS: shared pages divided by those who share them) memory of its processes is read:
the driver, the actors (the mean of one), and all processes together, Ray's own included. Growth is the slope of a
straight line through the samples after the first fifth, in which caches fill; first and last are the medians of the
first and the last tenth of the samples.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from small_builds import RAY_CAST, processes, small_lock, start

SETTLED = 0.2
"""Share of the scenes after which memory shall not grow any more."""
ROWS = ("driver", "actor", "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--assets", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--every", type=int, default=10, help="scenes between two samples")
    parser.add_argument("--json", type=Path, help="write the samples to this file")
    parser.add_argument("--plot", type=Path, help="draw them to this file")
    args = parser.parse_args()
    assignments = [
        *RAY_CAST,
        f"splits.train.scenes={args.scenes}",
        f"cameras.views={args.views}",
        f"render.resolution={args.resolution}",
        "layout.objects=[2, 4]",
    ]
    with tempfile.TemporaryDirectory(prefix="randscene-benchmark-") as folder:
        lock = small_lock(Path(folder), args.assets)
        samples = watch(lock, Path(folder) / "dataset", assignments, args.workers, args.every)
    if args.json is not None:
        args.json.write_text(json.dumps(samples, indent=1) + "\n")
    report(samples)
    if args.plot is not None:
        plot(samples, args.plot)


def watch(lock: Path, out: Path, assignments: Sequence[str], workers: int, every: int) -> list[dict[str, Any]]:
    """Make the build and return what its processes took after every `every` scenes, MiB."""
    samples: list[dict[str, Any]] = []
    begun, following = time.monotonic(), 0
    process = start(lock, out, workers, assignments)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            state = json.loads(line)
            done = state["scenes_done"]
            if done < following or not state["workers"] or done == state["scenes_total"]:
                continue
            following = done - done % every + every
            samples.append({"scenes": done, "seconds": time.monotonic() - begun, **memory(process.pid)})
            if len(samples) % 10 == 1:
                print(line_of(samples[-1]), flush=True)
        if process.wait():
            raise SystemExit(f"the build ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
    return samples


def memory(driver: int) -> dict[str, Any]:
    """RSS and PSS by row, MiB, and how many processes there are of each kind."""
    rss, pss, count = Counter[str](), Counter[str](), Counter[str]()
    for kind, process in processes(driver):
        try:
            found = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        for row in (kind, "all"):
            rss[row] += found.rss / 2**20
            pss[row] += found.pss / 2**20
            count[row] += 1
    result: dict[str, Any] = {"processes": dict(count)}
    for row in ROWS:
        several = count[row] if row != "all" and count[row] else 1
        result[row] = {"rss": rss[row] / several, "pss": pss[row] / several}
    return result


def line_of(sample: dict[str, Any]) -> str:
    told = ", ".join(f"{row} {sample[row]['rss']:.0f} / {sample[row]['pss']:.0f}" for row in ROWS)
    return f"{sample['scenes']:>6} scenes, {sample['seconds']:>5.0f} s: {told} MiB (RSS / PSS)"


def report(samples: Sequence[dict[str, Any]]) -> None:
    scenes = np.array([sample["scenes"] for sample in samples], float)
    settled = scenes >= SETTLED * scenes[-1]
    tenth = max(1, len(samples) // 10)
    print(f"\n{len(samples)} samples over {scenes[-1]:.0f} scenes; MiB")
    columns = f"{'first tenth':>12}{'last tenth':>12}{'least':>8}{'most':>8}{'a 1,000 scenes':>16}"
    print(f"{'':<14}{columns}  (the last three after the first fifth)")
    for row in ROWS:
        for measure in ("rss", "pss"):
            values = np.array([sample[row][measure] for sample in samples])
            slope = 1000 * np.polyfit(scenes[settled], values[settled], 1)[0]
            first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
            print(
                f"{row + ', ' + measure.upper():<14}{first:>12.1f}{last:>12.1f}{values[settled].min():>8.1f}"
                f"{values[settled].max():>8.1f}{slope:>+16.1f}"
            )
    print(f"{os.cpu_count()} CPUs, {samples[-1]['seconds']:.0f} s, processes at the end: {samples[-1]['processes']}")


def plot(samples: Sequence[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), constrained_layout=True)
    scenes = [sample["scenes"] for sample in samples]
    for row, label in zip(ROWS, ("driver", "one actor", "all processes")):
        axes.plot(scenes, [sample[row]["pss"] for sample in samples], label=f"{label}, PSS")
    axes.set_xlabel("scenes done")
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
