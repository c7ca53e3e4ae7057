"""What a run measures at a checkpoint: the loss of its averaged weights on held-out groups, and pictures of these."""

import math

from randscene.shards import Mixture
from randscene.train.batch import LatentSource
from randscene.train.conditioned_flow import ConditionedFlow
from randscene.train.process_group import ProcessGroup
from randscene.train.run_log import RunLog
from randscene.train.sample_pictures import sample_sheet, whole_scenes
from randscene.train.settings import RunSettings
from randscene.train.structure_encoder import LoadedDecoder, load_decoder
from randscene.train.validation import Validation, ValidationLoss


class RunValidation:
    """A run's held-out groups, and the model that is measured on them.

    Parameters
    ----------
    views : Mixture
        Held out.
    settings : RunSettings
    source : LatentSource
    average : ConditionedFlow
        On the group's device; the main process has its weights.
    group : ProcessGroup
        Whose processes share the groups.
    """

    def __init__(
        self,
        views: Mixture,
        settings: RunSettings,
        source: LatentSource,
        average: ConditionedFlow,
        group: ProcessGroup,
    ) -> None:
        at_once = settings.hardware.groups_at_once or 4
        self._groups = Validation(views, settings, source, settings.validation.groups, groups_at_once=at_once)
        self._settings, self._source, self._average, self._group = settings, source, average, group
        self._decoder: LoadedDecoder | None = None

    def measure(self, step: int, run_log: RunLog | None) -> float:
        """The loss, which is logged with its parts and pictures if it is finite; every process must call it.

        Parameters
        ----------
        step : int
            Steps done, for the log.
        run_log : RunLog or None
            The main process's.
        """
        settings, group = self._settings, self._group
        for part in self._average.parts().values():
            for tensor in part.state_dict().values():
                group.broadcast_in_place(tensor)
        values = self._groups.sums(
            self._average, group.device, settings.optimiser.precision, rank=group.rank, world_size=group.size
        )
        group.sum_in_place(values)
        found = ValidationLoss.from_vector(values)
        total = found.total(settings.optimiser.scene_weight)
        if run_log is not None and math.isfinite(total):
            told = {"loss": total, "loss_scene": found.scene, "loss_instance": found.instance}
            run_log.write_validation(step, told | found.by_time)
            if settings.validation.pictures:
                self._draw(step, run_log)
        return total

    def _draw(self, step: int, run_log: RunLog) -> None:
        if self._decoder is None:
            self._decoder = load_decoder(self._settings.data.encoder, str(self._group.device))
        views = self._groups.samples(self._settings.validation.pictures)
        batch = whole_scenes(views, self._settings, self._source)
        sheet = sample_sheet(self._average, self._decoder, batch, self._settings, views=views, seed=self._settings.seed)
        run_log.write_picture(step, sheet)
