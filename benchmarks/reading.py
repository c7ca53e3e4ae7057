"""Reading and writing shards, beside the public `webdataset` package on the same tars.

    python benchmarks/reading.py [--dataset DIR] [--samples 1000] [--repeats 5] [--workers 0 2] [--json FILE]

Without --dataset, one is built: views at 512 px of scenes of 2 to 12 objects by the fast engine, written again and
again under other keys until there are --copies of each (about 2,500 samples in shards of 16 scenes). Both sides run in
turn in one process, which begins changing with every repeat; each figure is a median with the least and the most.

* raw: the members' bytes, not decoded. Ours through the index, `webdataset` as it streams a tar.
* decoded: arrays. Ours checks every field besides; `webdataset` gets a decoder for each member, as its manual says.
* shuffled: ours by random access in a permutation of everything; `webdataset` through its shuffle buffer of 1,000.
* loader: shuffled, decoded batches of 16 through a `DataLoader` (`torch_loader`, `WebLoader`), their pictures and ids
  stacked to tensors where they are read; and as lists of samples, whose arrays are copied through a pipe.
* cold: the tars are dropped from the page cache before.
* write: members into one tar. Ours hashes, writes the index and waits for the disk (fsync) before it renames; the plain
  `TarWriter` does neither, so it is measured with an fsync and a hash besides too.
* resume: from opening the dataset until the first batch of a run that goes on near the end of an epoch. `webdataset`
  must pass by what was read, which is done before decoding.

Then microseconds of decoding by member. Processor seconds include those of reading processes.
"""

import argparse
import hashlib
import itertools
import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image
from reading_dataset import copied_samples
from reading_members import decoding, sixteen_bits
from small_builds import folder_for

from randscene.shards import (
    Dataset,
    Mixture,
    ViewSample,
    open_dataset,
    permute,
    torch_loader,
    write_shard,
)

BATCH = 16
BUFFER = 1000
"""Samples in the shuffle buffer of `webdataset`, the size that its manual uses."""
SIDES = ("ours", "theirs")

Work = Callable[[], tuple[int, int]]
"""Does something with samples; returns how many, and their bytes."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: the same work by either side."""

    name: str
    ours: Work
    theirs: Work
    cold: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="one that exists, with its split train")
    parser.add_argument("--scenes", type=int, default=8, help="scenes that are rendered")
    parser.add_argument("--views", type=int, default=40)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--samples", type=int, default=1000, help="samples of each run that decodes")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--only", help="rows whose name has this word")
    parser.add_argument("--json", type=Path, help="write all runs to this file")
    parser.add_argument("--folder", type=Path, help="build the dataset here, and leave it")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with folder_for(args.folder) as folder:
        root = args.dataset or copied_samples(folder, args)
        dataset = open_dataset(root)
        tars = [str(root / "shards" / shard.name) for shard in dataset.shards]
        count = min(args.samples, len(dataset))
        size = sum(Path(tar).stat().st_size for tar in tars)
        print(f"{len(dataset)} samples in {len(tars)} tars, {size / 2**20:.0f} MiB; decoded: {count} of them")
        print(f"webdataset {webdataset.__version__}, numpy {np.__version__}, pillow {Image.__version__}\n", flush=True)
        columns = f"{'samples/s':<30}{'ours':>24}{'webdataset':>26}"
        print(f"{columns}  ratio (spread)          a processor second", flush=True)
        rows = [
            *reading_rows(dataset, tars, count),
            *loader_rows(dataset, tars, count, args.workers),
            *writing_rows(dataset, folder),
        ]
        runs = [run for row in rows if not args.only or args.only in row.name for run in measure(row, tars, args)]
        runs += resume(root, tars, args.repeats)
        runs += decoding(dataset)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=1) + "\n")


