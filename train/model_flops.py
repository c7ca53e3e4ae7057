"""Floating-point operations of a training step: what a rate in model-TFLOP/s is counted in.

Counted are the matrix products and attention of the flow transformer, each multiplication and addition, a scene once
for all of its instances, forward times three. Work that is done again for lack of memory, frozen encoders, the
optimiser and everything element by element count for nothing.
"""

from randscene.train.settings import ConditionerSettings, ModelSettings

TIMES_FORWARD = 3
"""Forward pass, and twice as much for the backward pass."""


def condition_tokens(settings: ConditionerSettings) -> int:
    """Tokens of an image: `dinov2` has one for the class and four registers beside those of the patches."""
    patches = (settings.image_size // settings.patch_size) ** 2
    return patches + (5 if settings.kind == "dinov2" else 0)


def step_flops(model: ModelSettings, cond_tokens: int, *, scenes: int, instances: int) -> float:
    """Operations of forward and backward pass.

    Parameters
    ----------
    model : ModelSettings
    cond_tokens : int
        Condition tokens of each sequence.
    scenes, instances : int
        S and M: sequences of the two branches.
    """
    rows, c = scenes + instances, model.model_channels
    tokens = (model.resolution // model.patch_size) ** 3
    cells = model.patch_size**3
    per_block = 2 * rows * (
        tokens * (6 + 2 * model.mlp_ratio) * c**2  # qkv, out, cross q and out, feed-forward
        + cond_tokens * 2 * c * model.cond_channels  # cross keys and values
        + 6 * c**2  # modulation
    ) + 4 * c * rows * tokens * (tokens + cond_tokens)
    context = 4 * c * instances * tokens**2
    ends = 2 * rows * tokens * c * cells * (model.in_channels + model.out_channels)
    return TIMES_FORWARD * (model.num_blocks * per_block + len(model.sca_blocks) * context + ends)
