"""Weights from the Hugging Face hub: fetched once from a server of that form, then from the cache, else one line."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from safetensors.torch import save_file

from randscene.train import SparseStructureEncoder

pytest.importorskip("huggingface_hub")

REPOSITORY = "someone/a-model"
ARGUMENTS = {"in_channels": 1, "latent_channels": 8, "num_res_blocks": 1, "channels": [2, 4, 8]}
STEM = "ckpts/ss_enc_conv3d_16l8_fp16"
IMPATIENT = "import time; time.sleep = lambda seconds: None; "
"""The hub's package waits 23 seconds between its tries."""
CODE = "from randscene.train import load_encoder; e = load_encoder('someone/a-model'); print(e.name, e.sha256)"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    save_file(SparseStructureEncoder(**ARGUMENTS).state_dict(), path)
    config = {"name": "SparseStructureEncoder", "args": ARGUMENTS}
    return {f"{STEM}.json": json.dumps(config).encode(), f"{STEM}.safetensors": path.read_bytes()}


@pytest.fixture
def hub(files) -> Iterator[tuple[str, list[str]]]:
    """Address of a server that has the repository, and the requests that it has seen."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            data = files.get(self.path.removeprefix(f"/{REPOSITORY}/resolve/main/"))
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def load(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Load the encoder in a process of its own: the hub's package reads its settings when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGINGFACE_"))}
    return subprocess.run(
        [sys.executable, "-c", IMPATIENT + CODE],
        env={**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_weights_are_fetched_once_and_their_hash_is_known(hub, files, tmp_path):
    address, asked = hub
    first = load(tmp_path, HF_ENDPOINT=address)
    assert first.returncode == 0, first.stderr
    digest = hashlib.sha256(files[f"{STEM}.safetensors"]).hexdigest()
    assert first.stdout.split() == [REPOSITORY, digest]
    fetched = [line for line in asked if line.startswith("GET") and line.endswith(".safetensors")]
    again = load(tmp_path, HF_ENDPOINT=address)
    assert again.stdout == first.stdout
    assert [line for line in asked if line.startswith("GET") and line.endswith(".safetensors")] == fetched


def test_without_a_network_the_cache_serves(hub, tmp_path):
    address, _ = hub
    assert load(tmp_path, HF_ENDPOINT=address).returncode == 0
    offline = load(tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert offline.returncode == 0 and offline.stdout.startswith(REPOSITORY), offline.stderr


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_without_network_and_cache_one_line_says_how_to_provide_the_files(tmp_path, environment):
    done = load(tmp_path, **environment)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode != 0 and "CheckpointError" in last
    assert "cannot fetch" in last and "put ckpts/ss_enc_conv3d_16l8_fp16.json and" in last
