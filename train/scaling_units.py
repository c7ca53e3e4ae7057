"""The units of a study: a run with all that is measured of it, how far it is, and who does it."""

from dataclasses import dataclass

from randscene.train.scaling_study import Arm
from randscene.train.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One thing measured of one run on one evaluation set."""

    set: str
    kind: str
    """`loss`, or a protocol."""
    views: int
    done: bool


@dataclass(frozen=True, kw_only=True)
class Unit:
    """One run and all that is measured of it."""

    arm: Arm
    seed: int
    settings: RunSettings
    """But for the first weights, if they are another run's."""
    scenes: int
    """Scenes that it learns from, over all of its datasets."""
    samples: int
    steps_done: int
    """Up to its newest checkpoint."""
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Also that of its folders."""
        return unit_name(self.arm.name, self.seed)

    @property
    def steps(self) -> int:
        return self.settings.optimiser.steps

    @property
    def sequences(self) -> int:
        """Latent grids that go through the model, scenes and instances, over the whole run."""
        data = self.settings.data
        return self.steps * data.scenes_per_step * (1 + data.instances_per_scene)

    @property
    def trained(self) -> bool:
        return self.steps_done >= self.steps

    def lacks_scores(self, name: str) -> bool:
        """Whether a protocol is still to be measured on the evaluation set `name`."""
        return any(piece.set == name and piece.kind != "loss" and not piece.done for piece in self.pieces)

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.trained and all(piece.done for piece in self.pieces)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All units of a study, arm by arm and seed by seed, and which of them one part does."""

    units: tuple[Unit, ...]
    mine: tuple[Unit, ...]
    """Those of this part, in the order in which they are made: an arm comes after the one that it begins from."""

    @property
    def done(self) -> bool:
        return all(unit.done for unit in self.units)


def unit_name(arm: str, seed: int) -> str:
    """Of an arm with a seed; also of its folders."""
    return f"{arm}-seed{seed}"
