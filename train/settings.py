"""Settings of a training run: frozen records, read strictly from YAML, with the paper's values as `iscene.yaml`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from randscene import settings_file
from randscene.canonical_json import digest
from randscene.errors import SpecError
from randscene.train.settings_record import record, require

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """`SparseStructureFlow`: the names of TRELLIS's public config, plus `sca_blocks` (I-Scene, section 3.4)."""

    resolution: int = 16
    """Side of the latent grid."""
    in_channels: int = 8
    """Of a latent's cell."""
    out_channels: int = 8
    """Of the velocity, which has the latent's shape."""
    model_channels: int = 1024
    """Width of the transformer."""
    cond_channels: int = 1024
    """Width of the condition's tokens; `conditioner.channels` must equal it."""
    num_blocks: int = 24
    """Blocks of the transformer."""
    num_heads: int = 16
    """Heads of attention; must divide `model_channels`."""
    mlp_ratio: float = 4.0
    """Width of a block's feed-forward layer over `model_channels`."""
    patch_size: int = 1
    """Side of the cells that are one token; 1 makes 4,096 tokens of 16 x 16 x 16 cells."""
    qk_rms_norm: bool = True
    """Normalise queries and keys of self-attention."""
    qk_rms_norm_cross: bool = False
    """The same in the attention to the condition."""
    sca_blocks: tuple[int, ...] = (10, 11, 12, 13, 14)
    """Blocks in which an instance also attends to the scene's keys and values."""
    detach_scene_kv: bool = False
    """Stop the instances' gradient at the scene's keys and values; the paper lets it flow."""

    def __post_init__(self) -> None:
        for name in ("resolution", "in_channels", "out_channels", "model_channels", "num_blocks", "num_heads"):
            require(getattr(self, name) >= 1, f"{name}: must be at least 1")
        require(self.model_channels % max(self.num_heads, 1) == 0, "num_heads: must divide model_channels")
        require(self.patch_size >= 1 and self.resolution % self.patch_size == 0, "patch_size: must divide resolution")
        inside = all(0 <= block < self.num_blocks for block in self.sca_blocks)
        require(inside, f"sca_blocks: must name blocks 0 to {self.num_blocks - 1}")
        require(self.mlp_ratio > 0, "mlp_ratio: must be positive")


