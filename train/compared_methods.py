"""The methods of a comparison: what each is called, and whether their predictions can be compared at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from randscene.errors import PredictionError, SpecError
from randscene.train.output_layouts import OWN, PredictionReading
from randscene.train.output_scene import predicted_keys, read_predicted


def name_methods(folders: Sequence[Path], names: Sequence[str] = ()) -> dict[str, Path]:
    """Folders of predictions by the name of their method: `names`, or the folders' own.

    Raises
    ------
    SpecError
        If there are too few or too many names, two are the same, or one cannot name a folder.
    """
    if names and len(names) != len(folders):
        raise SpecError(f"{len(names)} names for {len(folders)} folders of predictions; give --name once for each")
    methods: dict[str, Path] = {}
    for name, folder in zip(names or [folder.resolve().name for folder in folders], folders, strict=True):
        if not name.isprintable() or not name.strip() or name.startswith(".") or "/" in name or "\\" in name:
            raise SpecError(f"{name!r} cannot name a method: its scores go into a folder of this name; give --name")
        if name in methods:
            raise SpecError(f"{methods[name]} and {folder} are both named {name!r}; give --name once for each")
        methods[name] = folder
    return methods


def check_methods(
    methods: Mapping[str, Path],
    *,
    same_views: bool,
    readings: Mapping[str, PredictionReading] | None = None,
    depth: int = 1,
) -> None:
    """Refuse folders of predictions before the first is scored.

    Parameters
    ----------
    methods : mapping of str to Path
        Folders of predictions by the method's name.
    same_views : bool
        Every method must have predicted the views that any of them did.
    readings : mapping of str to PredictionReading, optional
        How each method's folder is read; as ours by default.
    depth : int
        2 where keys are `house/room`.

    Raises
    ------
    PredictionError
        If a prediction cannot be read; or, naming every method that lacks views and the first of these.
    """
    how = {name: (readings or {}).get(name, OWN) for name in methods}
    keys = {name: set(predicted_keys(folder, how[name], depth=depth)) for name, folder in methods.items()}
    for name, folder in methods.items():
        for key in sorted(keys[name]):
            read_predicted(folder, key, how[name])
    every = set().union(*keys.values()) if same_views else set()
    if lacking := {name: sorted(every - found) for name, found in keys.items() if every - found}:
        told = "; ".join(
            f"{name} lacks {', '.join(absent[:5])}" + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
            for name, absent in lacking.items()
        )
        raise PredictionError(
            f"the methods did not predict the same views: {told}; predict them, or give --require-all, which counts "
            f"every sample of the dataset and scores one without a prediction as failed"
        )
