"""Voxels to latents and back with a sparse-structure VAE: the small embedded one, or the published one.

Latents are the same for the same grid, whatever else is encoded with it and however the work is cut into batches:

* On a CPU the network runs in float32, one grid at a time, through oneDNN, which gives each output cell the same sum
  in the same order on any number of threads. `batch_size` is not used.
* On a GPU every pass has exactly `batch_size` grids, the last one filled up with empty grids, and cuDNN is held to its
  deterministic algorithms without benchmarking or TF32. A grid's latent then depends on the grid, on `batch_size` and
  on the GPU and library versions, not on its neighbours: keep `batch_size` constant within one data set.

Between machines results agree to rounding (about 1e-3 in the stored float16), not bit by bit.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from randscene.errors import CheckpointError, DatasetError
from randscene.files import sha256_of
from randscene.train.published import DECODER_STEM, ENCODER_STEM, find_model, read_config
from randscene.train.sparse_structure_vae import SparseStructureDecoder, SparseStructureEncoder
from randscene.train.state_dict import load_strict, read_tensors

MINI = "mini"
MINI_WEIGHTS = Path(__file__).with_name("weights") / "mini_ss_vae.safetensors"
RESOLUTION = 64


@dataclass(frozen=True, kw_only=True)
class LoadedEncoder:
    """An encoder that is ready to run, and where it came from."""

    module: SparseStructureEncoder
    """In evaluation mode, without gradients."""
    name: str
    """What it was loaded as; data sets store it with `sha256`."""
    sha256: str
    """Of the weights file."""
    config: dict[str, Any]
    """`{"name": class name, "args": constructor arguments}`."""


@dataclass(frozen=True, kw_only=True)
class LoadedDecoder:
    """A decoder that is ready to run, and where it came from; fields as in `LoadedEncoder`."""

    module: SparseStructureDecoder
    name: str
    sha256: str
    config: dict[str, Any]


def load_encoder(name: str = MINI, device: str = "cpu") -> LoadedEncoder:
    """Load a sparse-structure encoder.

    Parameters
    ----------
    name : str
        `mini` (embedded), a folder in the hub's layout (`ckpts/ss_enc_conv3d_16l8_fp16.json` and `.safetensors`),
        or a Hugging Face id such as `microsoft/TRELLIS-image-large`.
    device : str
        A torch device. On a CPU a float16 model is run in float32.

    Raises
    ------
    CheckpointError
        If the files are missing, cannot be fetched, or do not fit the model.
    """
    config, weights, tensors = _open(name, "encoder", ENCODER_STEM)
    module = SparseStructureEncoder(**_arguments(config, "SparseStructureEncoder", weights))
    _prepare(module, tensors, weights, device)
    return LoadedEncoder(module=module, name=name, sha256=sha256_of(weights), config=config)


def load_decoder(name: str = MINI, device: str = "cpu") -> LoadedDecoder:
    """Load the decoder that belongs to `load_encoder(name)`; parameters and errors are the same."""
    config, weights, tensors = _open(name, "decoder", DECODER_STEM)
    module = SparseStructureDecoder(**_arguments(config, "SparseStructureDecoder", weights))
    _prepare(module, tensors, weights, device)
    return LoadedDecoder(module=module, name=name, sha256=sha256_of(weights), config=config)


def encode_voxels(encoder: LoadedEncoder, grids: Sequence[NDArray[Any]], batch_size: int = 16) -> NDArray[Any]:
    """Latents of occupancy grids: the posterior means.

    Parameters
    ----------
    encoder : LoadedEncoder
    grids : sequence of (V, 3) uint8 arrays
        Occupied voxels (x, y, z) of each grid in the 64^3 cube, in any order; V may be 0.
    batch_size : int
        Grids a pass on a GPU; see the module's first lines.

    Returns
    -------
    (n, 8, 16, 16, 16) float16, in the order of `grids`.

    Raises
    ------
    DatasetError
        If an array is not (V, 3) uint8 below 64.
    """
    for coords in grids:
        if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype != np.uint8 or (coords >= RESOLUTION).any():
            raise DatasetError(
                f"voxels must be a (V, 3) uint8 array below {RESOLUTION}, not {coords.dtype} {coords.shape}"
            )
    device = next(encoder.module.parameters()).device
    latents = np.empty((len(grids), encoder.module.latent_channels, 16, 16, 16), np.float16)
    for start, stop, size in _passes(len(grids), device, batch_size):
        x = np.zeros((size, 1, RESOLUTION, RESOLUTION, RESOLUTION), np.float32)
        for row, coords in enumerate(grids[start:stop]):
            x[row, 0, coords[:, 0], coords[:, 1], coords[:, 2]] = 1
        with _reproducible():
            mean = encoder.module(torch.from_numpy(x).to(device))
        latents[start:stop] = mean[: stop - start].to(torch.float16).cpu().numpy()
    return latents


def encode_on_device(encoder: LoadedEncoder, grids: Sequence[NDArray[Any]], batch_size: int = 64) -> torch.Tensor:
    """`encode_voxels` for training: nothing waits for a GPU, and latents stay there.

    Products may be rounded to TF32 there, so that the last digits differ from stored latents.

    Parameters
    ----------
    encoder : LoadedEncoder
    grids : sequence of (V, 3) uint8 arrays
        Checked as little as possible: voxels below 64.
    batch_size : int
        Grids a pass on a GPU.

    Returns
    -------
    (n, 8, 16, 16, 16) float32 on the encoder's device, rounded to float16 as stored latents are.
    """
    device = next(encoder.module.parameters()).device
    if device.type == "cpu":
        return torch.from_numpy(encode_voxels(encoder, grids).astype(np.float32))
    rows = np.repeat(np.arange(len(grids)), [len(coords) for coords in grids])
    places = torch.from_numpy(np.concatenate([rows[:, None], np.concatenate(grids)], axis=1).astype(np.int16))
    row, x, y, z = places.pin_memory().to(device, non_blocking=True).long().unbind(1)
    occupied = torch.zeros((len(grids), 1, RESOLUTION, RESOLUTION, RESOLUTION), device=device)
    occupied[row, 0, x, y, z] = 1.0
    with _reproducible(allow_tf32=True):
        means = [encoder.module(part) for part in occupied.split(batch_size)]
        latents = torch.cat(means).half().float()
    return latents.clone()  # an inference tensor cannot take part in training


def decode_latents(decoder: LoadedDecoder, latents: NDArray[Any], batch_size: int = 16) -> NDArray[Any]:
    """Occupancy logits of latents; a voxel is occupied where its logit is above 0.

    Parameters
    ----------
    decoder : LoadedDecoder
    latents : (n, 8, 16, 16, 16) array of any floating type
    batch_size : int
        Latents a pass on a GPU; see the module's first lines.

    Returns
    -------
    (n, 64, 64, 64) float32, index (x, y, z).

    Raises
    ------
    DatasetError
        If `latents` has another shape.
    """
    expected = (decoder.module.latent_channels, 16, 16, 16)
    if latents.ndim != 5 or latents.shape[1:] != expected:
        raise DatasetError(f"latents must have shape (n, {', '.join(map(str, expected))}), not {latents.shape}")
    device = next(decoder.module.parameters()).device
    logits = np.empty((len(latents), RESOLUTION, RESOLUTION, RESOLUTION), np.float32)
    for start, stop, size in _passes(len(latents), device, batch_size):
        z = np.zeros((size, *expected), np.float32)
        z[: stop - start] = latents[start:stop]
        with _reproducible():
            out = decoder.module(torch.from_numpy(z).to(device))
        logits[start:stop] = out[: stop - start, 0].float().cpu().numpy()
    return logits


def _open(name: str, half: str, stem: str) -> tuple[dict[str, Any], Path, dict[str, torch.Tensor]]:
    if name != MINI:
        files = find_model(name, stem)
        return files.config, files.weights, read_tensors(files.weights)
    prefix = f"{half}."
    tensors = {
        key.removeprefix(prefix): value for key, value in read_tensors(MINI_WEIGHTS).items() if key.startswith(prefix)
    }
    return read_config(MINI_WEIGHTS.with_suffix(".json"))[half], MINI_WEIGHTS, tensors


def _arguments(config: dict[str, Any], class_name: str, weights: Path) -> dict[str, Any]:
    if config.get("name") != class_name or not isinstance(config.get("args"), dict):
        raise CheckpointError(
            f'{weights.with_suffix(".json")} describes "{config.get("name")}", not a {class_name} with its "args"'
        )
    return config["args"]


def _prepare(
    module: SparseStructureEncoder | SparseStructureDecoder,
    tensors: dict[str, torch.Tensor],
    weights: Path,
    device: str,
) -> None:
    if torch.device(device).type == "cpu":
        module.set_torso_dtype(torch.float32)
    load_strict(module, tensors, str(weights))
    module.to(device).eval().requires_grad_(False)


def _passes(count: int, device: torch.device, batch_size: int) -> Iterator[tuple[int, int, int]]:
    size = 1 if device.type == "cpu" else batch_size
    for start in range(0, count, size):
        yield start, min(start + size, count), size


@contextlib.contextmanager
def _reproducible(*, allow_tf32: bool = False) -> Iterator[None]:
    fixed = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=allow_tf32)
    with torch.inference_mode(), fixed:
        yield
