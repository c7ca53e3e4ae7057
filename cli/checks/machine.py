"""Checks of the machine: processors, memory, folders, limits, text."""

import locale
import os
import resource
import shutil
import sys
import tempfile
from pathlib import Path

from randscene.cli.checks.finding import Finding, Options, absent, ok, problem, warning
from randscene.errors import RandsceneError
from randscene.files import exclusive, unique_token, write_atomic
from randscene.shards.dataset_card import human_bytes
from randscene.shards.store import open_store
from randscene.worker_pool import usable_cores

LEAST_FREE = 200 * 10**6
"""Bytes that the demo takes; with less, no build ends."""
PLENTY_FREE = 20 * 10**9
BYTES_A_RENDERER = 1.5e9
"""Resident memory of a renderer and of the worker that feeds it, with a scene of common size."""
LEAST_SHARED = 512 * 10**6
OPEN_FILES = 4096


def processors_and_memory(options: Options) -> Finding:
    """What this process may use, limits of a container counted."""
    usable, granted, memory = usable_cores(), _cpu_quota(), _memory_bytes()
    found = f"{usable} processors" + (f", {human_bytes(memory)} of memory free" if memory is not None else "")
    facts = {"processors": usable, "memory_bytes": memory}
    if granted is not None and granted < usable - 0.5:
        return warning(
            f"{found}; the container is granted the time of {granted:g} of them",
            f"start no more workers than that: randscene generate ... --workers {max(1, int(granted))}",
            **facts,
        )
    if memory is not None and memory < BYTES_A_RENDERER * usable:
        room = max(1, int(memory / BYTES_A_RENDERER))
        return warning(f"{found}: room for about {room} renderers", f"randscene generate ... --workers {room}", **facts)
    return ok(found, **facts)


def disk(options: Options) -> Finding:
    """Whether a dataset can be written to `options.out`: atomically, with locks, and with room."""
    if "://" in options.out:
        return _object_store(options.out)
    out = Path(options.out).absolute()
    folder = next((parent for parent in (out, *out.parents) if parent.exists()), out)
    elsewhere = "choose another folder with --out"
    if not folder.is_dir():
        return problem(f"{folder} is a file, not a folder", elsewhere)
    free = shutil.disk_usage(folder).free
    probe = folder / f".randscene-doctor-{unique_token()}"
    try:
        write_atomic(probe / "whole", b"x" * 2**20)
        with exclusive(probe / "lock", busy=f"cannot lock a file in {folder}"):
            pass
    except (OSError, RandsceneError) as error:
        return problem(f"{folder}: {_words(error, probe)}", elsewhere, free_bytes=free)
    finally:
        shutil.rmtree(probe, ignore_errors=True)
    found = f"{human_bytes(free)} free in {folder}, which can be written and locked"
    if free < LEAST_FREE:
        return problem(
            f"{human_bytes(free)} free in {folder}: less than a demo takes", "free some space", free_bytes=free
        )
    if free < PLENTY_FREE:
        return warning(
            f"{found}: enough for small datasets",
            "ask what yours takes: randscene estimate SPEC --assets LOCK",
            free_bytes=free,
        )
    return ok(found, free_bytes=free, folder=str(folder))


def temporary_folder(options: Options) -> Finding:
    """Where renderers leave pictures on their way, and Ray its session."""
    try:
        folder = Path(tempfile.gettempdir())
        with tempfile.NamedTemporaryFile(dir=folder) as handle:
            handle.write(b"x" * 2**20)
            handle.flush()
    except OSError as error:
        words = error.strerror or str(error)
        return problem(f"no folder for temporary files can be written ({words})", "export TMPDIR=/path/with/space")
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {human_bytes(free)} free"
    if free < LEAST_FREE:
        return problem(found, "free some space there, or: export TMPDIR=/path/with/space", free_bytes=free)
    if free < 10 * LEAST_FREE:
        return warning(found, "export TMPDIR=/path/with/space, or one scene's pictures may not fit", free_bytes=free)
    return ok(found, free_bytes=free)


def shared_memory(options: Options) -> Finding:
    """/dev/shm, which Ray's object store and PyTorch's loader workers use."""
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return absent("this system has no /dev/shm")
    usage = shutil.disk_usage(folder)
    found = f"{human_bytes(usage.free)} of {human_bytes(usage.total)} free in /dev/shm"
    if not os.access(folder, os.W_OK):
        return warning(
            f"{found}, and it cannot be written", "mount it for all users: mount -o remount,mode=1777 /dev/shm"
        )
    if usage.free < LEAST_SHARED:
        return warning(
            f"{found}: Ray then keeps objects on disk, and loader workers can die",
            "give the container more: docker run --shm-size=2g ...",
            free_bytes=usage.free,
        )
    return ok(found, free_bytes=usage.free)


def open_files(options: Options) -> Finding:
    """The limit of open files; Ray alone takes hundreds on many processors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = "no limit" if soft == resource.RLIM_INFINITY else f"{soft:,} at a time"
    if soft != resource.RLIM_INFINITY and soft < OPEN_FILES:
        able = 65536 if hard == resource.RLIM_INFINITY else min(65536, hard)
        cure = f"ulimit -n {able}" if able > soft else "have the hard limit raised (limits.conf, or --ulimit of docker)"
        return warning(f"{told}: few for many workers", cure, soft=soft)
    return ok(told, soft=soft)


def text_encoding(options: Options) -> Finding:
    """Names and credits of assets are written in all scripts."""
    files, text = sys.getfilesystemencoding(), locale.getpreferredencoding(False)
    if {files.lower().replace("-", ""), text.lower().replace("-", "")} != {"utf8"}:
        return warning(f"file names in {files}, text in {text}", "export LANG=C.UTF-8 PYTHONUTF8=1")
    return ok("UTF-8")


def numba_cache(options: Options) -> Finding:
    """Whether compiled functions are kept, or made anew in every process."""
    from randscene.compiled import compiled

    function = compiled(_sum_of_squares)
    if function(3) != 5:
        return problem("a compiled function gives a wrong result", "pip install --force-reinstall numba llvmlite")
    folder = getattr(getattr(function, "stats", None), "cache_path", None)
    if folder is None or not os.access(folder, os.W_OK):
        return warning(
            "compiled functions cannot be kept: every process compiles them anew, seconds each",
            "export NUMBA_CACHE_DIR=/path/that/can/be/written",
        )
    return ok(f"compiled functions are kept in {folder}", folder=str(folder))


def _sum_of_squares(count: int) -> int:
    total = 0
    for number in range(count):
        total += number * number
    return total


def _object_store(url: str) -> Finding:
    name = f".randscene-doctor-{unique_token()}"
    store = open_store(url)
    store.write(name, b"x")
    try:
        same = store.read(name) == b"x"
    finally:
        store.remove(name)
    if not same:
        return problem(f"{url} gives back other bytes than were written", "choose another --out")
    return ok(f"{url} can be written, read and cleared")


def _words(error: Exception, probe: Path) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    _, _, why = str(error).partition(f"{probe}")
    return why.partition(": ")[2].partition(";")[0] or str(error)


def _cpu_quota() -> float | None:
    """Processors whose time the control group grants; None: all."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _memory_bytes() -> int | None:
    """Memory that is free, the control group's limit counted; None where nothing here tells it."""
    free = None
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError, StopIteration):
        return free  # not Linux, or no control groups: what was read so far stands
    return free
