"""The trainer itself on real shards: the full-size model and image encoder, one process a GPU.

    python benchmarks/train_loop.py DATASET [DATASET ...] [--processes 1 2 4] [--groups 8] [--instances 1] [--steps 30]

Weights are random, which costs what trained ones do. A run is started as users start it, through torchrun, and ended
when it has done its steps; the first ones, in which blocks are compiled, are left out. Shown: seconds a step (median,
smallest, largest), views a second over all GPUs against that many times one GPU's, the share of a step that the
process waited for data, model-TFLOP/s of a GPU (of the flow transformer alone: the frozen image encoder works beside),
and the largest memory that a GPU had reserved.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LEFT_OUT = 8
"""First steps, in which blocks are compiled and kernels are chosen."""
POLL_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--groups", type=int, default=8, help="of a step and process")
    parser.add_argument("--instances", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30, help="that count")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--set", action="append", default=[], help="as randscene train takes it")
    parser.add_argument("--patience", type=float, default=300, help="seconds for one run")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    alone: float | None = None
    for processes in args.processes:
        row = measure(args, processes)
        rate = args.groups * processes / float(str(row["seconds"]))
        alone = alone or rate / processes
        row |= {"views_per_s": rate, "of_linear": rate / (alone * processes)}
        rows.append(row)
        print(
            f"{processes} x {row['device']}: {row['seconds']:.3f} s a step ({row['least']:.3f} to {row['most']:.3f}), "
            f"{rate:.2f} views/s, {100 * rate / (alone * processes):.1f} % of linear, "
            f"{100 * float(str(row['waited'])):.2f} % waiting for data, {row['model_tflops_per_s']:.0f} model-TFLOP/s, "
            f"{row['memory_gib']} GiB; {row['plan']}",
            flush=True,
        )
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


def measure(args: argparse.Namespace, processes: int) -> dict[str, object]:
    """One run of so many processes."""
    folder = Path(tempfile.mkdtemp(prefix="randscene-train-loop-"))
    run = folder / "run"
    settings = [
        "init=",
        "conditioner.source=random",
        f"data.encoder={args.encoder}",
        f"data.scenes_per_step={args.groups * processes}",
        f"data.instances_per_scene={args.instances}",
        f"hardware.groups_at_once={args.groups}",
        "validation.groups=0",
        "validation.pictures=0",
        "checkpoint_every=1000000",
        *args.set,
    ]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *("-m", "randscene.cli.main", "train", *args.data, "--preset", "iscene", "--out", str(run)),
        *(word for setting in settings for word in ("--set", setting)),
    ]
    with open(folder / "words.txt", "w") as words:
        process = subprocess.Popen(command, stdout=words, stderr=subprocess.STDOUT)
        try:
            lines, memory = _wait(process, run / "metrics.jsonl", LEFT_OUT + args.steps, args.patience)
        finally:
            _kill_all(str(run))
            process.wait()
    if len(lines) < LEFT_OUT + args.steps:
        raise SystemExit(f"the run ended early:\n{(folder / 'words.txt').read_text()[-3000:]}")
    counted = lines[LEFT_OUT:]
    seconds = [line["step_s"] for line in counted]
    hardware = json.loads((run / "hardware.json").read_text())
    shutil.rmtree(folder)
    return {
        "processes": processes,
        "device": hardware["device"],
        "groups": args.groups,
        "instances": args.instances,
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "most": max(seconds),
        "waited": sum(line["data_wait_s"] for line in counted) / sum(seconds),
        "model_tflops_per_s": statistics.median(line["model_tflops_per_s"] for line in counted),
        "memory_gib": memory,
        "plan": {name: hardware[name] for name in ("groups_at_once", "compiled", "checkpointing", "attention")},
    }


def _wait(
    process: subprocess.Popen[bytes], metrics: Path, steps: int, patience: float
) -> tuple[list[dict[str, float]], int]:
    """The lines of the run's metrics once there are enough, and the largest use of a GPU's memory meanwhile, GiB."""
    begun, lines, memory = time.monotonic(), [], 0
    while process.poll() is None and time.monotonic() - begun < patience:
        if metrics.exists():
            whole = [line for line in metrics.read_text().splitlines(keepends=True) if line.endswith("\n")]
            lines = [json.loads(line) for line in whole]
        if len(lines) >= steps:
            break
        memory = max(memory, _memory_used())
        time.sleep(POLL_S)
    return lines[:steps], memory


def _kill_all(run: str) -> None:
    """End every process of a run: torchrun gives each of its workers a session of its own."""
    while found := [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if run.encode() in _content(path) and int(path.parent.name) != os.getpid()
    ]:
        for number in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(POLL_S)


def _content(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _memory_used() -> int:
    if shutil.which("nvidia-smi") is None:
        return 0
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return round(max(map(int, told)) / 1024)


if __name__ == "__main__":
    main()
