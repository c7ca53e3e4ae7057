"""Ray's calls as builds use them, answered in this process: for tests that are not about Ray, whose processes take
seconds to start. What would travel between processes is pickled, and taken as it comes out again."""

import contextlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from randscene.generator import build, encode, estimate_build, front3d_import


class InProcessRay:
    """In place of the module `ray`: one CPU, actors that never die, work that is done when it is asked for."""

    class exceptions:
        class Death(Exception):
            """Never raised."""

        RayTaskError = RayActorError = WorkerCrashedError = NodeDiedError = OutOfMemoryError = Death

    def put(self, value: Any) -> Any:
        return _sent(value)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": self.cluster_resources(), "Labels": {"ray.io/node-id": "0"}}]

    def remote(self, **_: object) -> Callable[[type], "_Sender"]:
        return lambda kind: _Sender(lambda *given, **named: _Actor(kind(*given, **named)))

    def wait(self, answers: list["_Answer"], *, num_returns: int, timeout: float = 0) -> tuple[list[Any], list[Any]]:
        return answers[:num_returns], answers[num_returns:]

    def get(self, reference: Any) -> Any:
        return [one.value() for one in reference] if isinstance(reference, list) else reference.value()

    def kill(self, actor: Any) -> None:
        pass


def _sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301  our own


class _Sender:
    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def remote(self, *given: Any, **named: Any) -> Any:
        given, named = _sent((given, named))
        return self._call(*given, **named)


class _Actor:
    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> _Sender:
        method = getattr(self._inner, name)
        return _Sender(lambda *given, **named: _Answer(lambda: method(*given, **named)))


class _Answer:
    """What a call has returned or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._error: Exception | None = None
        try:
            self._value = _sent(call())
        except Exception as error:
            self._error = error

    def value(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value


@contextlib.contextmanager
def in_process_ray() -> Iterator[None]:
    """For a while builds, estimates, imports and encoders take `InProcessRay` for Ray, whatever address they name."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (build, encode, estimate_build, front3d_import):
            patch.setattr(module, "ray_session", lambda *_, **__: contextlib.nullcontext(InProcessRay()))
        yield