def reading_rows(dataset: Dataset, tars: list[str], count: int) -> list[Row]:
    total = len(dataset)

    def ours(places: Iterable[int]) -> Work:
        return lambda: add_up(dataset.members(int(place)) for place in places)

    def theirs(shuffle: bool) -> Work:
        return lambda: add_up(stream(tars, shuffle))

    shuffled = permute(0, 0, total, np.arange(total))
    return [
        Row(name="raw, in order", ours=ours(range(total)), theirs=theirs(False)),
        Row(name="raw, shuffled", ours=ours(shuffled), theirs=theirs(True)),
        Row(name="raw, in order, cold", ours=ours(range(total)), theirs=theirs(False), cold=True),
        Row(name="raw, shuffled, cold", ours=ours(shuffled), theirs=theirs(True), cold=True),
        Row(
            name="decoded, in order",
            ours=lambda: drain(dataset[place] for place in range(count)),
            theirs=lambda: drain(itertools.islice(decoded(tars, False), count)),
        ),
        Row(
            name="decoded, shuffled",
            ours=lambda: drain(itertools.islice(dataset.ordered(0), count)),
            theirs=lambda: drain(itertools.islice(decoded(tars, True), count)),
        ),
    ]


def loader_rows(dataset: Dataset, tars: list[str], count: int, workers: Iterable[int]) -> Iterator[Row]:
    steps = count // BATCH
    mixture = Mixture({"train": (dataset, 1.0)})

    def row(number: int, name: str, ours_made: Callable[[Any], Any] | None, theirs_made: Callable[[Any], Any]) -> Row:
        def ours() -> tuple[int, int]:
            loader = torch_loader(mixture, batch_size=BATCH, num_workers=number, steps=steps, collate=ours_made)
            return drain(loader, BATCH)

        def theirs() -> tuple[int, int]:
            batches = decoded(tars, True).batched(BATCH, collation_fn=theirs_made)
            loader = webdataset.WebLoader(batches, batch_size=None, num_workers=number, collate_fn=as_it_is)
            return drain(itertools.islice(loader, steps), BATCH)

        return Row(name=f"loader, {number} workers, {name}", ours=ours, theirs=theirs)

    for number in workers:
        yield row(number, "tensors", our_tensors, their_tensors)
    for number in [number for number in workers if number]:
        yield row(number, "lists", None, list)


def our_tensors(samples: list[ViewSample]) -> dict[str, Any]:
    return tensors([(sample.rgb, sample.ids) for sample in samples])


