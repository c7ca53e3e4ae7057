"""The smallest model that has every part: what tests of everything around a model train and run."""

TINY_MODEL = (
    "model.model_channels=32",
    "model.cond_channels=32",
    "model.num_blocks=1",
    "model.num_heads=2",
    "model.patch_size=4",
    "model.sca_blocks=[0]",
    "conditioner.channels=32",
    "conditioner.image_size=32",
    "conditioner.num_blocks=0",
    "conditioner.num_heads=2",
)
"""Overrides of the preset `mini`."""
