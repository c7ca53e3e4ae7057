"""What the shell may complete beside commands and options: presets, protocols, engines, devices, and the splits of a
dataset. Quick: no settings are read, nothing is fetched."""

import importlib.util
import json
from pathlib import Path

import typer


def spec_presets(incomplete: str) -> list[str]:
    """Presets of datasets."""
    return _presets("randscene.manifests", incomplete)


def run_presets(incomplete: str) -> list[str]:
    """Presets of training runs."""
    return _presets("randscene.train", incomplete)


def protocols(incomplete: str) -> list[str]:
    """Protocols of evaluation."""
    from randscene.train.protocols import PROTOCOLS

    return [name for name in sorted(PROTOCOLS) if name.startswith(incomplete)]


def engines(incomplete: str) -> list[str]:
    """Renderers."""
    return [name for name in ("cycles", "eevee", "raycast") if name.startswith(incomplete)]


def render_devices(incomplete: str) -> list[str]:
    """What a renderer may run on."""
    return [name for name in ("cpu", "gpu", "cuda", "optix", "hip", "oneapi", "metal") if name.startswith(incomplete)]


def torch_devices(incomplete: str) -> list[str]:
    """What a model may run on."""
    return [name for name in ("cpu", "gpu", "cuda") if name.startswith(incomplete)]


def splits(ctx: typer.Context, incomplete: str) -> list[str]:
    """Splits of the dataset that the command line names with `--dataset`; only of a local one."""
    folder = ctx.params.get("dataset")
    try:
        info = json.loads((Path(str(folder)) / "dataset.json").read_text(encoding="utf-8"))
        names = [*info["splits"]]
    except (OSError, ValueError, KeyError, TypeError):
        names = ["train", "val"]
    return [name for name in (*names, "all") if name.startswith(incomplete)]


def _presets(room: str, incomplete: str) -> list[str]:
    spec = importlib.util.find_spec(room)
    places = (spec.submodule_search_locations or []) if spec else []
    names = sorted(path.stem for place in places for path in Path(place).glob("presets/*.yaml"))
    return [name for name in names if name.startswith(incomplete)]
