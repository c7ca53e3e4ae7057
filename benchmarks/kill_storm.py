"""SIGKILLs at random instants over all processes of a build: the same command must end in the same bytes.

    python benchmarks/kill_storm.py [--kills 200] [--engine raycast|cycles] [--scenes 24] [--pause S] [--seed 11]

First a build is left alone. Then builds of the same spec are struck: after a random pause a kind of process is drawn,
by the kills that each kind still has to take, and one process of that kind, as soon as there is one, gets SIGKILL: the
driver, an actor, a packer, and with `--engine cycles` one of Blender's renderers. When the driver was struck, the same
command is run again, at once, as its user would. Each build that ends is compared with the undisturbed one, byte by
byte, and the storm goes on in a new folder until all kills are dealt. Every failure on record must be a transient one
of the first attempt. Exits with 1 where a byte differs, a build fails, or a kind of process was never struck.
"""

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil
from small_builds import RAY_CAST, folder_for, kind_of, processes, promised_bytes, small_lock, start

from randscene import seeding
from randscene.generator.failures import read_failures
from randscene.shards.store import open_store

SHARES = {
    "raycast": {"driver": 0.2, "actor": 0.5, "packer": 0.3},
    "cycles": {"driver": 0.15, "actor": 0.3, "packer": 0.2, "renderer": 0.35},
}
"""Of all kills, by engine; each death of a driver costs a start of Ray."""
PATIENCE_S = 8.0
"""How long to lie in wait for a process of the kind that was drawn before another is drawn."""
LOOK_S = 0.25
"""How often to look for new processes. A packer packs for a fraction of a second: those that are known are looked at
every millisecond."""
PACK_S = 0.06
"""A packer is struck within so long of its beginning; one that was done by then does not count."""
PAUSE_S = {"raycast": 0.45, "cycles": 1.5}
"""Mean pause by engine: a renderer that dies six times at the same attempt has its scene planned anew."""
TRANSIENT = {"actor_died", "worker_died"}
"""Reasons that a killed actor and a killed renderer leave on record."""


