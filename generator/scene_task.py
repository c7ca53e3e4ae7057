"""The work of a Ray actor: one scene, from recipe to staged tar. Only names and small records travel."""

import logging
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from randscene.errors import PlanError, RandsceneError, RenderError
from randscene.generator.dataset_folder import DatasetFolder, StagedScene, versions
from randscene.generator.light_pictures import Picture
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_glb import scene_glb
from randscene.generator.scene_maker import SceneFailedError, SceneMaker
from randscene.manifests import AssetRecord, DatasetSpec
from randscene.shards.store import open_store
from randscene.shards.view_sample import encode_members

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOutcome:
    """What became of one attempt at one scene."""

    scene: int
    attempt: int
    staged: StagedScene | None = None
    reason: str = ""
    """Empty when the scene is done."""
    stage: str = ""
    message: str = ""
    transient: bool = False
    fatal: bool = False
    """The whole build must stop: a full disk, a changed asset, a fault of the program."""
    log_tail: str = ""


class SceneActor:
    """Makes scenes, one at a time. Ray turns this class into an actor; it also works without Ray.

    `pictures` are the light pictures that the driver found: an actor that started later could find others; `token`
    names the build.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        lock: Sequence[AssetRecord],
        url: str,
        fingerprint: str,
        pictures: tuple[Picture, ...] | None = None,
        token: str = "",
    ) -> None:
        self._spec = spec
        self._folder = DatasetFolder(open_store(url), token)
        self._context = PlanContext.of(spec, lock, pictures)
        self._records = {record.uid: record for record in lock}
        self._fingerprint = fingerprint
        self._maker: SceneMaker | None = None

    def ready(self) -> dict[str, str]:
        """Versions of the software that decides bytes, here. Answers once the actor has a place and has started."""
        return versions(self._spec)

    def make(self, scene: int, attempt: int) -> SceneOutcome:
        """Plan, render, voxelise and encode one scene; commit it to the work folder. Never raises."""
        try:
            return self._make(scene, attempt)
        except SceneFailedError as error:
            return SceneOutcome(
                scene=scene, attempt=attempt, reason=error.reason, stage=error.stage, message=str(error)
            )
        except PlanError as error:
            return SceneOutcome(scene=scene, attempt=attempt, reason="no_layout", stage="plan", message=str(error))
        except RenderError as error:
            return SceneOutcome(
                scene=scene,
                attempt=attempt,
                reason=error.reason,
                stage="render",
                message=str(error),
                transient=error.transient,
                fatal=not error.transient,
                log_tail=error.log_tail,
            )
        except RandsceneError as error:
            return SceneOutcome(
                scene=scene, attempt=attempt, reason="stopped", stage="make", message=str(error), fatal=True
            )
        except Exception as error:
            return SceneOutcome(
                scene=scene,
                attempt=attempt,
                reason="program_error",
                stage="make",
                message=f"{type(error).__name__}: {error}",
                fatal=True,
                log_tail=traceback.format_exc(),
            )

    def _make(self, scene: int, attempt: int) -> SceneOutcome:
        recipe = plan_scene(self._context, scene, attempt)
        if self._maker is None:
            self._maker = SceneMaker(self._spec, self._records, self._fingerprint)
        made = self._maker.make(recipe)

        def members() -> Iterator[tuple[str, dict[str, bytes]]]:
            for sample in made.samples:
                yield sample.key, encode_members(sample, webp_quality=self._spec.shards.webp_quality)
            # Before the scene counts as done.
            if recipe.split in self._spec.scene_glb:
                self._folder.store.write(self._folder.glb_name(scene), scene_glb(made.instances))

        with self._folder.turn():
            staged = self._folder.stage(scene, members(), attempt, self._fingerprint)
        return SceneOutcome(scene=scene, attempt=attempt, staged=staged)
