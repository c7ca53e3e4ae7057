"""Latents a second on a GPU: the full-size encoder, eager, compiled, and with active boxes, on grids of whole scenes.

    python benchmarks/encoder.py grids --assets LOCK --scenes 80 --out grids.npz    # where scenes can be planned
    python benchmarks/encoder.py run grids.npz [--json FILE]                        # where the GPU is

The weights are random: time does not depend on them. "eager" is the plain module as published code runs it (float16,
one grid after the other in memory order); errors are those of the latents against the same weights in float32.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ARGUMENTS = {
    "in_channels": 1,
    "latent_channels": 8,
    "num_res_blocks": 2,
    "num_res_blocks_middle": 2,
    "channels": [32, 128, 512],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    grids = commands.add_parser("grids")
    grids.add_argument("--assets", type=Path, required=True)
    grids.add_argument("--scenes", type=int, default=80)
    grids.add_argument("--views", type=int, default=4)
    grids.add_argument("--out", type=Path, required=True)
    run = commands.add_parser("run")
    run.add_argument("grids", type=Path)
    run.add_argument("--json", type=Path)
    run.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    if args.command == "grids":
        make_grids(args.assets, args.scenes, args.views, args.out)
    else:
        measure(args.grids, args.batch, args.json)


def make_grids(assets: Path, scenes: int, views: int, out: Path) -> None:
    """The grids of planned scenes in their views' cubes: each scene's union, then its instances."""
    from randscene.generator.planning import PlanContext, plan_scene
    from randscene.generator.scene_maker import SceneMaker
    from randscene.generator.view_centric import world_to_view
    from randscene.generator.voxelization import SceneVoxelizer
    from randscene.manifests import load_asset_mesh, load_lock, load_spec, with_overrides

    lock = load_lock(assets)
    records = {record.uid: record for record in lock}
    overrides = ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", f"cameras.views={views}"]
    context = PlanContext.of(with_overrides(load_spec("rand-15k"), overrides), lock)
    parts: list[np.ndarray] = []
    for scene in range(scenes):
        recipe = plan_scene(context, scene)
        placed = [
            SceneMaker.place(
                load_asset_mesh(records[item.uid].locator, up_axis=records[item.uid].up_axis), np.asarray(item.pose)
            )
            for item in recipe.instances
        ]
        vertices = np.concatenate([mesh.vertices for mesh in placed])
        voxelizer = SceneVoxelizer([(mesh.vertices, mesh.faces) for mesh in placed])
        for camera in recipe.cameras:
            transform = world_to_view(np.asarray(camera.camera_to_world), np.asarray(recipe.look_at), vertices)
            coords, offsets = voxelizer.view(transform)
            parts.append(np.unique(coords, axis=0))
            parts += [coords[offsets[i] : offsets[i + 1]] for i in range(len(placed))]
    sizes = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    np.savez_compressed(out, coords=np.concatenate(parts), offsets=sizes)
    print(f"{len(parts)} grids of {scenes} scenes, {sizes[-1] / len(parts):.0f} voxels each, in {out}")


def measure(path: Path, batch: int, report: Path | None) -> None:
    import torch

    from randscene.train.active_box_encoder import SIDES, ActiveBoxEncoder
    from randscene.train.sparse_structure_vae import SparseStructureEncoder

    with np.load(path, allow_pickle=False) as data:
        coords, offsets = data["coords"], data["offsets"]
    grids = [coords[offsets[i] : offsets[i + 1]] for i in range(len(offsets) - 1)]
    device = torch.cuda.get_device_name()
    results: dict[str, Any] = {"device": device, "torch": torch.__version__, "grids": len(grids), "batch": batch}
    print(results)

    def model(dtype: torch.dtype) -> SparseStructureEncoder:
        made = SparseStructureEncoder(**ARGUMENTS)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 1 / np.sqrt(parameter[0].numel()), generator=generator)
                else:
                    parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        made.set_torso_dtype(dtype)
        return made.cuda().eval().requires_grad_(False)

    def dense(numbers: range) -> "torch.Tensor":
        x = np.zeros((len(numbers), 1, 64, 64, 64), np.float32)
        for row, number in enumerate(numbers):
            x[row, 0][tuple(grids[number].T.astype(np.int64))] = 1
        return torch.from_numpy(x).cuda()

    def rate(name: str, work: Callable[[], Any], count: int, repeats: int = 10) -> None:
        for _ in range(2):
            work()
        torch.cuda.synchronize()
        times = []
        for _ in range(repeats):
            begun = time.perf_counter()
            work()
            torch.cuda.synchronize()
            times.append(time.perf_counter() - begun)
        seconds = float(np.median(times))
        results[name] = {"grids_per_second": count / seconds, "tflops": 0.6465 * count / seconds}
        print(f"{name:<44} {count / seconds:8.0f} grids/s  {0.6465 * count / seconds:6.0f} dense TFLOP/s", flush=True)

    checked = range(0, min(256, len(grids)))
    with torch.inference_mode():
        reference = model(torch.float32)
        truth = torch.cat([reference(dense(checked[i : i + 16])) for i in range(0, len(checked), 16)]).cpu().numpy()
        del reference
        x = dense(range(batch))
        for dtype in (torch.float16, torch.bfloat16):
            name = str(dtype).removeprefix("torch.")
            torch.compiler.reset()
            plain = model(dtype)
            torch.backends.cudnn.benchmark = False
            rate(f"eager {name}", lambda plain=plain: plain(x), batch, repeats=3)
            torch.backends.cudnn.benchmark = True
            last = x.to(memory_format=torch.channels_last_3d)
            compiled = torch.compile(plain.to(memory_format=torch.channels_last_3d), dynamic=False)
            rate(f"compiled, channels last {name}", lambda compiled=compiled, last=last: compiled(last), batch)
            encoder = ActiveBoxEncoder(plain, batch_size=batch)
            sides = [encoder.windows(grid).side for grid in grids]
            results["windows"] = {side: sides.count(side) for side in SIDES}
            begun = time.perf_counter()
            encoder.encode(grids)
            print(f"first pass over all shapes {time.perf_counter() - begun:.1f} s")
            latents = encoder.encode([grids[number] for number in checked]).astype(np.float32)
            errors = [float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(latents, truth)]
            rate(f"active boxes {name}, host to host", lambda encoder=encoder: encoder.encode(grids), len(grids), 3)
            unique = len({grid.tobytes() for grid in grids})
            results[f"active boxes {name}, host to host"] |= {
                "relative_error_mean": float(np.mean(errors)),
                "relative_error_max": float(np.max(errors)),
                "unique_grids": unique,
            }
            print(f"relative error against float32: mean {np.mean(errors):.1e}, largest {np.max(errors):.1e}")
            by_level(encoder, results, rate, batch, name)
    if report is not None:
        report.write_text(json.dumps(results, indent=2) + "\n")


def by_level(encoder: Any, results: dict[str, Any], rate: Callable[..., None], batch: int, name: str) -> None:
    """Where the time goes: the two finer levels by the side of their windows, and the coarsest."""
    import torch

    from randscene.train.active_box_encoder import SIDES

    finest, second, coarsest = encoder._passes
    at = torch.full((batch, 3), 2, device="cuda")
    whole = torch.zeros((batch, 3), dtype=torch.int64, device="cuda")
    for side in SIDES:
        start = whole if side == 64 else at
        x = torch.zeros((batch, 1, side, side, side), device="cuda")
        h = finest(x, start)
        below = encoder.second_side(side)
        rate(f"  finest level {name}, window {side}", lambda x=x, start=start: finest(x, start), batch)
        rate(
            f"  second level {name}, window {below}",
            lambda h=h, start=start, below=below: second(h, start // 2, whole, below),
            batch,
        )
    h = second(h, whole, whole, 32)
    rate(f"  coarsest level {name}", lambda: coarsest(h, whole), batch)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        coarsest(h, whole)
        torch.cuda.synchronize()
    print(profile.key_averages().table(sort_by="cuda_time_total", row_limit=8, max_name_column_width=60))


if __name__ == "__main__":
    main()
