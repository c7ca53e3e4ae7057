"""Stage 2, optional: structured latents and a coloured mesh from one instance's occupancy, by the public TRELLIS.

The package `trellis` (https://github.com/microsoft/TRELLIS) and its weights do the work; this adapter hands over what
stage 1 found and takes the mesh back. Nothing of the package is part of this project, and it is imported only when
stage 2 is asked for.

As in I-Scene's released inference each instance is sampled by itself, with the tokens of its own image (the crop of
the scene with the instance alone, which stage 1 saw too), 25 steps and a guidance of 3. Occupancy is in the
view-centric cube already, so are the meshes: no pose is solved.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from randscene.canonical_json import digest
from randscene.errors import CheckpointError, PredictionError, SpecError
from randscene.train.stage_two_mesh import TexturedMesh

RESOLUTION = 64
"""Cells of the occupancy along each axis."""
IMAGE_SIZE = 518
"""Pixels, of the instance image."""
PATCH_SIZE = 14
N_REGISTERS = 4
N_TOKENS = 1 + N_REGISTERS + (IMAGE_SIZE // PATCH_SIZE) ** 2
"""Of an image: class token, registers, and one a patch."""
STEPS = 25
CFG_STRENGTH = 3.0
"""w in (1 + w) v_cond - w v_uncond; the interval and the spacing of the steps stay the pipeline's."""
SIMPLIFY = 0.95
TEXTURE_SIZE = 1024
"""Share of the faces that baking takes away, and pixels along the texture's side: the package's own defaults."""

_INSTALL = (
    "stage 2 needs the public TRELLIS package: clone https://github.com/microsoft/TRELLIS with its submodules, install "
    "what its setup.sh lists and put the clone on PYTHONPATH (PyPI's `trellis` is another project)"
)

