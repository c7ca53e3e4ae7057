"""A connection to Ray: a running cluster, or one of our own for the time of the work."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from randscene.errors import RandsceneError
from randscene.extras import install_command
from randscene.files import explain_os_errors

_dashboards: list[str] = []


@contextlib.contextmanager
def ray_session(address: str | None, *, cpus: int | None = None, dashboard: bool = False) -> Iterator[Any]:
    """Connect to Ray; yields the `ray` module.

    Parameters
    ----------
    address : str, optional
        `host:port` or `ray://host:port` of a running cluster, or `auto` for the one on this machine. `local` or None
        start one here that ends with the context. A connection that this process has already is used as it is.
    cpus : int, optional
        CPUs of a Ray that is started here; all of them by default.
    dashboard : bool
        Start the dashboard with a Ray that is started here.

    Raises
    ------
    RandsceneError
        If Ray is not installed, cannot be reached, or cannot write its session folder.
    """
    try:
        import ray
    except ImportError as error:
        raise RandsceneError(f"this needs Ray: {install_command('generate')}") from error

    # Without this Ray rewrites the environment of tasks that ask for no GPU, a change that it announces at every start.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address in (None, "local"):
        # Only paths and small records travel, so a small object store will do.
        options |= {"address": "local", "include_dashboard": dashboard, "object_store_memory": 128 * 1024 * 1024}
        if cpus is not None:
            options["num_cpus"] = cpus
    else:
        _check_answers(address)
        options["address"] = address
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        with explain_os_errors("Ray's session folder"):
            context = ray.init(**options)
        _dashboards[:] = [url] if (url := getattr(context, "dashboard_url", "")) else []
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray puts a handler of its own there
    except (ConnectionError, ValueError) as error:
        raise RandsceneError(f"cannot reach Ray{f' at {address}' if address else ''}: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
        _dashboards.clear()


def dashboard_url() -> str:
    """Where the dashboard of the present Ray is, or empty where it has none."""
    return f"http://{_dashboards[0]}" if _dashboards else ""


def deaths(ray: Any) -> tuple[type[Exception], ...]:
    """What `ray.get` raises when an actor or a task died: by itself, with its machine, or because that ran out of
    memory."""
    names = ("RayActorError", "WorkerCrashedError", "NodeDiedError", "OutOfMemoryError")
    return tuple(getattr(ray.exceptions, name) for name in names)


def _check_answers(address: str | None) -> None:
    """Ray waits minutes for an address where nothing listens: see to it first that something does."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, and whatever else Ray knows by name
    try:
        with socket.create_connection((host, int(port)), timeout=10.0):
            pass
    except (OSError, OverflowError) as error:
        raise RandsceneError(f"cannot reach Ray at {address}: {error}; start it with `ray start --head`") from error
