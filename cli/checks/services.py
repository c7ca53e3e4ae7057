"""Checks of what lies outside this process: Ray, and the cache of public weights."""

import importlib
import os
import time
from pathlib import Path
from typing import Any

from randscene.cli.checks.finding import Finding, Options, absent, ok, warning
from randscene.train.published import DECODER_STEM, ENCODER_STEM, FLOW_STEM

WEIGHTS = {
    "microsoft/TRELLIS-image-large": (ENCODER_STEM, DECODER_STEM, FLOW_STEM),
    "facebook/dinov2-with-registers-large": ("config.json", "model.safetensors"),
}
"""Repositories that the preset `iscene` and `--encoder` name, and what is read of each: files, or stems in `ckpts`."""
PATTERNS = {
    "microsoft/TRELLIS-image-large": "--include 'ckpts/ss_*'",
    "facebook/dinov2-with-registers-large": "config.json model.safetensors",
}


def ray(options: Options) -> Finding:
    """Start Ray on this machine as a build does, let it do one task, and end it."""
    from randscene.ray_session import ray_session

    version = str(importlib.import_module("ray").__version__)
    if options.quick:
        return ok(version, version=version)
    begun = time.monotonic()
    with ray_session("local", cpus=1) as session:
        answer = session.get(session.remote(_answer).remote(), timeout=60)
    if answer != 42:
        raise ValueError(f"a task answered {answer}, not 42")
    return ok(f"{version}, starts, works and ends", seconds=time.monotonic() - begun, version=version)


def _answer() -> int:
    return 42


def public_weights(options: Options) -> Finding:
    """Which of the public weights are in the cache; nothing is fetched."""
    cache = _cache()
    there = {name: all(_is_cached(cache, name, file) for file in files_of(name)) for name in WEIGHTS}
    missing = [name for name, here in there.items() if not here]
    facts: dict[str, Any] = {"cache": str(cache), "weights": there}
    root = next((parent for parent in (cache, *cache.parents) if parent.exists()), cache)
    if not os.access(root, os.W_OK):
        return warning(f"the cache {cache} cannot be written", "export HF_HOME=/path/that/can/be/written", **facts)
    if not missing:
        return ok(f"all in {cache}", **facts)
    commands = " && ".join(f"hf download {name} {PATTERNS[name]}" for name in missing)
    return absent(f"not in {cache}: {', '.join(missing)} (`mini` models need none)", commands, **facts)


def files_of(name: str) -> list[str]:
    """The files of a repository that are read."""
    endings = (".json", ".safetensors")
    return [
        file
        for stem in WEIGHTS[name]
        for file in ([stem] if stem.endswith(endings) else [f"ckpts/{stem}{ending}" for ending in endings])
    ]


def _cache() -> Path:
    try:
        return Path(importlib.import_module("huggingface_hub.constants").HF_HUB_CACHE)
    except ImportError:
        home = os.environ.get("HF_HOME", "~/.cache/huggingface")
        return Path(os.environ.get("HF_HUB_CACHE", f"{home}/hub")).expanduser()


def _is_cached(cache: Path, name: str, file: str) -> bool:
    """Whether any revision of a repository has a file; as `huggingface_hub` lays its cache out."""
    snapshots = cache / f"models--{name.replace('/', '--')}" / "snapshots"
    return any(path.exists() for path in snapshots.glob(f"*/{file}"))
