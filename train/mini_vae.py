"""Train the embedded mini sparse-structure VAE: `python -m randscene.train.mini_vae --help`.

Loss: soft Dice and cross-entropy (summed over the grid, a unit for each occupied voxel), plus a small KL term. At a
few points of the schedule, and at the end, the latent's channels are brought to zero mean and unit variance over the
training grids by folding the affine map into the two convolutions around the latent; the flow model starts from such
latents. The weights that are kept are an exponential moving average, rounded to float16.
"""

import argparse
import contextlib
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from randscene.errors import CheckpointError, DatasetError, RandsceneError
from randscene.files import atomic_writer, write_atomic
from randscene.train.devices import choose_device
from randscene.train.mini_vae_network import (
    DECODER_ARGS,
    ENCODER_ARGS,
    Grids,
    MiniVae,
    fold_latent_affine,
    fresh_vae,
    vae_loss,
)
from randscene.train.voxel_pack import RESOLUTION, VoxelPack, dataset_grids, load_pack, pack_grids, save_pack

log = logging.getLogger(__name__)

FOLD_AT = (0.1, 0.3, 0.6, 0.85)


@dataclass(frozen=True, kw_only=True)
class MiniVaeSettings:
    """How the mini VAE is trained. Progress is wall time over `minutes`, or steps over `max_steps` where it is set."""

    minutes: float = 18.0
    max_steps: int | None = None
    batch: int = 64
    """Grids a step; a multiple of 8, the number of symmetries that each batch is spread over."""
    crop: int = RESOLUTION
    """Train on crops of this edge around an occupied voxel (a multiple of 4); 64 is the whole cube."""
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    warmup: float = 0.02
    """Part of the schedule over which the learning rate rises; it then falls by a cosine to 1 % of its height."""
    kl_weight: float = 1e-2
    ema_decay: float = 0.999
    max_grad_norm: float = 1.0
    holdout: float = 0.05
    """Part of the assets that training never sees."""
    evaluate_every: float = 1.0
    """Minutes between evaluations, each followed by a checkpoint."""
    evaluation_grids: int = 256
    """Held-out scenes, and held-out instances, of the periodic evaluation; the final one takes four times as many."""
    moment_grids: int = 4096
    """Training grids that the latent's mean and deviation are measured on, whenever they are folded."""
    bf16: bool = True
    compile: bool = False
    seed: int = 0


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """float32 convolutions without TF32 on a GPU, so that scores and moments hold on a CPU too."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=torch.backends.cudnn.benchmark, allow_tf32=False):
        yield


class MiniVaeTrainer:
    """The state of a training run, and its steps.

    Parameters
    ----------
    pack : VoxelPack
    settings : MiniVaeSettings
    device : torch.device
    """

    def __init__(self, pack: VoxelPack, settings: MiniVaeSettings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        train, held = pack.split(settings.holdout)
        scene = pack.is_scene
        self.held = {"scenes": held[scene[held]], "instances": held[~scene[held]]}
        if len(train) == 0 or not all(len(part) for part in self.held.values()):
            raise DatasetError("too few grids to train on and to hold out: pack more scenes, or raise --holdout")
        self.train_index = torch.from_numpy(train).to(device)
        # Scenes and instances are drawn equally often, whatever their numbers.
        weights = np.where(scene[train], 0.5 / max(scene[train].sum(), 1), 0.5 / max((~scene[train]).sum(), 1))
        self.weights = torch.from_numpy(weights).to(device)
        self.grids = Grids(pack, device)
        self.generator = torch.Generator(device=device).manual_seed(settings.seed)
        self.vae = fresh_vae(device, settings.seed)
        self.ema = fresh_vae(device, settings.seed)
        self.optimizer = torch.optim.AdamW(
            self.vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.98)
        )
        self.step, self.minutes, self.folds = 0, 0.0, 0
        self.forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] = (
            torch.compile(self.vae) if settings.compile else self.vae
        )
        log.info("%d grids to train on, held out: %d scenes, %d instances", len(train), *map(len, self.held.values()))

    @property
    def progress(self) -> float:
        """Part of the schedule that is done, 0 to 1."""
        limit = self.settings.max_steps
        return min(1.0, self.step / limit if limit is not None else self.minutes / self.settings.minutes)

    def rate(self) -> float:
        """Factor of the learning rate at this point: a linear rise, then a cosine down to 1 %."""
        done, warmup = self.progress, self.settings.warmup
        rise = max(0.01, min(1.0, done / warmup)) if warmup > 0 else 1.0
        return rise * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * done)))

    def run(self, checkpoint: Path, stop_after: float | None = None) -> bool:
        """Train until the schedule ends (True) or `stop_after` minutes of this call are over (False).

        `checkpoint` is rewritten at each evaluation and at the end.
        """
        started, before, evaluated = time.monotonic(), self.minutes, time.monotonic()
        while self.progress < 1:
            loss = self.train_step()
            self.minutes = before + (time.monotonic() - started) / 60
            if self.folds < len(FOLD_AT) and self.progress >= FOLD_AT[self.folds]:
                self.fold()
                self.folds += 1
            if time.monotonic() - evaluated >= 60 * self.settings.evaluate_every:
                scores = self.evaluate(self.ema, self.settings.evaluation_grids)
                rate = self.step * self.settings.batch / max(self.minutes * 60, 1e-9)
                log.info("step %d  %.1f min  loss %.4f  %s  %.0f grids/s", self.step, self.minutes, loss, scores, rate)
                self.save(checkpoint)
                evaluated = time.monotonic()
            if stop_after is not None and time.monotonic() - started >= 60 * stop_after:
                break
        self.save(checkpoint)
        return self.progress >= 1

    def train_step(self) -> Tensor:
        """One optimiser step on a fresh batch; returns the loss, a scalar tensor on the device."""
        settings = self.settings
        chosen = torch.multinomial(self.weights, settings.batch, replacement=True, generator=self.generator)
        grid = self.grids.batch(self.train_index[chosen], settings.crop, self.generator)
        latent = (settings.batch, ENCODER_ARGS["latent_channels"], *(settings.crop // 4,) * 3)
        noise = torch.randn(latent, generator=self.generator, device=self.device)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * self.rate()
        grid = grid.to(memory_format=torch.channels_last_3d)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.bf16):
            logits, mean, logvar = self.forward(grid, noise)
        loss = vae_loss(logits, mean, logvar, grid, settings.kl_weight)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.vae.parameters(), settings.max_grad_norm)
        self.optimizer.step()
        self.step += 1
        decay = min(settings.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.vae.parameters()), 1 - decay)
        return loss.detach()

    @torch.no_grad()
    @_full_precision()
    def latent_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (8,) float64 of the averaged encoder's latents over training grids."""
        chosen = torch.multinomial(self.weights, self.settings.moment_grids, replacement=True, generator=self.generator)
        sums = torch.zeros(2, ENCODER_ARGS["latent_channels"], dtype=torch.float64, device=self.device)
        count = 0
        for part in self.train_index[chosen].split(_evaluation_batch(self.device)):
            z = self.ema.encoder(self.grids[part].unsqueeze(1).float()).double()
            sums += torch.stack([z.sum((0, 2, 3, 4)), z.square().sum((0, 2, 3, 4))])
            count += z.numel() // z.shape[1]
        mean = sums[0] / count
        return mean, (sums[1] / count - mean.square()).clamp_min(1e-12).sqrt()

    def fold(self) -> None:
        """Normalise the latent of the averaged weights; the live weights follow by the same map."""
        mean, std = (value.float() for value in self.latent_moments())
        log.info("folding latent mean %s, std %s", _short(mean), _short(std))
        fold_latent_affine(self.ema, mean, std)
        fold_latent_affine(self.vae, mean, std)

    @torch.no_grad()
    @_full_precision()
    def evaluate(self, vae: MiniVae, limit: int) -> dict[str, float]:
        """Mean IoU of `decode(encode(grid)) > 0` with the grid, float32, over held-out scenes and instances."""
        scores = {}
        for name, index in self.held.items():
            total = 0.0
            chosen = torch.from_numpy(index[np.linspace(0, len(index) - 1, min(limit, len(index))).astype(int)])
            for part in chosen.to(self.device).split(_evaluation_batch(self.device)):
                truth = self.grids[part].bool()
                found = vae.decoder(vae.encoder(truth.unsqueeze(1).float())).squeeze(1) > 0
                union = (truth | found).sum((1, 2, 3)).clamp_min(1)
                total += float(((truth & found).sum((1, 2, 3)) / union).sum())
            scores[name] = round(total / len(chosen), 4)
        return scores

    def finish(self, out: Path) -> dict[str, Any]:
        """Fold a last time, round to float16, evaluate what was rounded, write `out` and its json; returns the json."""
        self.fold()
        rounded = fresh_vae(self.device, 0)
        rounded.load_state_dict({name: value.half().float() for name, value in self.ema.state_dict().items()})
        before = self.evaluate(self.ema, self.settings.evaluation_grids * 4)
        scores = self.evaluate(rounded, self.settings.evaluation_grids * 4)
        self.ema.load_state_dict(rounded.state_dict())
        mean, std = self.latent_moments()
        log.info("final mean IoU %s before rounding, %s after; latent mean %s, std %s", before, scores, mean, std)
        # The bytes of a safetensors file depend only on names, types and values.
        tensors = {name: value.half().contiguous().cpu() for name, value in sorted(rounded.state_dict().items())}
        write_atomic(out, save(tensors))
        config = {
            "encoder": {"name": "SparseStructureEncoder", "args": ENCODER_ARGS},
            "decoder": {"name": "SparseStructureDecoder", "args": DECODER_ARGS},
            "held_out_mean_iou": scores,
            "latent_mean": [round(value, 4) for value in mean.tolist()],
            "latent_std": [round(value, 4) for value in std.tolist()],
            "steps": self.step,
            "settings": dataclasses.asdict(self.settings),
        }
        write_atomic(out.with_suffix(".json"), json.dumps(config, indent=1) + "\n")
        return config

    def save(self, path: Path) -> None:
        """Write everything that `restore` needs to `path` (safetensors)."""
        state = self.optimizer.state_dict()["state"]
        tensors = {f"vae.{k}": v for k, v in self.vae.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= {f"adam.{i}.{k}": v for i, entry in state.items() for k, v in entry.items()}
        tensors["generator"] = self.generator.get_state()
        meta = {"step": self.step, "minutes": self.minutes, "folds": self.folds, "config": [ENCODER_ARGS, DECODER_ARGS]}
        contiguous = {k: v.contiguous().cpu() for k, v in tensors.items()}
        with atomic_writer(path) as handle:
            handle.write(save(contiguous, metadata={"mini_vae": json.dumps(meta)}))

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint that `save` wrote; `CheckpointError` if it is missing or damaged, or of another
        network."""
        if not path.is_file():
            raise CheckpointError(f"{path} is missing: train without --resume first, or name another --checkpoint")
        try:
            with safe_open(path, "pt") as handle:
                meta = json.loads((handle.metadata() or {}).get("mini_vae", "{}"))
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise CheckpointError(f"{path} is damaged ({error}): train again without --resume") from error
        if meta.get("config") != [ENCODER_ARGS, DECODER_ARGS]:
            raise CheckpointError(f"{path} was made with another network: train again without --resume")
        self.vae.load_state_dict(_under(tensors, "vae."))
        self.ema.load_state_dict(_under(tensors, "ema."))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "adam.").items():
            number, key = name.split(".", 1)
            state.setdefault(int(number), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.generator.set_state(tensors["generator"])
        self.step, self.minutes, self.folds = meta["step"], meta["minutes"], meta["folds"]


def _evaluation_batch(device: torch.device) -> int:
    return 64 if device.type == "cuda" else 8


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _short(values: Tensor) -> str:
    return " ".join(f"{value:.3f}" for value in values.tolist())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m randscene.train.mini_vae", description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", required=True, help="data set folders, or one pack made by --pack")
    parser.add_argument("--pack", type=Path, help="only write the voxels of the data sets to this file, then stop")
    parser.add_argument("--every", type=int, default=1, help="pack every n-th view")
    parser.add_argument("--out", type=Path, help="weights file to write (.safetensors, with a .json beside it)")
    parser.add_argument("--checkpoint", type=Path, help="default: OUT with the suffix .resume.safetensors")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint")
    parser.add_argument("--stop-after", type=float, help="minutes after which this run stops; go on with --resume")
    parser.add_argument("--device", help="cpu or cuda; cuda where there is one by default")
    for field in dataclasses.fields(MiniVaeSettings):
        flag = f"--{field.name.replace('_', '-')}"
        if isinstance(field.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            kind = int if field.name == "max_steps" else type(field.default)
            parser.add_argument(flag, type=kind, default=field.default)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack, or train and write the weights; returns the exit status."""
    parser = _parser()
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        if len(args.data) == 1 and Path(args.data[0]).is_file():
            pack = load_pack(args.data[0])
        else:
            pack = pack_grids(dataset_grids(args.data, every=args.every))
        if args.pack is not None:
            save_pack(pack, args.pack)
            log.info("%d grids, %.1f MB in %s", len(pack), args.pack.stat().st_size / 1e6, args.pack)
            return 0
        if args.out is None:
            parser.error("--out is needed to train")
        names = {field.name for field in dataclasses.fields(MiniVaeSettings)}
        settings = MiniVaeSettings(**{name: value for name, value in vars(args).items() if name in names})
        torch.backends.cudnn.benchmark = True  # shapes never change, and training need not be reproducible
        trainer = MiniVaeTrainer(pack, settings, choose_device(args.device))
        checkpoint = args.checkpoint or args.out.with_suffix(".resume.safetensors")
        if args.resume:
            trainer.restore(checkpoint)
        if trainer.run(checkpoint, args.stop_after):
            trainer.finish(args.out)
    except RandsceneError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