def their_tensors(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return tensors([(sample["rgb.webp"], sample["ids.png"]) for sample in samples])


def tensors(pictures: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
    """Pictures and ids stacked; in a worker, into memory that it shares with its owner."""
    import torch

    stacked = [np.stack(arrays) for arrays in zip(*pictures)]
    return {name: torch.from_numpy(array) for name, array in zip(("rgb", "ids"), stacked)}


def writing_rows(dataset: Dataset, folder: Path) -> list[Row]:
    """Every sample of the first shards, some 640, into one tar."""
    samples = [(dataset.keys[place], dataset.members(place)) for place in range(min(640, len(dataset)))]
    size = sum(len(data) for _, found in samples for data in found.values())
    target = folder / "written" / "train-000000.tar"
    target.parent.mkdir(exist_ok=True)

    def ours() -> tuple[int, int]:
        write_shard(target, samples, header={})
        return len(samples), size

    def theirs(safe: bool) -> tuple[int, int]:
        with webdataset.TarWriter(str(target), encoder=False) as writer:
            for key, found in samples:
                writer.write({"__key__": key, **found})
        if safe:
            with open(target, "rb") as handle:
                os.fsync(handle.fileno())
                hashlib.file_digest(handle, "sha256")
        return len(samples), size

    return [
        Row(name="write", ours=ours, theirs=lambda: theirs(False)),
        Row(name="write, both fsync and hash", ours=ours, theirs=lambda: theirs(True)),
    ]


def stream(tars: list[str], shuffle: bool) -> Any:
    """Samples of `webdataset`, as bytes."""
    found = webdataset.WebDataset(tars, shardshuffle=len(tars) if shuffle else False, seed=0)
    return found.shuffle(BUFFER) if shuffle else found


def decoded(tars: list[str], shuffle: bool) -> Any:
    """Samples of `webdataset`, as arrays of the same shapes as ours."""
    return decoder(stream(tars, shuffle))


def decoder(samples: Any) -> Any:
    pictures = [webdataset.imagehandler("rgb8", ["webp"]), webdataset.handle_extension("depth.png", sixteen_bits)]
    return samples.decode(*pictures, webdataset.imagehandler("l8", ["png"])).map(read_npz)


def read_npz(sample: dict[str, Any]) -> dict[str, Any]:
    """`webdataset` leaves a `.npz` as NumPy opens it, unread."""
    sample["voxels.npz"] = {name: sample["voxels.npz"][name] for name in ("coords", "offsets")}
    return sample


def as_it_is(batch: Any) -> Any:
    """In place of PyTorch's conversion of every array and number to a tensor, which takes `webdataset` more time."""
    return batch


def add_up(samples: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    count = size = 0
    for sample in samples:
        count += 1
        size += sum(len(data) for name, data in sample.items() if not name.startswith("__"))
    return count, size


def drain(items: Iterable[Any], each: int = 1) -> tuple[int, int]:
    return each * sum(1 for _ in items), 0


def measure(row: Row, tars: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run both sides in turn and print the line."""
    runs: list[dict[str, Any]] = []
    if not row.cold:
        row.ours(), row.theirs()  # the first use of a decoder loads it
    for repeat in range(args.repeats):
        for side in SIDES if repeat % 2 == 0 else SIDES[::-1]:
            if row.cold:
                drop(tars)
            begun, processor = time.perf_counter(), processor_seconds()
            count, size = getattr(row, side)()
            seconds, spent = time.perf_counter() - begun, processor_seconds() - processor
            facts = {"row": row.name, "side": side, "count": count, "bytes": size}
            runs.append({**facts, "seconds": seconds, "processor": spent})
    rates = {side: [run["count"] / run["seconds"] for run in runs if run["side"] == side] for side in SIDES}
    frugal = {side: [run["count"] / run["processor"] for run in runs if run["side"] == side] for side in SIDES}
    ratios = sorted(a / b for a, b in zip(rates["ours"], rates["theirs"]))
    size = max(run["bytes"] / run["count"] for run in runs) / 1e6
    megabytes = " / ".join(f"{statistics.median(rates[side]) * size:,.0f}" for side in rates) + " MB/s" if size else ""
    print(
        f"{row.name:<30}{spread(rates['ours']):>24}{spread(rates['theirs']):>26}"
        f"  {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        f"{statistics.median(frugal['ours']):>12,.0f} /{statistics.median(frugal['theirs']):>8,.0f}  {megabytes}",
        flush=True,
    )
    return runs


def spread(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f})"


def processor_seconds() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def drop(tars: list[str]) -> None:
    """Let the system forget what it holds of these files."""
    for tar in tars:
        with open(tar, "rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resume(root: Path, tars: list[str], repeats: int) -> list[dict[str, Any]]:
    """Seconds from opening until the first decoded batch, after nine tenths of an epoch and after a million steps."""
    total = len(open_dataset(root))
    deep = total * 9 // 10 // BATCH

    def ours(step: int) -> None:
        next(iter(torch_loader(Mixture({"train": (open_dataset(root), 1.0)}), step=step, batch_size=BATCH)))

    def theirs(step: int) -> None:
        rest = decoder(stream(tars, True).slice(step * BATCH, step * BATCH + BATCH))
        if drain(rest) != (BATCH, 0):
            raise SystemExit("webdataset has fewer samples than the index says")

    runs = []
    print("\nseconds until the first batch")
    for name, work, step in (
        ("ours, from the beginning", ours, 0),
        (f"ours, after {deep} steps", ours, deep),
        ("ours, after 1,000,000 steps", ours, 1_000_000),
        ("webdataset, from the beginning", theirs, 0),
        (f"webdataset, after {deep} steps", theirs, deep),
    ):
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            work(step)
            times.append(time.perf_counter() - begun)
        runs.append({"row": f"resume: {name}", "seconds": times})
        print(f"{name:<36}{statistics.median(times):>8.3f} ({min(times):.3f} to {max(times):.3f})", flush=True)
    return runs


if __name__ == "__main__":
    main()
