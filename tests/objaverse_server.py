"""A local server with the layout of the dataset repository `allenai/objaverse`, that misbehaves on request."""

import gzip
import hashlib
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trimesh

PREFIX = "/datasets/allenai/objaverse/resolve/main/"
LICENCES = ("by", "by", "by-nc", "cc0", "by-sa", "by-nc-sa", "by", "strange")


def uid_of(number: int) -> str:
    return hashlib.md5(f"object {number}".encode()).hexdigest()


def glb_of(number: int) -> bytes:
    return trimesh.creation.box((1 + number / 7, 1, 0.5 + number / 3)).export(file_type="glb")


def layout(count: int = 16) -> dict[str, bytes]:
    """Files of a small Objaverse by their place: four objects a shard, the even ones in LVIS."""
    files: dict[str, bytes] = {}
    places, shards = {}, defaultdict(dict)
    for number in range(count):
        uid, shard = uid_of(number), f"000-{number // 4:03d}"
        places[uid] = f"glbs/{shard}/{uid}.glb"
        files[places[uid]] = glb_of(number)
        shards[shard][uid] = {
            "uid": uid,
            "name": f"Thing {number}\nwith a line",
            "license": LICENCES[number % len(LICENCES)],
            "user": {"username": f"user{number}", "displayName": f"Person {number}"},
            "viewerUrl": f"https://sketchfab.com/3d-models/{uid}",
            "categories": [{"name": "furniture-home"}],
            "faceCount": 12,
        }
    lvis = {
        "chair": [uid_of(number) for number in range(0, count, 4)],
        "table": [uid_of(number) for number in range(2, count, 4)],
    }
    packed = {"object-paths": places, "lvis-annotations": lvis, **{f"metadata/{k}": v for k, v in shards.items()}}
    return files | {f"{name}.json.gz": gzip.compress(json.dumps(data).encode()) for name, data in packed.items()}


@dataclass
class Objaverse:
    """What the server holds and has seen. `faults[place]` are used up one a request; a last one ending in `*` stays."""

    files: dict[str, bytes]
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, place, Range header) of every request to the repository."""
    tokens: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Authorization headers seen, by `hub` and `storage`."""
    url: str = ""

    def gets(self, ending: str = ".glb") -> list[str]:
        """Places that were fetched."""
        return [place for method, place, _ in self.asked if method == "GET" and place.endswith(ending)]

    def next_fault(self, place: str) -> str:
        faults = self.faults[place]
        if not faults:
            return ""
        return faults[0].removesuffix("*") if faults[0].endswith("*") else faults.pop(0)


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Objaverse]:
    """Run the server; the address is `url`. Files of type glb are redirected to another host name, as the hub does."""
    state = Objaverse(files)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *args: object) -> None:
            pass

        def _answer(self, *, body: bool) -> None:
            if self.path.startswith("/storage/"):
                place = self.path.removeprefix("/storage/")
                state.tokens["storage"].add(self.headers.get("Authorization", ""))
                return self._send(place, body=body, fault=state.next_fault(place))
            place = self.path.removeprefix(PREFIX)
            state.tokens["hub"].add(self.headers.get("Authorization", ""))
            state.asked.append((self.command, place, self.headers.get("Range", "")))
            if place not in state.files or not self.path.startswith(PREFIX):
                return self._status(404, "X-Error-Code", "EntryNotFound")
            if not place.endswith(".glb"):
                return self._send(place, body=body, fault=state.next_fault(place))
            data = state.files[place]
            self.send_response(302)
            port = self.server.server_address[1]
            self.send_header("Location", f"http://localhost:{port}/storage/{place}")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _status(self, status: int, *header: str) -> None:
            self.send_response(status)
            if header:
                self.send_header(*header)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _send(self, place: str, *, body: bool, fault: str) -> None:
            data = state.files[place]
            if fault in ("404", "410", "403", "500", "503", "416"):
                return self._status(int(fault))
            if fault.startswith("busy"):
                return self._status(429, "Retry-After", fault.removeprefix("busy") or "0")
            if fault == "slow":
                time.sleep(1.5)
            if fault == "wrong":
                data = data[:-1] + bytes([data[-1] ^ 1])
            start = 0
            if (wanted := self.headers.get("Range", "")) and fault != "no-range":
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    return self._status(416)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("ETag", f'"{hashlib.md5(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            if not body:
                return
            rest = data[start:]
            if fault == "cut":
                self.wfile.write(rest[: len(rest) // 2])
                self.close_connection = True
            elif fault == "trickle":
                for byte in rest[:100]:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(0.05)
                self.close_connection = True
            else:
                self.wfile.write(rest)

        def handle(self) -> None:
            try:
                super().handle()
            except (BrokenPipeError, ConnectionResetError):  # a client that gave up
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
