"""Checks of PyTorch: the card, arithmetic on it, one training step of a small model, and the compiler."""

import shutil
import time
from typing import TYPE_CHECKING

from randscene.cli.checks.cards import nvidia_cards
from randscene.cli.checks.finding import Finding, Options, absent, ok, problem, warning

if TYPE_CHECKING:
    import torch

SIDE = 1024
"""Of the square matrices that are multiplied."""
ROUNDING = 2e-2
"""Largest error of a bfloat16 product, of the largest entry."""


def torch_and_card(options: Options) -> Finding:
    """Whether PyTorch sees the card, and multiplies right on it in bfloat16."""
    import torch

    version = f"torch {torch.__version__}"
    if not torch.cuda.is_available():
        cards = nvidia_cards()
        if cards:
            cure = "install a build for CUDA (pip install --force-reinstall torch), or update the driver"
            return warning(f"{version} does not see {cards[0].name}; training would use the processor", cure)
        if not options.quick and (fault := _product_fault(torch.device("cpu"))):
            return problem(fault, "pip install --force-reinstall torch")
        return ok(f"{version} on {torch.get_num_threads()} threads, no card", cards=0)
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    found = f"{version}, CUDA {torch.version.cuda}: {', '.join(names)}"
    if options.quick:
        return ok(found, cards=len(names))
    begun = time.monotonic()
    for number, name in enumerate(names):
        if fault := _product_fault(torch.device("cuda", number)):
            return problem(f"cuda:{number} ({name}): {fault}", "look at the card with: nvidia-smi -q", cards=len(names))
    return ok(found, seconds=time.monotonic() - begun, cards=len(names))


def model_step(options: Options) -> Finding:
    """Forward and backward pass of a small flow transformer with scene context, with the kernels that train picks."""
    import torch

    from randscene.train import SparseStructureFlow
    from randscene.train.attention_backend import attention_backend, best_backend

    device = _device()
    backend = best_backend(device, half=device.type == "cuda", deterministic=False)
    torch.manual_seed(0)
    model = SparseStructureFlow(
        resolution=8,
        in_channels=4,
        model_channels=128,
        cond_channels=64,
        out_channels=4,
        num_blocks=2,
        patch_size=1,
        qk_rms_norm=True,
        sca_blocks=(0, 1),
    ).to(device)
    x_scene, x_inst = torch.randn(1, 4, 8, 8, 8, device=device), torch.randn(2, 4, 8, 8, 8, device=device)
    cond_scene, cond_inst = torch.randn(1, 16, 64, device=device), torch.randn(2, 16, 64, device=device)
    begun = time.monotonic()
    with (
        attention_backend(backend),
        torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"),
    ):
        time_, scene_of = torch.full((1,), 500.0, device=device), torch.zeros(2, dtype=torch.int64, device=device)
        scene, inst = model.grouped(x_scene, x_inst, time_, cond_scene, cond_inst, scene_of)
        loss = (scene.float() - x_scene).square().mean() + (inst.float() - x_inst).square().mean()
        loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    finite = bool(torch.isfinite(loss)) and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
    seconds = time.monotonic() - begun
    if not finite or not gradients:
        return problem(
            f"a step on {device.type} gives no finite gradients (attention: {backend})",
            "train with: --set hardware.attention=math",
        )
    return ok(f"forward and backward on {device.type}, attention: {backend}", seconds=seconds, attention=backend)


def compiler(options: Options) -> Finding:
    """`torch.compile`, which train uses on a card."""
    import torch

    if not torch.cuda.is_available():
        return absent("not used without a card")
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        return warning(
            "no C compiler, which Triton needs",
            "apt-get install -y gcc, or train with: --set hardware.compile=never",
        )
    values = torch.linspace(-3, 3, 4096, device="cuda")
    begun = time.monotonic()
    function = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2 + x)
    error = float((function(values) - (torch.nn.functional.gelu(values) * 2 + values)).abs().max())
    if error > 1e-4:
        return warning(f"compiled code errs by {error:.2g}", "train with: --set hardware.compile=never")
    return ok("compiles for the card", seconds=time.monotonic() - begun)


def _device() -> "torch.device":
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _product_fault(device: "torch.device") -> str:
    """What is wrong with a product of bfloat16 matrices on a device; empty if nothing."""
    import torch

    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(SIDE, SIDE, generator=rng).bfloat16() for _ in range(2))
    exact = a.float() @ b.float()
    error = float(((a.to(device) @ b.to(device)).float().cpu() - exact).abs().max() / exact.abs().max())
    # Written so that a result that is no number fails as well.
    return "" if error <= ROUNDING else f"a bfloat16 product errs by {error:.2g} of its largest entry"
