"""The lint that keeps hidden entropy out of what is generated bites where it should."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def findings(code: str, room: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--output-format=concise", f"--stdin-filename={room}/module.py", "-"],
        input=code, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@pytest.mark.parametrize("room", ["generator", "manifests", "shards", "train", "core", "blender_scripts"])
@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ("import random\n\nVALUE = random.random()\n", "TID251"),
        ("import uuid\n\nVALUE = uuid.uuid4()\n", "TID251"),
        ("import os\n\nVALUE = os.urandom(8)\n", "TID251"),
        ("import time\n\nVALUE = time.time()\n", "TID251"),
        ("import datetime\n\nVALUE = datetime.datetime.now()\n", "TID251"),
        ("import numpy as np\n\nVALUE = np.random.default_rng()\n", "TID251"),
        ("import numpy as np\n\nVALUE = np.random.rand(3)\n", "NPY002"),
    ],
)
def test_hidden_entropy_is_a_lint_error(room, code, rule):
    assert rule in findings(code, room)


def test_explicit_streams_and_durations_pass():
    code = (
        "import time\n\nfrom randscene import seeding\n\n"
        'STREAM = seeding.generator(0, "layout")\nBEGUN = time.monotonic()\n'
    )
    assert findings(code, "generator").strip() == "All checks passed!"


def test_the_rooms_are_clean():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select=TID251,NPY002", "."],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