class Storm:
    """Strikes the processes of a build. Counts what it struck."""

    def __init__(self, shares: Mapping[str, float], kills: int, pause: float, seed: int) -> None:
        self.struck = dict.fromkeys(shares, 0)
        others = {kind: round(share * kills) for kind, share in list(shares.items())[1:]}
        self._due = {next(iter(shares)): kills - sum(others.values()), **others}
        self._pause = pause
        self._chance = seeding.generator(seed, "kill storm")

    @property
    def left(self) -> int:
        """Kills that are yet to be dealt."""
        return sum(self._due.values())

    def strike(self, process: subprocess.Popen[str]) -> None:
        """Wait a random while, then for a process of a drawn kind, and kill it; or do nothing when none comes."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self._chance.uniform(0.05, 2 * self._pause))
        kinds, due = list(self._due), np.array(list(self._due.values()), float)
        kind = str(self._chance.choice(kinds, p=due / due.sum()))
        until = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < until:
            target = self._find(kind, process.pid)
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if target is None:
                    continue
                if kind == "packer":
                    time.sleep(self._chance.uniform(0, PACK_S))
                if is_target(target, kind, process.pid):
                    target.kill()
                    self.struck[kind] += 1
                    self._due[kind] -= 1
                    return

    def _find(self, kind: str, driver: int) -> psutil.Process | None:
        """A process of a kind, of packers one that packs; looks for `LOOK_S`."""
        found = list(processes(driver))
        if all(name != "actor" for name, _ in found):
            return None  # a driver that has no actor yet has done nothing that could be lost
        until = time.monotonic() + LOOK_S
        while True:
            targets = [target for name, target in found if name == kind and is_target(target, kind, driver)]
            if targets:
                return targets[int(self._chance.integers(len(targets)))]
            if kind != "packer" or time.monotonic() > until:
                return None
            time.sleep(0.001)


def is_target(process: psutil.Process, kind: str, driver: int) -> bool:
    """Whether a process is of a kind, and if a packer, at work."""
    try:
        at_work = kind != "packer" or process.cmdline()[0].startswith("ray::BlockPacker.pack")
        return at_work and kind_of(process, driver) == kind
    except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--engine", choices=("raycast", "cycles"), default="raycast")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--views", type=int, default=12)
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pause", type=float, help="mean seconds between two strikes")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--folder", type=Path, help="keep lock, datasets and what the builds said here")
    args = parser.parse_args()
    assignments = [
        *RAY_CAST,
        f"render.engine={args.engine}",
        f"splits.train.scenes={args.scenes}",
        f"cameras.views={args.views}",
        f"render.resolution={args.resolution}",
        "layout.objects=[2, 4]",
        "shards.scenes_per_shard=4",
        "scene_glb=[train]",
        "render.samples=4",
    ]
    storm = Storm(SHARES[args.engine], args.kills, args.pause or PAUSE_S[args.engine], args.seed)
    with folder_for(args.folder) as folder:
        lock = small_lock(folder)
        begun = time.monotonic()
        with open(folder / "calm.txt", "w") as words:
            if start(lock, folder / "calm", args.workers, assignments, words=words).wait():
                raise SystemExit(f"the undisturbed build failed:\n{(folder / 'calm.txt').read_text()[-2000:]}")
        calm, wanted = time.monotonic() - begun, promised_bytes(folder / "calm")
        print(f"undisturbed: {args.scenes} scenes, {len(wanted)} files in {calm:.0f} s", flush=True)
        builds, recorded = 0, Counter[str]()
        begun = time.monotonic()
        while storm.left > 0:
            root = folder / f"stormy-{builds}"
            weather(storm, lock, root, args.workers, assignments)
            builds += 1
            if promised_bytes(root) != wanted:
                raise SystemExit(f"build {builds} is not that of the undisturbed one: {differing(root, wanted)}")
            for failure in read_failures(open_store(root)):
                recorded[failure.reason] += 1
                if failure.attempt or not failure.transient or failure.reason not in TRANSIENT:
                    raise SystemExit(f"build {builds}: scene {failure.scene} failed otherwise: {failure}")
            told = ", ".join(f"{kind} {count}" for kind, count in storm.struck.items())
            print(f"build {builds:>3}: the same {len(wanted)} files; killed so far: {told}", flush=True)
            shutil.rmtree(root)
        report(storm, builds, recorded, time.monotonic() - begun)
    sys.exit(min(storm.struck.values()) == 0)


def weather(storm: Storm, lock: Path, root: Path, workers: int, assignments: Sequence[str]) -> None:
    """Make one build under the storm, run again after every death of its driver."""
    while True:
        with open(f"{root}.txt", "a") as words:
            process = start(lock, root, workers, assignments, words=words)
            try:
                while process.poll() is None and storm.left > 0:
                    storm.strike(process)
                code = process.wait()
            finally:
                process.kill()
        if code == 0:
            return
        if code != -signal.SIGKILL:
            raise SystemExit(f"a build ended with {code}:\n{Path(f'{root}.txt').read_text()[-2000:]}")


def differing(root: Path, wanted: dict[str, str]) -> list[str]:
    found = promised_bytes(root)
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def report(storm: Storm, builds: int, recorded: Counter[str], seconds: float) -> None:
    print(f"\n{'killed':<12}{'times':>8}")
    for kind, count in storm.struck.items():
        print(f"{kind:<12}{count:>8}")
    print(f"{'all':<12}{sum(storm.struck.values()):>8}")
    failures = ", ".join(f"{reason} {count}" for reason, count in recorded.most_common()) or "none"
    print(f"{builds} builds in {seconds:.0f} s, each with the undisturbed one's bytes; failures on record: {failures}")


if __name__ == "__main__":
    main()
