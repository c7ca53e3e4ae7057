"""Errors that a person reads: one clear line each, shown without a traceback by the command line."""

from typing import Any, Self


class RandsceneError(Exception):
    """Base of every expected error. The message says what is wrong and what to do about it."""


class SpecError(RandsceneError):
    """A dataset spec, preset or setting that is unknown, malformed or cannot be met."""


class LockError(RandsceneError):
    """An asset lock that is missing, corrupt or does not agree with the files that it names."""


class AssetError(RandsceneError):
    """A mesh file that cannot be used.

    Parameters
    ----------
    reason : str
        A short typed reason (`snake_case`), stored in locks and failure records.
    message : str
        The line for people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, Any]]:
        # An exception is rebuilt from its `args`, which hold the message alone.
        return type(self), (self.reason, str(self)), self.__dict__


class PlanError(RandsceneError):
    """A layout that the sampler could not produce within its budget."""


class RenderError(RandsceneError):
    """A renderer that failed, timed out or died.

    Parameters
    ----------
    reason : str
        A short typed reason (`snake_case`): `worker_died`, `timeout`, `import_failed`, ...
    message : str
        The line for people.
    log_tail : str
        The last lines that the renderer printed.
    transient : bool
        True when the same recipe may well succeed if tried again (the process was killed, a time-out);
        False when the recipe itself is at fault.
    """

    def __init__(self, reason: str, message: str, *, log_tail: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.log_tail = log_tail
        self.transient = transient

    def __reduce__(self) -> tuple[type[Self], tuple[str, str], dict[str, Any]]:
        return type(self), (self.reason, str(self)), self.__dict__


class DatasetError(RandsceneError):
    """A dataset folder, shard, index or sample that is missing, corrupt or not what was asked for."""


class CheckpointError(RandsceneError):
    """A training checkpoint that is missing, corrupt or of another shape than the model."""


class PredictionError(RandsceneError):
    """A prediction folder or file that cannot be scored as it stands."""


def first_line(error: BaseException) -> str:
    """What an error of a library says, cut to one line; the name of its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
