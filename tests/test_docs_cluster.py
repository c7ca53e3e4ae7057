"""docs/cluster.md: its YAML describes whole clusters, and bash reads its scripts."""

import shutil
import subprocess

import pytest
import yaml
from docs_pages import SHELL, blocks, read

PAGE = "docs/cluster.md"


def test_every_yaml_block_of_the_cluster_page_is_whole():
    documents = [yaml.safe_load(block.text) for block in blocks(PAGE, read(PAGE)) if block.language == "yaml"]
    job, launcher = documents
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    images = {group["template"]["spec"]["containers"][0]["image"] for group in groups}
    assert len(images) == 1  # every node has the same randscene
    for group in groups:
        spec = group["template"]["spec"]
        mounts = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in spec["volumes"]}
    assert launcher["head_node_type"] in launcher["available_node_types"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_every_shell_block_of_the_cluster_page_is_shell():
    found = [block for block in blocks(PAGE, read(PAGE)) if block.language in SHELL]
    assert len(found) >= 8 and sum("#SBATCH" in block.text for block in found) == 1
    for block in found:
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        assert done.returncode == 0, f"{done.stderr}\n{block.text}"
