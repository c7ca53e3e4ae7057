"""Gradients of softmax attention in bfloat16 by kernel, against float64: worst relative error, how many not finite.

    python benchmarks/attention_gradients.py --repeats 20

`low` inputs have a log-sum-exp of about -120 in every row, as trained heads without normalised keys can have.
"""

import argparse

import torch

from randscene.errors import SpecError
from randscene.train.attention_backend import attend, attention_backend

SHAPES = ((128, 5, 64, 64), (128, 5, 512, 64), (128, 5, 512, 512), (96, 5, 512, 1024), (8, 16, 4096, 1374))
"""Rows, heads, queries, keys; heads have 64 channels."""


def inputs(shape: tuple[int, int, int, int], low: bool, seed: int) -> list[torch.Tensor]:
    rows, heads, queries, keys = shape
    generator = torch.Generator("cuda").manual_seed(seed)
    drawn = [
        torch.randn(rows, length, heads, 64, device="cuda", generator=generator) for length in (queries, keys, keys)
    ]
    if low:
        drawn[0][..., 0], drawn[1][..., 0] = 1.0, -120 * 64**0.5
    return [tensor.bfloat16().requires_grad_() for tensor in drawn]


def gradients(tensors: list[torch.Tensor], upstream: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(attend(*tensors), tensors, upstream))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--backends", nargs="+", default=["cudnn", "flash", "flash4", "efficient"])
    options = parser.parse_args()
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "cudnn", torch.backends.cudnn.version())
    print("rows x heads x queries x keys | inputs | backend | worst relative error of dq, dk, dv | not finite, of all")
    for shape in SHAPES:
        for low in (False, True):
            for backend in options.backends:
                worst, broken, total = [0.0, 0.0, 0.0], 0, 0
                try:
                    for seed in range(options.repeats):
                        tensors = inputs(shape, low, seed)
                        upstream = torch.randn_like(tensors[0])
                        with attention_backend(backend):
                            found = gradients(tensors, upstream)
                        few = 2 if shape[2] * shape[3] > 2**20 else shape[0]  # float64 of few rows, where it is large
                        exact_inputs = [tensor[:few].detach().double().requires_grad_() for tensor in tensors]
                        with attention_backend("math"):
                            exact = gradients(exact_inputs, upstream[:few].double())
                        for place, (mine, true) in enumerate(zip(found, exact, strict=True)):
                            broken += int((~mine.isfinite()).sum())
                            total += mine.numel()
                            error = float((mine[:few].double() - true).norm() / true.norm())
                            worst[place] = max(worst[place], error if error == error else float("inf"))
                except SpecError as error:
                    print(f"{backend}: {error}")
                    continue
                errors = ", ".join(f"{value:.2g}" for value in worst)
                case = f"{' x '.join(map(str, shape))} | {'low' if low else 'plain'} | {backend}"
                print(f"{case} | {errors} | {broken} of {total}")


if __name__ == "__main__":
    main()
