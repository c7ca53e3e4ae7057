"""Prediction in two stages: what `Predictor` gives, and a coloured mesh of every instance beside it."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import seeding
from randscene.canonical_json import digest
from randscene.train.devices import choose_device
from randscene.train.image_conditioner import crop_images
from randscene.train.predict import Predictor
from randscene.train.prediction_source import PredictionSource
from randscene.train.prediction_view import View
from randscene.train.stage_two import IMAGE_SIZE, StageTwo
from randscene.train.stage_two_mesh import TexturedMesh


class StageTwoPredictor(Predictor):
    """As `Predictor`; `instance_XX_textured.glb` and `scene_textured.glb` are written, too.

    Parameters
    ----------
    source : Path or str or PredictionSource
    stage_two : StageTwo
    arguments
        `Predictor`'s.
    """

    def __init__(self, source: Path | str | PredictionSource, *, stage_two: StageTwo, **arguments: Any) -> None:
        super().__init__(source, **arguments)
        self.stage_two = stage_two

    def settings_digest(self) -> str:
        """Identity of everything but the view that a prediction depends on, stage 2 among it."""
        return digest({"stage_one": super().settings_digest(), "stage_two": self.stage_two.identity})

    def textured(self, view: View, logits: NDArray[Any]) -> list[TexturedMesh | None]:
        """Stage 2 for each instance of a view, in id order; None where stage 1 or stage 2 gave nothing.

        The noise of an instance follows from the seed, the view's key and its id alone.

        Parameters
        ----------
        view : View
        logits : (N, 64, 64, 64) float
            Of stage 1; occupied where > 0.
        """
        images = crop_images(view.image, IMAGE_SIZE)[1:]
        meshes: list[TexturedMesh | None] = []
        for instance, (field, image) in enumerate(zip(logits, images), start=1):
            coords = np.argwhere(field > 0).astype(np.uint8)
            seed = seeding.integer(self.seed, view.key, instance, "stage two")
            pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
            meshes.append(self.stage_two.textured(coords, pixels, seed=seed) if len(coords) else None)
        return meshes

    def _beside(self, view: View, logits: NDArray[Any]) -> dict[str, Any]:
        return {"textured": self.textured(view, logits)}

    def _about(self) -> dict[str, Any]:
        return super()._about() | {"stage_two": self.stage_two.about()}


def load_two_stages(
    source: Path | str | PredictionSource,
    stage_two: str,
    *,
    texture: bool = False,
    device: str | None = None,
    **arguments: Any,
) -> StageTwoPredictor:
    """Load stage 2 first, so that a missing package is told at once, then stage 1 (`arguments` as `Predictor`'s).

    Raises
    ------
    SpecError, CheckpointError
        See `StageTwo.load` and `Predictor`.
    """
    device = str(choose_device(device))
    second = StageTwo.load(stage_two, device, texture=texture)
    return StageTwoPredictor(source, stage_two=second, device=device, **arguments)
