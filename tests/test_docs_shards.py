"""docs/shards.md: its snippets run as they stand, and its tables name what there is."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from shard_fixtures import make_dataset

from randscene.shards import load_index, open_dataset
from randscene.shards.filters import Filters

PAGE = Path(__file__).parents[1] / "docs" / "shards.md"
SKIP = re.compile(r"<!-- not run: (\S.*) -->")


def snippets(text: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """The fenced Python blocks to run, each with the line that it begins on (from 0), and why others are left out."""
    run, skipped = [], []
    lines = text.splitlines()
    start = None
    for number, line in enumerate(lines):
        if line == "```python":
            start = number + 1
        elif line == "```" and start is not None:
            if reason := SKIP.fullmatch(lines[start - 2]):
                skipped.append(reason[1])
            else:
                run.append((start, lines[start:number]))
            start = None
    assert start is None, "a fence is not closed"
    return run, skipped


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the table whose head begins with `head`; a row is the names in backquotes of each cell."""
    body = text.split(f"\n| {head}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|")] for row in body]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the dataset that the page speaks of."""
    root = tmp_path_factory.mktemp("docs")
    make_dataset(root / "dataset", splits=("train", "val"), depth=True, latents=True, resolution=64)
    return root


def test_snippets_are_found_with_their_lines_and_those_marked_are_left_out():
    text = "a\n```python\nx = 1\ny = 2\n```\n<!-- not run: no card -->\n```python\nz\n```\n```yaml\na: 1\n```\n"
    assert snippets(text) == ([(2, ["x = 1", "y = 2"])], ["no card"])


def test_every_snippet_of_the_page_runs_in_order(folder):
    for package in ("torch", "webdataset", "fsspec"):
        pytest.importorskip(package)
    text = PAGE.read_text()
    run, skipped = snippets(text)
    assert len(run) >= 10 and len(skipped) <= 2
    # One script, each block on the lines that it has on the page: an error names the place.
    script = [""] * len(text.splitlines())
    for start, block in run:
        script[start : start + len(block)] = block
    (folder / "shards.md.py").write_text("\n".join(script) + "\nprint('to the end')\n")
    done = subprocess.run([sys.executable, "shards.md.py"], cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "to the end"


def test_snippets_that_are_not_run_can_be_read():
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        compile(block, str(PAGE), "exec")


def test_tables_name_every_member_field_and_filter(folder):
    text = PAGE.read_text()
    dataset = open_dataset(folder / "dataset")
    members = table(text, "member |")
    assert {row[0][0] for row in members} == set(dataset.shards[0].index.members)
    fields = {field.name for field in dataclasses.fields(dataset[0])}
    assert {name for row in members for name in row[1]} == fields
    assert {name for row in table(text, "field of `json`") for name in row[0]} == set(dataset[0].meta)
    assert {name for row in table(text, "parameter") for name in row[0]} == {
        field.name for field in dataclasses.fields(Filters)
    }


def test_the_table_of_the_index_names_its_fields(folder):
    content = json.loads(load_index(folder / "dataset/shards/train-000000.tar").to_json())
    told = {row[0][0]: set(row[1]) for row in table(PAGE.read_text(), "field |") if len(row[0]) == 1}
    assert {name for row in table(PAGE.read_text(), "field |") for name in row[0]} == set(content)
    assert told["header"] == {*content["header"], "given_up"}  # which builds add
    assert told["tar"] == set(content["tar"])
