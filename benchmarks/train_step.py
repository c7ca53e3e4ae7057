"""One training step of the full-size flow transformer on a GPU: forward, backward, clipping and AdamW.

A group is one scene with its K instances. `paired` is the plain form that the papers describe: a row of the scene for
each of its instances, module by module, without compilation. The others take the scene once for all of its instances.

Model-TFLOP/s are those of the group, scene once, whatever a variant computes (`randscene.train.model_flops`).
"""

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from randscene.train.attention_backend import BACKENDS, attention_backend
from randscene.train.model_flops import step_flops
from randscene.train.settings import load_settings
from randscene.train.sparse_structure_flow import SparseStructureFlow

COND_TOKENS = (518 // 14) ** 2 + 5
CHANNELS = 1024


@dataclass(frozen=True)
class Shape:
    """Groups of a step."""

    scenes: int
    instances: int
    """Of each scene."""
    sca_blocks: int


def sca(count: int) -> tuple[int, ...]:
    """So many blocks with scene context; five are the released ones."""
    return tuple(range(10, 15)) if count == 5 else tuple(range(count))


def build(shape: Shape, *, again: range, compiled: bool) -> SparseStructureFlow:
    settings = asdict(load_settings("iscene").model) | {"sca_blocks": sca(shape.sca_blocks)}
    model = SparseStructureFlow(**settings).cuda()
    model.checkpoint_blocks = frozenset(again)
    model.reset_parameters(torch.Generator().manual_seed(0))
    if compiled:
        for block in model.blocks:
            block.compile(dynamic=False, fullgraph=True)
    return model


def inputs(shape: Shape, paired: bool) -> tuple[torch.Tensor, ...]:
    scenes = shape.scenes * shape.instances if paired else shape.scenes
    instances = shape.scenes * shape.instances
    generator = torch.Generator("cuda").manual_seed(1)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator, device="cuda")

    scene_of = torch.arange(scenes, device="cuda")
    return (
        draw(scenes, 8, 16, 16, 16),
        draw(instances, 8, 16, 16, 16),
        torch.rand(scenes, generator=generator, device="cuda") * 1000,
        draw(scenes, COND_TOKENS, CHANNELS),
        draw(instances, COND_TOKENS, CHANNELS),
        scene_of if paired else scene_of.repeat_interleave(shape.instances),
    )


def stepper(model: SparseStructureFlow, data: tuple[torch.Tensor, ...], sdpa: str) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0, fused=True)
    parameters = list(model.parameters())

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16), attention_backend(sdpa):
            v_scene, v_instance = model.grouped(*data)
            loss = (v_scene - data[0]).square().mean() + (v_instance - data[1]).square().mean()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()

    return step


def seconds(step: Callable[[], None], repeats: int) -> list[float]:
    for _ in range(4):
        step()
    torch.cuda.synchronize()
    found = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return found


def measure(shape: Shape, variant: str, repeats: int, profile: str | None) -> dict[str, object]:
    """A variant is `paired` or `grouped`, then `compiled`, `ckpt` (all blocks computed again in the backward pass) or
    `half` (every other), and an attention backend, joined by +."""
    words = variant.split("+")
    paired = words[0] == "paired"
    sdpa = next((word for word in words if word in BACKENDS), "default")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch._dynamo.reset()
    again = range(24) if "ckpt" in words else range(1, 24, 2) if "half" in words else range(0)
    model = build(shape, again=again, compiled="compiled" in words)
    step = stepper(model, inputs(shape, paired), sdpa)
    row: dict[str, object] = {"shape": asdict(shape), "variant": variant}
    try:
        found = seconds(step, repeats)
    except torch.OutOfMemoryError:
        return row | {"error": "out of memory"}
    if profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as trace:
            step()
            torch.cuda.synchronize()
        table = trace.key_averages().table(sort_by="cuda_time_total", row_limit=40, max_name_column_width=90)
        Path(profile).mkdir(parents=True, exist_ok=True)
        (Path(profile) / f"{variant}-{shape.scenes}x{shape.instances}-{shape.sca_blocks}.txt").write_text(table)
    middle = statistics.median(found)
    settings = replace(load_settings("iscene").model, sca_blocks=sca(shape.sca_blocks))
    instances = shape.scenes * shape.instances
    flops = step_flops(settings, COND_TOKENS, scenes=shape.scenes, instances=instances)
    return row | {
        "seconds": middle,
        "spread": [min(found), max(found)],
        "model_tflops_per_s": flops / middle / 1e12,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes = ["1x7:24", "1x7:5", "8x1:5", "8x7:5"]
    parser.add_argument("--shapes", nargs="+", default=shapes, help="SCENESxINSTANCES:SCA")
    parser.add_argument("--variants", nargs="+", default=["paired", "grouped", "grouped+compiled+cudnn"])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--profile", help="Folder for tables of kernels.")
    parser.add_argument("--json", help="File for all figures.")
    args = parser.parse_args()
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "cudnn", torch.backends.cudnn.version())
    rows = []
    for text in args.shapes:
        groups, _, blocks = text.partition(":")
        scenes, _, instances = groups.partition("x")
        for variant in args.variants:
            row = measure(Shape(int(scenes), int(instances), int(blocks)), variant, args.repeats, args.profile)
            rows.append(row)
            if "error" in row:
                print(f"{text:8} {variant:40} {row['error']}", flush=True)
                continue
            print(
                f"{text:8} {variant:40} {row['seconds']:.4f} s  {row['model_tflops_per_s']:6.1f} model-TFLOP/s  "
                f"{row['peak_gib']:5.1f} GiB",
                flush=True,
            )
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
