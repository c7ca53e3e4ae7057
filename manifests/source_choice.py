"""Which source a lock is built from, and which settings belong to which source."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from randscene.errors import LockError
from randscene.manifests.asset_record import UpAxis
from randscene.manifests.licences import LicencePolicy
from randscene.manifests.sources import SOURCES, Listing, directory, procedural

if TYPE_CHECKING:
    from randscene.manifests.objaverse_source import ObjaverseOptions


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """A source with its settings; those of another source are a mistake that `listing` names."""

    source: str
    path: Path | None
    count: int | None
    seed: int
    up_axis: UpAxis
    licence: str
    attribution: str
    objaverse: "ObjaverseOptions | None"

    def listing(
        self, assets: Path, policy: LicencePolicy, progress: Callable[[int, int], None] | None = None
    ) -> Listing:
        """What the source holds; files that it makes or fetches are to lie in `assets`.

        Raises
        ------
        LockError
            If the source is unknown or holds nothing, or a setting is missing, wrong or of another source.
        """
        if self.source not in SOURCES:
            raise LockError(f"unknown asset source {self.source!r}: it is one of {', '.join(SOURCES)}")
        self._refuse_foreign_settings()
        if self.source == "procedural":
            if self.count is None:
                raise LockError("the procedural source is endless: say how many assets with --count")
            return procedural(assets, count=self.count, seed=self.seed)
        if self.source == "directory":
            if self.path is None:
                raise LockError("the directory source needs --path, the folder that holds the meshes")
            return directory(
                self.path,
                assets=assets,
                up_axis=self.up_axis,
                licence=self.licence,
                attribution=self.attribution,
                count=self.count,
                progress=progress,
            )
        from randscene.manifests.objaverse_source import objaverse  # asks for a network library

        return objaverse(
            assets,
            folder=self.path,
            options=self.objaverse,
            count=self.count,
            seed=self.seed,
            policy=policy,
            progress=progress,
        )

    def _refuse_foreign_settings(self) -> None:
        if self.source != "directory" and (self.licence or self.attribution):
            raise LockError(f"--licence and --attribution are for --source directory: {self.source} states its own")
        if self.source != "objaverse" and self.objaverse is not None:
            raise LockError(f"--lvis, --metadata and --min-aesthetic are for --source objaverse, not {self.source}")
        if self.source == "procedural" and self.path is not None:
            raise LockError("--path is for --source directory and --source objaverse, not procedural")
        if self.source == "directory" and self.seed != 0:
            raise LockError("--seed is for --source procedural and --source objaverse, not directory")