_LOADING = (AssertionError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""What the package raises where files are missing, damaged or of another shape, or where there is no CUDA."""


class StageTwo:
    """A loaded pipeline of the public package, ready for one instance after the other.

    Parameters
    ----------
    pipeline : TrellisImageTo3DPipeline
        Or what has its `models`, `get_cond`, `sample_slat`, `decode_slat` and `to`; on `device`.
    source : str
        As it was given.
    device : str
    to_glb : callable, optional
        `trellis.utils.postprocessing_utils.to_glb`, which bakes a texture; without it vertices are coloured.
    """

    def __init__(self, pipeline: Any, *, source: str, device: str, to_glb: Callable[..., Any] | None = None) -> None:
        self.pipeline, self.source, self.device, self._to_glb = pipeline, source, torch.device(device), to_glb
        self.identity = digest(
            {
                "weights": _weights_sha256(pipeline.models),
                "sampler": type(pipeline.slat_sampler).__name__,
                "sampler_arguments": vars(pipeline.slat_sampler),
                "sampler_parameters": pipeline.slat_sampler_params | self._sampling(),
                "normalisation": pipeline.slat_normalization,
                "baking": [SIMPLIFY, TEXTURE_SIZE] if to_glb else None,
            }
        )

    @classmethod
    def load(cls, source: str, device: str, *, texture: bool = False) -> "StageTwo":
        """Import the package and read its pipeline.

        Parameters
        ----------
        source : str
            A Hugging Face id such as `microsoft/TRELLIS-image-large`, or a folder with `pipeline.json` and `ckpts`.
        device : str
            `cuda`; the package's mesh decoder and baking are written for CUDA alone.
        texture : bool
            Bake a texture (`to_glb` of the package) instead of colouring vertices.

        Raises
        ------
        SpecError
            If the package, or one that it needs, is missing; or if there is no CUDA device for what needs one.
        CheckpointError
            If the source is no image-to-3D pipeline or cannot be loaded.
        """
        from safetensors import SafetensorError

        pipelines = _import("trellis.pipelines")
        if not hasattr(pipelines, "TrellisImageTo3DPipeline"):
            raise SpecError(f"{_INSTALL}: the one found has no TrellisImageTo3DPipeline")
        if texture and torch.device(device).type != "cuda":
            raise SpecError(
                "--stage-two-texture bakes with CUDA's rasterisers and there is no CUDA device here: leave it out, "
                "and the vertices are coloured"
            )
        to_glb = _import("trellis.utils.postprocessing_utils").to_glb if texture else None
        try:
            pipeline = pipelines.TrellisImageTo3DPipeline.from_pretrained(source)
        except ImportError as error:
            raise SpecError(f"{_INSTALL}; missing: {error.name or error}") from error
        except (*_LOADING, SafetensorError) as error:
            if "CUDA" in str(error) and not torch.cuda.is_available():
                raise SpecError(f"the mesh decoder of TRELLIS needs a CUDA device ({_line(error)})") from error
            raise CheckpointError(
                f"cannot load the stage 2 pipeline {source} ({_line(error)}): give a Hugging Face id such as "
                "microsoft/TRELLIS-image-large, or a folder with its pipeline.json and ckpts; its image encoder is "
                "fetched by torch.hub"
            ) from error
        needed = ["image_cond_model", "slat_flow_model", "slat_decoder_mesh"] + ["slat_decoder_gs"] * texture
        missing = [name for name in needed if name not in pipeline.models]
        if missing:
            raise CheckpointError(
                f"{source} has no {missing[0]}: stage 2 needs an image-to-3D pipeline such as "
                "microsoft/TRELLIS-image-large"
            )
        # The pipeline's own stage 1 and its other decoders have nothing to do here.
        pipeline.models = {name: pipeline.models[name] for name in needed}
        pipeline.to(torch.device(device))
        return cls(pipeline, source=source, device=device, to_glb=to_glb)

    def about(self) -> dict[str, Any]:
        """What `prediction.json` tells of it."""
        return {
            "source": self.source,
            "identity": self.identity,
            "colour": "vertex" if self._to_glb is None else "texture",
            "steps": STEPS,
            "cfg": CFG_STRENGTH,
        }

    def textured(self, coords: NDArray[Any], image: NDArray[Any], *, seed: int) -> TexturedMesh | None:
        """The coloured mesh of one instance.

        Parameters
        ----------
        coords : (V, 3) uint8
            Its occupied cells, index (x, y, z) in the view-centric cube, each once; their order does not matter.
        image : (518, 518, 3) uint8
            The scene's crop with this instance alone, on black, sRGB.
        seed : int
            Of the initial noise; non-negative.

        Returns
        -------
        TexturedMesh or None
            None where the decoder gave no surface.

        Raises
        ------
        PredictionError
            If the input is not as described, or the package gives something else than it states.
        SpecError
            If the mesh decoder gives no colours and no texture is baked.
        """
        indices = self._indices(coords)
        if image.shape != (IMAGE_SIZE, IMAGE_SIZE, 3) or image.dtype != np.uint8:
            raise PredictionError(
                f"stage 2 needs an instance image of ({IMAGE_SIZE}, {IMAGE_SIZE}, 3) uint8, not {image.shape} "
                f"{image.dtype}"
            )
        # The package draws its noise from torch's global generators.
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            tokens = self.pipeline.get_cond([Image.fromarray(image)])
            self._check_tokens(tokens)
            latents = self.pipeline.sample_slat(tokens, indices, self._sampling())
            if len(latents.feats) != len(indices) or not bool(torch.isfinite(latents.feats).all()):
                raise PredictionError(
                    "stage 2's latents are not one finite row a voxel: the pipeline's weights are broken"
                )
            decoded = self.pipeline.decode_slat(latents, ["mesh"] if self._to_glb is None else ["mesh", "gaussian"])
        mesh = decoded["mesh"][0]
        if not (len(mesh.vertices) and len(mesh.faces)):
            return None
        if self._to_glb is not None:
            baked = self._to_glb(
                decoded["gaussian"][0], mesh, simplify=SIMPLIFY, texture_size=TEXTURE_SIZE, verbose=False
            )
            return _of_baked(baked)
        if mesh.vertex_attrs is None:
            raise SpecError(
                f"the mesh decoder of {self.source} gives no vertex colours: give --stage-two-texture, which bakes a "
                "texture from its Gaussians"
            )
        colours = mesh.vertex_attrs[:, :3].float().clamp(0, 1).mul(255).round().to(torch.uint8)
        return _checked(
            TexturedMesh(
                vertices=mesh.vertices.float().cpu().numpy(),
                faces=mesh.faces.long().cpu().numpy(),
                colours=colours.cpu().numpy(),
            )
        )

    def _sampling(self) -> dict[str, Any]:
        return {"steps": STEPS, "cfg_strength": CFG_STRENGTH}

    def _indices(self, coords: NDArray[Any]) -> torch.Tensor:
        """(V, 4) int32 on the device: the batch's index, 0, then x, y, z, sorted as the package's own stage 1 does."""
        if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype != np.uint8 or not len(coords):
            raise PredictionError(
                f"stage 2 needs voxels as (V, 3) uint8, one at least, not {coords.shape} {coords.dtype}"
            )
        ordered = np.unique(coords, axis=0)
        if len(ordered) != len(coords) or ordered.max() >= RESOLUTION:
            raise PredictionError(f"stage 2 needs each voxel once, with indices below {RESOLUTION}")
        indices = np.zeros((len(ordered), 4), np.int32)
        indices[:, 1:] = ordered
        return torch.from_numpy(indices).to(self.device)

    def _check_tokens(self, tokens: Mapping[str, torch.Tensor]) -> None:
        """Refuse tokens of another image encoder than the flow was trained with."""
        shape = tuple(tokens["cond"].shape)
        channels = getattr(self.pipeline.models["slat_flow_model"], "cond_channels", shape[-1])
        if shape != (1, N_TOKENS, channels) or tokens["neg_cond"].shape != tokens["cond"].shape:
            raise PredictionError(
                f"the image encoder of {self.source} gives tokens of shape {shape}, its flow needs "
                f"{(1, N_TOKENS, channels)}: its pipeline.json names another image_cond_model than it was trained with"
            )


def _of_baked(baked: Any) -> TexturedMesh:
    """The package's baked mesh, a `trimesh.Trimesh` that it has turned to Y-up, turned back."""
    x, y, z = np.asarray(baked.vertices, np.float32).T
    texture = np.asarray(baked.visual.material.baseColorTexture.convert("RGB"))
    return _checked(
        TexturedMesh(
            vertices=np.stack([x, -z, y], axis=1),
            faces=np.asarray(baked.faces, np.int64),
            uv=np.asarray(baked.visual.uv, np.float32),
            texture=texture,
        )
    )


def _checked(mesh: TexturedMesh) -> TexturedMesh:
    if not np.isfinite(mesh.vertices).all():
        raise PredictionError("stage 2's mesh holds NaN or infinity: the pipeline's weights are broken")
    return mesh


def _import(name: str) -> Any:
    """A module of the package; `SpecError` if it, or one that it imports, is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = error.name or str(error)
        what = "" if missing in ("trellis", name) else f"; it is there, but {missing} is missing"
        raise SpecError(f"{_INSTALL}{what}") from error


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _weights_sha256(models: Mapping[str, torch.nn.Module]) -> str:
    """Of the names, types, shapes and bytes of all tensors: equal for equal weights, wherever their files lie."""
    sha256 = hashlib.sha256()
    for model in sorted(models):
        for name, tensor in sorted(models[model].state_dict().items()):
            sha256.update(f"{model}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            sha256.update(flat.view(torch.uint8).numpy().data)
    return sha256.hexdigest()
