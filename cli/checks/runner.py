"""Make checks, each in a process of its own: what crashes, hangs or prints there is one line here."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence

from randscene.cli.checks.catalogue import CHECKS, SHOWN_WHEN_ABSENT, Check
from randscene.cli.checks.finding import Finding, Options, absent, failed

Row = tuple[Check, Finding]


def make_checks(
    options: Options,
    needed: Collection[str] = (),
    checks: Sequence[Check] = CHECKS,
    on_begin: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Make the checks one after the other; yields each with what it found.

    Parameters
    ----------
    options : Options
        `work` and `device` are filled in here.
    needed : collection of str
        Uses (`generate`, `train`) that must work: what is not here for them is a problem.
    checks : sequence of Check
    on_begin : callable
        Called with the name of each check before it is made.
    """
    devices: set[str] | None = None
    with tempfile.TemporaryDirectory(prefix="randscene-doctor-", ignore_cleanup_errors=True) as work:
        for check in checks:
            if check.slow and options.quick:
                continue
            if check.blender and (devices is None or (check.device and check.device not in devices)):
                if not check.device or check.device in SHOWN_WHEN_ABSENT:
                    why = "not looked at, since Blender does not start" if devices is None else "no such card"
                    yield check, absent(why)
                continue
            on_begin(check.name)
            finding = in_child(check, dataclasses.replace(options, work=work, device=check.device))
            if check.name == "blender" and finding.status == "ok":
                devices = {device["type"] for device in finding.facts["devices"]}
            lacking = finding.status == "absent" or bool(finding.facts.get("missing"))
            if lacking and check.use in needed and not check.optional:
                finding = dataclasses.replace(finding, status="problem")
            yield check, finding


def in_child(check: Check, options: Options) -> Finding:
    """Make one check in a process of its own, and end that with all that it has started."""
    command = [sys.executable, "-P", "-m", "randscene.cli.checks.child", check.name]
    with subprocess.Popen(
        [*command, json.dumps(dataclasses.asdict(options))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            answer, log = process.communicate(timeout=check.timeout_s)
        except subprocess.TimeoutExpired:
            return failed(f"did not answer within {check.timeout_s:g} s", check.cure, optional=check.optional)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        with contextlib.suppress(ValueError, TypeError):
            return Finding(**json.loads(answer))
    status = process.returncode
    how = f"signal {-status} ({signal.strsignal(-status)})" if status < 0 else f"status {status}"
    lines = log.decode(errors="replace").strip().splitlines()
    last = f": {lines[-1][:160]}" if lines else ""
    return failed(f"its process ended with {how}{last}", check.cure, optional=check.optional)
