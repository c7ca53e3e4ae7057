"""Train and measure a study's runs side by side on the cards of one host.

    python benchmarks/study_on_one_host.py STUDY.yaml --out OUT [--cards 4] [--training 4] [--workers 4]

A small model's run leaves most of a card idle between its kernels, and its predictions are scored on processor cores.
So every unit is a `randscene scaling --part` of its own: at most --training of them train on a card, while those that
have trained are measured beside them. Units of the first seed come first, so that a call that is ended early leaves
whole seeds behind; the same call goes on.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from randscene.train.scaling_plan import StudyFolder
from randscene.train.scaling_study import load_study
from randscene.train.scaling_units import Unit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cards", type=int, default=max(torch.cuda.device_count(), 1))
    parser.add_argument("--training", type=int, default=4, help="units that train on a card at a time")
    parser.add_argument("--workers", type=int, default=4, help="scenes that a unit scores at a time")
    args = parser.parse_args()
    folder = StudyFolder(load_study(args.study), args.out)
    units = folder.plan().units
    parts, left = len(units), sum(not unit.done for unit in units)
    waiting = [
        (number, mine)
        for number in range(1, parts + 1)
        if (mine := [unit for unit in folder.plan((number, parts)).mine if not unit.done])
    ]
    waiting.sort(key=lambda part: part[1][0].seed)
    (args.out.parent / f"{args.out.name}-logs").mkdir(parents=True, exist_ok=True)
    training: dict[int, list[tuple[subprocess.Popen[bytes], list[Unit]]]] = {card: [] for card in range(args.cards)}
    measuring: list[tuple[subprocess.Popen[bytes], list[Unit]]] = []
    begun, failed = time.monotonic(), 0

    def tell(what: str, mine: list[Unit]) -> None:
        print(f"{time.monotonic() - begun:.0f} s: {what} {', '.join(unit.name for unit in mine)}", flush=True)

    print(f"{left} runs to make or measure, {args.training} at a time on {args.cards} cards", flush=True)
    while waiting or measuring or any(training.values()):
        for card, there in training.items():
            for one in list(there):
                trained = all(is_trained(folder, unit) for unit in one[1])
                if trained or one[0].poll() is not None:
                    there.remove(one)
                    measuring.append(one)
                if trained:
                    tell("trained", one[1])
            if waiting and len(there) < args.training and len(there) == min(map(len, training.values())):
                number, mine = waiting.pop(0)
                there.append((start(args, number, parts, card, mine), mine))
        for one in [one for one in measuring if one[0].poll() is not None]:
            measuring.remove(one)
            failed += one[0].returncode != 0
            tell("done" if one[0].returncode == 0 else f"ended with {one[0].returncode}:", one[1])
        time.sleep(0.3)
    return 1 if failed else 0


def is_trained(folder: StudyFolder, unit: Unit) -> bool:
    return (folder.run(unit) / "checkpoints" / f"step_{unit.steps:07d}" / "state.json").exists()


def start(args: argparse.Namespace, number: int, parts: int, card: int, mine: list[Unit]) -> "subprocess.Popen[bytes]":
    """One part in a process of its own, its output in a file beside OUT."""
    command = [sys.executable, "-m", "randscene.cli.main", "scaling", str(args.study), "--out", str(args.out)]
    command += ["--part", f"{number}/{parts}", "--workers", str(args.workers)]
    # Many processes: each with a thread, and few that compile.
    own = {"CUDA_VISIBLE_DEVICES": str(card), "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    with open(args.out.parent / f"{args.out.name}-logs" / f"{mine[0].name}.log", "ab") as log:
        return subprocess.Popen(command, env={**os.environ, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


if __name__ == "__main__":
    sys.exit(main())
