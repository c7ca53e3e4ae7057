"""Does a checkpoint see its picture? Its loss with the right picture, another view's and none, and what it generates.

    python benchmarks/picture_use.py RUN DATASET [--split val] [--views 128] [--json FILE] [--pictures FILE]

A model that has not learnt to see has the same loss with any picture. Views are drawn from a fixed seed; each gives its
first instance, along with its scene. Shown: mean velocity losses of the instances at several times; the norm of the
tokens' mean and the root mean square of what is left of them (a token has norm sqrt(channels) in all); the voxel IoU of
the generated instances, and how many are empty. With --pictures the first twelve are shown, too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from randscene.shards import ViewSample
from randscene.train.batch import LatentSource
from randscene.train.flow_matching import grouped_flow_loss
from randscene.train.image_conditioner import crop_images
from randscene.train.predict import Predictor
from randscene.train.sample_pictures import sample_sheet, whole_scenes
from randscene.train.training_data import open_split

TIMES = (0.3, 0.6, 0.8, 0.9, 0.97, 0.999)
AT_ONCE = 32
FIRST = np.array([1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder or checkpoint")
    parser.add_argument("data")
    parser.add_argument("--split", default="val")
    parser.add_argument("--views", type=int, default=128)
    parser.add_argument("--device")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    predictor = Predictor(args.run, device=args.device)
    data = open_split(args.data, args.split, predictor.settings.data.encoder)
    chosen = np.random.default_rng(1).permutation(len(data))[: args.views]
    parts = [[data[int(i)] for i in chosen[first : first + AT_ONCE]] for first in range(0, len(chosen), AT_ONCE)]
    if args.pictures:
        picture(predictor, parts[0][:12], args.pictures)
    found = losses(predictor, parts) | generated(predictor, parts)
    for name, value in found.items():
        print(f"{name:12} {value}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


def losses(predictor: Predictor, parts: list[list[ViewSample]]) -> dict[str, object]:
    """Mean loss of an instance by picture and time, and the tokens' mean and rest."""
    settings, device, model = predictor.settings, predictor.device, predictor.model
    source = LatentSource(settings, device=str(device))
    generator = torch.Generator().manual_seed(0)
    sums = {f"{picture} {t}": 0.0 for t in TIMES for picture in ("right", "wrong", "none")}
    tokens = []
    for samples in parts:
        count = len(samples)
        latents = torch.from_numpy(np.stack([source.latents(sample, FIRST) for sample in samples])).to(device)
        size = settings.conditioner.image_size
        images = torch.from_numpy(np.stack([crop_images(sample, size, FIRST) for sample in samples])).to(device)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        groups = torch.arange(count, device=device)
        with torch.no_grad():
            tokens.append(model.conditioner(images[:, 1]).float())
            for t in TIMES:
                for picture, shown in (("right", images), ("wrong", images.roll(1, 0)), ("none", images)):
                    loss = grouped_flow_loss(
                        model,
                        latents[:, 0],
                        latents[:, 1],
                        noise[:, 0],
                        noise[:, 1],
                        torch.full((count,), t, device=device),
                        shown.transpose(0, 1).flatten(0, 1),
                        torch.full((count,), picture != "none", device=device),
                        groups,
                        half=settings.optimiser.precision == "bfloat16" and device.type == "cuda",
                    )
                    sums[f"{picture} {t}"] += float(loss.per_instance.sum())
    every = torch.cat(tokens).flatten(0, 1)
    mean = every.mean(0)
    rest = (every - mean).square().sum(-1).mean().sqrt()
    return {"tokens": f"mean {float(mean.norm()):.2f}, rest {float(rest):.2f}"} | {
        name: round(value / sum(map(len, parts)), 4) for name, value in sums.items()
    }


def generated(predictor: Predictor, parts: list[list[ViewSample]]) -> dict[str, object]:
    """Voxel IoU of what is generated with the run's own sampling."""
    shares, empty = [], 0
    for samples in parts:
        for sample, logits in zip(samples, predictor.logits([predictor.view(sample) for sample in samples])):
            true = np.zeros(logits.shape[1:], bool)
            true[tuple(sample.instance_coords(1).T)] = True
            mine = logits[0] > 0
            empty += not mine.any()
            shares.append((mine & true).sum() / max((mine | true).sum(), 1))
    return {"IoU": f"mean {np.mean(shares):.4f}, median {np.median(shares):.4f}", "empty": f"{empty} of {len(shares)}"}


def picture(predictor: Predictor, samples: list[ViewSample], file: Path) -> None:
    """A row a view: its picture, the truth, and what is generated."""
    settings = predictor.settings
    batch = whole_scenes(samples, settings, LatentSource(settings, device=str(predictor.device)))
    sheet = sample_sheet(predictor.model, predictor.decoder, batch, settings, views=samples, size=128)
    Image.fromarray(sheet).save(file)


if __name__ == "__main__":
    main()
