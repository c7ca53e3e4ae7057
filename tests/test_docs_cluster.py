"""docs/cluster.md and docs/shards.md: every YAML block is YAML, every `randscene` command one that there is."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from randscene.cli.main import app
from randscene.manifests import load_spec, with_overrides

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("cluster.md", "shards.md")
ENDS = {"&&", "||", "|", ";", "&", ")", "then", "fi", "#"}


def blocks(text: str, language: str) -> list[str]:
    """Contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def entrypoints(node: object) -> list[str]:
    """The commands that a YAML document gives to Ray."""
    if isinstance(node, dict):
        found = [str(node["entrypoint"])] if "entrypoint" in node else []
        return found + [line for value in node.values() for line in entrypoints(value)]
    return [line for value in node for line in entrypoints(value)] if isinstance(node, list) else []


def commands(text: str) -> list[list[str]]:
    """The arguments of every `randscene` command of a page: in shell and indented blocks, YAML, and inline code."""
    shell = [
        *blocks(text, "bash"),
        *re.findall(r"(?:^    .*\n)+", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M),
    ]
    lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
    lines += [line for block in blocks(text, "yaml") for line in entrypoints(yaml.safe_load(block))]
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    lines += re.findall(r"`(randscene [^`]+ --[^`]+)`", prose)  # with an option: a whole command, not only its name
    found = []
    for line in lines:
        if not re.search(r"(^|[ (])randscene [a-z]", line):
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        lexer.whitespace_split = True
        words = list(lexer)
        while "randscene" in words:
            words = words[words.index("randscene") + 1 :]
            end = next(
                (place for place, word in enumerate(words) if word in ENDS or re.match(r"\d?>", word)), len(words)
            )
            found.append([word for word in words[:end] if word != "2"])
            words = words[end:]
    return found


def understand(arguments: list[str]) -> dict[str, object]:
    """Parameters as the command line reads them, without running the command; a usage error if it cannot."""
    command = typer.main.get_command(app)
    context = command.make_context("randscene", arguments[:1])
    rest = arguments
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(str(name), list(rest), parent=context)
    return context.params


def test_yaml_and_commands_are_found():
    page = """
```yaml
spec: {entrypoint: randscene plan demo --out x --assets y}
```
```bash
ray job submit -- \\
  randscene generate demo --assets a --out b    # a remark
if randscene status "$out" --json 2>/dev/null | grep x; then exit 0; fi
```
Say `randscene retry x --reason timeout`, not `randscene retry`.

    randscene lint dataset --workers 8
"""
    assert sorted(commands(page)) == [
        ["generate", "demo", "--assets", "a", "--out", "b"],
        ["lint", "dataset", "--workers", "8"],
        ["plan", "demo", "--out", "x", "--assets", "y"],
        ["retry", "x", "--reason", "timeout"],
        ["status", "$out", "--json"],
    ]


@pytest.mark.parametrize("wrong", [["generat", "demo"], ["status", "x", "--jsn"], ["generate", "demo"], ["lint"]])
def test_what_the_command_line_does_not_know_is_noticed(wrong):
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        understand(wrong)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_is_one_that_there_is(page):
    found = commands((DOCS / page).read_text())
    assert len(found) >= {"cluster.md": 14, "shards.md": 2}[page]
    for arguments in found:
        try:
            parameters = understand(arguments)
        except Exception as error:
            raise AssertionError(f"{page}: randscene {' '.join(arguments)}: {error}") from error
        if "set_" in parameters:  # `retry` takes its spec from the dataset
            with_overrides(load_spec(str(parameters.get("spec") or "rand-15k")), list(parameters["set_"] or ()))


def test_every_yaml_block_of_the_cluster_page_is_whole():
    documents = [yaml.safe_load(block) for block in blocks((DOCS / "cluster.md").read_text(), "yaml")]
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
    found = blocks((DOCS / "cluster.md").read_text(), "bash")
    assert len(found) >= 8 and sum("#SBATCH" in block for block in found) == 1
    for block in found:
        done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True)
        assert done.returncode == 0, f"{done.stderr}\n{block}"