@dataclass(frozen=True, kw_only=True)
class ConditionerSettings:
    """What turns an image into condition tokens."""

    kind: Literal["mini", "dinov2"] = "dinov2"
    """`mini`: small, trained with the flow model; `dinov2`: frozen `dinov2_vitl14_reg`, as released."""
    image_size: int = 518
    """Side of the square crop that the encoder sees, pixels."""
    patch_size: int = 14
    """Side of the square that is one token, pixels."""
    channels: int = 1024
    """Width of the tokens; `model.cond_channels` must equal it."""
    num_blocks: int = 24
    """Blocks of the encoder; of `mini` they may be none."""
    num_heads: int = 16
    """Heads of attention; must divide `channels`."""
    source: str = "facebook/dinov2-with-registers-large"
    """Weights of `dinov2`: a Hugging Face id, a folder in that layout, a torch.hub file, or `random` (to try the
    code without them)."""

    def __post_init__(self) -> None:
        require(self.patch_size >= 1 and self.image_size >= self.patch_size, "image_size: must be at least patch_size")
        require(self.image_size % self.patch_size == 0, "image_size: must be a multiple of patch_size")
        require(self.channels >= 1, "channels: must be at least 1")
        require(self.num_heads >= 1 and self.channels % self.num_heads == 0, "num_heads: must divide channels")
        require(self.num_blocks >= 0, "num_blocks: must not be negative")


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What a step reads. A step holds `scenes_per_step` groups of one scene and `instances_per_scene` instances."""

    split: str = "train"
    """Of each dataset."""
    frame: Literal["yaw", "full", "canonical"] = "yaw"
    """Frame of the voxels; the datasets' must be the same."""
    azimuth_offset_deg: float = 0.0
    """The azimuth that counts as zero in that frame, degrees; the datasets' must be the same."""
    encoder: str = "microsoft/TRELLIS-image-large"
    """Sparse-structure encoder of the latents: `mini` (embedded), a folder, or a Hugging Face id."""
    scenes_per_step: int = 64
    """Groups a step, over all processes: the paper's 8 on each of 8 GPUs. On fewer, see `hardware.groups_at_once`."""
    instances_per_scene: int = 1
    """Instances that share one scene branch; 1 is the released pairing of one instance with its scene."""
    mixture: dict[str, float] = field(default_factory=dict)
    """Share of each dataset, by its name; shares need not add up to 1. Left out: in proportion to their samples."""
    scenes: str = ""
    """Only these scenes of each dataset, as `open_dataset` reads them: `first:5000`, `100:200`."""
    loader_workers: int = 4
    """Reading processes of each rank."""

    def __post_init__(self) -> None:
        require(self.scenes_per_step >= 1, "scenes_per_step: must be at least 1")
        require(self.instances_per_scene >= 1, "instances_per_scene: must be at least 1")
        require(self.loader_workers >= 0, "loader_workers: must not be negative")
        for name, share in self.mixture.items():
            require(share > 0, f"mixture.{name}: must be positive; leave a dataset without a share out")


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """Loss and optimiser. Defaults: I-Scene (rate, steps, batch) over TRELLIS's release (everything else)."""

    steps: int = 130_000
    """Of the whole run."""
    lr: float = 5e-5
    """AdamW's rate."""
    conditioner_lr_scale: float = 1.0
    """Rate of a trained image encoder over `lr`; below 1 it does not run ahead of the flow."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly to `lr`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """`cosine` falls to a tenth of `lr` over `steps`."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's."""
    weight_decay: float = 0.0
    """AdamW's."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""
    ema_decay: float = 0.9999
    """Of the moving average of the weights, which is what predicts."""
    ema_warmup: bool = False
    """Use min(decay, (1 + step) / (10 + step)): a run of few steps then has a useful average."""
    condition_dropout: float = 0.1
    """Probability that a whole group (scene and instances) is trained without its images."""
    t_mean: float = 1.0
    """t = sigmoid(normal(t_mean, t_std))."""
    t_std: float = 1.0
    """Of the same normal distribution."""
    scene_weight: float = 1.0
    """Weight of the scene branch's loss against the mean over instances."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the forward pass (autocast); weights and optimiser state are float32."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps: must be at least 1")
        require(self.lr > 0, "lr: must be positive")
        require(self.conditioner_lr_scale >= 0, "conditioner_lr_scale: must not be negative")
        require(self.warmup_steps >= 0, "warmup_steps: must not be negative")
        require(all(0 <= beta < 1 for beta in self.betas), "betas: must lie in [0, 1)")
        require(self.weight_decay >= 0, "weight_decay: must not be negative")
        require(self.grad_clip > 0, "grad_clip: must be positive")
        require(0 <= self.ema_decay < 1, "ema_decay: must lie in [0, 1)")
        require(0 <= self.condition_dropout < 1, "condition_dropout: must lie in [0, 1)")
        require(self.t_std > 0, "t_std: must be positive")
        require(self.scene_weight >= 0, "scene_weight: must not be negative")


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """Euler sampler with classifier-free guidance, v = (1 + w) v_cond - w v_uncond."""

    steps: int = 25
    """Of the sampler."""
    cfg_strength: float = 3.0
    """w; "w = 3" is what others call a guidance scale of 4."""
    cfg_interval: tuple[float, float] = (0.5, 1.0)
    """Guidance is applied while t lies in this interval, ends included."""
    rescale_t: float = 3.0
    """r: evenly spaced times t become r t / (1 + (r - 1) t), so that more of them lie near the noise, t = 1."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps: must be at least 1")
        require(self.cfg_strength >= 0, "cfg_strength: must not be negative")
        low, high = self.cfg_interval
        require(0 <= low <= high <= 1, "cfg_interval: must be two rising numbers in [0, 1]")
        require(self.rescale_t > 0, "rescale_t: must be positive")


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """What is measured at every checkpoint, with the averaged weights."""

    split: str = "val"
    """Of each dataset that has it."""
    groups: int = 0
    """Fixed groups whose loss is taken; 0 measures nothing. The checkpoint of the lowest loss is kept."""
    pictures: int = 0
    """Groups for which pictures of the generated voxels are drawn."""

    def __post_init__(self) -> None:
        require(self.groups >= 0, "groups: must not be negative")
        require(self.pictures >= 0, "pictures: must not be negative")
        require(self.groups > 0 or self.pictures == 0, "pictures: need groups")


@dataclass(frozen=True, kw_only=True)
class HardwareSettings:
    """How a step is fitted to the machine; may differ each time that a run goes on."""

    groups_at_once: int = 0
    """Groups that a process takes through the model together, gradients being added up; 0 takes its whole share."""
    compile: Literal["auto", "always", "never"] = "auto"
    """`torch.compile` block by block; `auto` on CUDA."""
    checkpointing: Literal["auto", "none", "every_other", "every_block"] = "auto"
    """Blocks that are computed again in the backward pass instead of being kept; `auto` by the memory of the GPU."""
    attention: Literal["auto", "default", "flash4", "cudnn", "flash", "efficient", "math"] = "auto"
    """Kernels of attention; `auto` takes the fastest that is there, `default` is PyTorch's own choice."""

    def __post_init__(self) -> None:
        require(self.groups_at_once >= 0, "groups_at_once: must not be negative")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that decides what a run computes; two runs of equal settings and data give equal weights."""

    name: str
    """What the run is called."""
    seed: int = 0
    """Of the first weights, the order of the data, the noise and the times."""
    init: str = ""
    """Where the flow's first weights come from: a Hugging Face id or folder in the hub's layout, a `.safetensors` or
    `.pt` file, a run or one of its checkpoints. Empty: drawn from the seed."""
    deterministic: bool = False
    """Use deterministic kernels only: bit-equal resumes, slower on a GPU."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep_checkpoints: int = 3
    """So many of the newest are kept, and the best one."""
    model: ModelSettings = field(default_factory=ModelSettings)
    conditioner: ConditionerSettings = field(default_factory=ConditionerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    hardware: HardwareSettings = field(default_factory=HardwareSettings)

    def __post_init__(self) -> None:
        require(bool(self.name), "name: must not be empty")
        require(self.seed >= 0, "seed: must not be negative")
        require(self.checkpoint_every >= 1, "checkpoint_every: must be at least 1")
        require(self.keep_checkpoints >= 1, "keep_checkpoints: must be at least 1")
        for name, value in (("resolution", 16), ("in_channels", 8), ("out_channels", 8)):
            fits = getattr(self.model, name) == value
            require(fits, f"model.{name}: must be {value}: latents are 8 channels of 16 x 16 x 16 cells")
        same = self.model.cond_channels == self.conditioner.channels
        require(same, "conditioner.channels: must equal model.cond_channels")

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dicts, as `parse_settings` reads them; tuples become lists."""
        return _plain(dataclasses.asdict(self))

    def identity(self) -> dict[str, Any]:
        """What must not change within a run, as flat `section.field` values: not how it is saved, watched and run.

        `optimiser.steps` counts only where the schedule of the rate depends on it.
        """
        data = self.to_dict()
        # Of first weights the hash counts, which checkpoints hold, and not where they lay.
        for name in ("init", "checkpoint_every", "keep_checkpoints", "sampling", "validation", "hardware"):
            del data[name]
        del data["data"]["loader_workers"]
        if data["optimiser"]["schedule"] == "constant":
            del data["optimiser"]["steps"]
        return {
            f"{section}.{name}" if isinstance(values, dict) else section: value
            for section, values in data.items()
            for name, value in (values.items() if isinstance(values, dict) else [("", values)])
        }

    def digest(self) -> str:
        """SHA-256 of `identity`."""
        return digest(self.identity())


def preset_names() -> list[str]:
    """Names of the training presets that come with the package."""
    return settings_file.preset_names(PRESETS)


def load_settings(name_or_path: str | Path) -> RunSettings:
    """RunSettings from a preset's name (`mini`, `iscene`) or the path of a YAML file.

    Raises
    ------
    SpecError
        If there is no such preset or file, or a field is unknown, of a wrong type or out of range.
    """
    data = settings_file.read_settings_file(name_or_path, presets=PRESETS, kind="settings")
    return parse_settings(data, where=str(name_or_path))


def parse_settings(data: object, *, where: str) -> RunSettings:
    """Validate plain data (as read from YAML or JSON) as RunSettings.

    Raises
    ------
    SpecError
        With one line that names `where`, the field and what is wrong with it.
    """
    return record(RunSettings, data, (), where)


def with_overrides(settings: RunSettings, overrides: Sequence[str]) -> RunSettings:
    """The same settings with single fields replaced, each written `section.field=value` (the value is YAML).

    Raises
    ------
    SpecError
        If an override is malformed, names no field, or its value is refused.
    """
    data = settings.to_dict()
    for override in overrides:
        dotted, sign, text = override.partition("=")
        if not sign:
            raise SpecError(f"--set {override}: write it as field=value, e.g. optimiser.lr=0.001")
        *sections, last = dotted.strip().split(".")
        node: Any = data
        for section in sections:
            node = node.get(section) if isinstance(node, dict) else None
        whole_section = isinstance(node, dict) and isinstance(node.get(last), dict) and dotted.strip() != "data.mixture"
        if not isinstance(node, dict) or last not in node or whole_section:
            hint = settings_file.did_you_mean(dotted.strip(), settings_file.dotted_names(data))
            raise SpecError(f"--set {override}: there is no setting called {dotted.strip()}{hint}")
        try:
            value = yaml.safe_load(text)
            node[last] = "" if value is None and isinstance(node[last], str) else value  # `init=` clears it
        except yaml.YAMLError as error:
            raise SpecError(f"--set {override}: the value is not readable as YAML") from error
    return parse_settings(data, where="--set")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value
