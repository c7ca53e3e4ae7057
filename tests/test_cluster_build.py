"""A build on a Ray cluster of three nodes, one of which goes half way."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_build import FAST, promised_bytes

MORE = [*FAST, "splits.train.scenes=12", "render.resolution=128"]

BUILD = """
import sys
from randscene.generator import generate
from randscene.manifests import load_spec, with_overrides
spec = with_overrides(load_spec("demo"), sys.argv[4:])
generate(spec, sys.argv[1], sys.argv[2], ray_address=sys.argv[3] or None, workers=None if sys.argv[3] else 1)
"""


def start(lock_path: Path, root: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", BUILD, str(lock_path), str(root), address, *MORE]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.ray
def test_a_cluster_that_loses_a_node_half_way_writes_the_same_bytes(lock_path, tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    assert start(lock_path, tmp_path / "calm", "").wait(120) == 0
    settings = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": settings})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        root = tmp_path / "dataset"
        process = start(lock_path, root, cluster.address)
        until = time.monotonic() + 60
        while len(list(root.glob("work/*.done.json"))) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()[0].decode()
        cluster.remove_node(nodes[0], allow_graceful=False)
        output, _ = process.communicate(timeout=150)
        assert process.returncode == 0, output.decode()
    finally:
        cluster.shutdown()
    assert promised_bytes(root) == promised_bytes(tmp_path / "calm")
