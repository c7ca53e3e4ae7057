"""Downloads that end whole and verified or with a typed reason: retries, resumption, hashes, time limits."""

import os
import re
import threading
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
import urllib3

import randscene
from randscene.errors import AssetError
from randscene.files import explain_os_errors, fsync, sha256_of

CONNECT_TIMEOUT_S = 10.0
LONGEST_PAUSE_S = 300.0
"""The longest that a server's `Retry-After` is waited for."""
SLOWEST = 1000.0
"""Bytes a second; a server that is slower than this over the time limit counts as one that does not answer."""

_DEAD = (404, 410, 451)
_NOT_ALLOWED = (401, 403)
_LAYERS = re.compile(r"^(?:\S*Connection(?:Pool)?\([^)]*\): ?)+")
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class Downloader:
    """Fetches files over HTTP; may be used from several threads.

    A file that is cut off is gone on with where it ended, in this process or the next, as long as the server still
    publishes the same hash. The Hugging Face hub publishes the SHA-256 of large files as their `ETag`.

    Parameters
    ----------
    token : str, optional
        Sent as a bearer token to the host that is asked, never to one that it redirects to.
    timeout_s : float
        Seconds that a server may be silent.
    attempts : int
        How often one file is tried.
    pause_s : float
        Seconds before the second attempt; doubled before each further one. A server's `Retry-After` comes first.
    """

    def __init__(
        self, *, token: str | None = None, timeout_s: float = 30.0, attempts: int = 5, pause_s: float = 1.0
    ) -> None:
        self._token = token
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._pause_s = pause_s
        self._stopped = threading.Event()
        self._local = threading.local()

    def stop(self) -> None:
        """Wake every thread that waits for another attempt, and let it end."""
        self._stopped.set()

    def fetch(self, url: str, target: Path, *, sha256: str | None = None) -> None:
        """Download `url` to `target`, whole or not at all.

        Parameters
        ----------
        url : str
        target : Path
            Replaced if it exists.
        sha256 : str, optional
            What the bytes must be. The hash that the server publishes, if any, is checked as well.

        Raises
        ------
        AssetError
            With reason `dead_link` (the server says that there is no such file), `hash_mismatch` (the bytes are not
            those that were promised) or `download_failed` (no whole file after all attempts).
        RandsceneError
            If the disk is full or not writable.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return self._attempt(url, target, sha256)
            except _Again as again:
                reason, message, pause = again.reason, str(again), again.pause
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                reason, message, pause = "download_failed", _one_line(error), None
            if attempt < self._attempts:
                self._stopped.wait(self._pause_s * 2 ** (attempt - 1) if pause is None else pause)
            if self._stopped.is_set():
                break
        raise AssetError(reason, f"{url}: {message} (tried {attempt} times)")

    def published_sha256(self, url: str) -> str | None:
        """The SHA-256 that the server states for a file, without fetching it; None when it states none.

        Raises
        ------
        AssetError
            With reason `dead_link` or `download_failed`; it is asked only once.
        """
        try:
            with self._session().head(url, timeout=self._timeout, allow_redirects=True) as response:
                _check_status(url, response)
                return _published(response)
        except (_Again, requests.RequestException) as error:
            raise AssetError("download_failed", f"{url}: {_one_line(error)}") from error

    @property
    def _timeout(self) -> tuple[float, float]:
        return min(CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = f"randscene/{randscene.__version__}"
            session.headers["Accept-Encoding"] = "identity"
            if self._token:
                session.headers["Authorization"] = f"Bearer {self._token}"
            self._local.session = session
        session = self._local.session
        assert isinstance(session, requests.Session)
        return session

    def _attempt(self, url: str, target: Path, sha256: str | None) -> None:
        part = target.with_name(f".{target.name}.part")
        note = part.with_name(f"{part.name}.sha256")  # the hash that the server published when the part was begun
        with explain_os_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            have = part.stat().st_size if part.exists() and note.exists() else 0
            begun_as = note.read_text() if have else ""
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._session().get(url, headers=headers, stream=True, timeout=self._timeout) as response:
            if have and response.status_code == 416:  # no longer than the part that is here already
                _discard(part, note)
                raise _Again("download_failed", "the part that was here does not belong to it", pause=0.0)
            _check_status(url, response)
            published = _published(response)
            tail = response.status_code == 206
            if tail and not (published == begun_as and _starts_at(response, have)):
                _discard(part, note)
                raise _Again("download_failed", "it has changed since it was begun", pause=0.0)
            with explain_os_errors(target):
                if not tail:
                    _discard(part, note)
                    if published is not None:
                        note.write_text(published)
                self._receive(response, part, append=tail)
            size, whole = part.stat().st_size, _size(response)
        if whole is not None and size != whole:
            if size > whole:
                _discard(part, note)
            raise _Again("download_failed", f"it was cut off after {size} of {whole} bytes")
        found = sha256_of(part)
        if published is not None and found != published:
            _discard(part, note)
            raise _Again("hash_mismatch", f"its SHA-256 is {found[:12]}..., not {published[:12]}... as the server says")
        if sha256 is not None and found != sha256:
            _discard(part, note)
            raise AssetError("hash_mismatch", f"{url}: its SHA-256 is {found[:12]}..., not {sha256[:12]}...")
        with explain_os_errors(target):
            os.replace(part, target)
            note.unlink(missing_ok=True)
            fsync(target.parent)

    def _receive(self, response: requests.Response, part: Path, *, append: bool) -> None:
        began, received = time.monotonic(), 0
        with part.open("ab" if append else "wb") as handle:
            # `read1` gives what is there, so that a trickle is noticed and a broken connection loses nothing.
            while chunk := response.raw.read1(1 << 16):
                handle.write(chunk)
                received += len(chunk)
                if time.monotonic() - began > self._timeout_s + received / SLOWEST:
                    raise _Again("download_failed", f"the server sent only {received} bytes in {self._timeout_s:g} s")
                if self._stopped.is_set():
                    raise _Again("download_failed", "stopped")
            handle.flush()
            os.fsync(handle.fileno())


class _Again(Exception):
    """An attempt that failed in a way that another one may not."""

    def __init__(self, reason: str, message: str, *, pause: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.pause = pause


def _check_status(url: str, response: requests.Response) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    said = f"the server says {status} {response.reason or ''}".rstrip()
    if status in _DEAD:
        raise AssetError("dead_link", f"{url}: {said}")
    if status in _NOT_ALLOWED:
        raise AssetError("download_failed", f"{url}: {said}; if it needs an account, set HF_TOKEN")
    if status in (408, 425, 429) or status >= 500:
        raise _Again("download_failed", said, pause=_retry_after(response))
    raise AssetError("download_failed", f"{url}: {said}")


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return min(float(text), LONGEST_PAUSE_S)
    try:
        date = parsedate_to_datetime(text) - parsedate_to_datetime(response.headers.get("Date", ""))
    except (ValueError, TypeError):  # neither number nor dates
        return None
    return min(max(date.total_seconds(), 0.0), LONGEST_PAUSE_S)


def _hops(response: requests.Response) -> list[Any]:
    """Headers on the way: the hub states hash and size where it redirects to its storage, not at the storage."""
    return [hop.headers for hop in (*response.history, response)]


def _published(response: requests.Response) -> str | None:
    for headers in _hops(response):
        for name in ("X-Linked-ETag", "ETag"):
            if match := _SHA256.fullmatch(headers.get(name, "")):
                return match[1]
    return None


def _size(response: requests.Response) -> int | None:
    for headers in _hops(response):
        if (text := headers.get("X-Linked-Size", "")).isdigit():
            return int(text)
    text = response.headers.get("Content-Range", "").rpartition("/")[2] or response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _starts_at(response: requests.Response, place: int) -> bool:
    return response.headers.get("Content-Range", "").startswith(f"bytes {place}-")


def _discard(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)


def _one_line(error: BaseException) -> str:
    """What went wrong, without the layers of libraries that it went through."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = _LAYERS.sub("", " ".join(str(error).split()))[:200]
    return text or type(error).__name__
