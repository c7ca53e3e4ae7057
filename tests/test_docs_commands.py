"""The README and docs/: every command is one that there is, and every one that can run here does, in a small world.

How it goes: each `randscene` command of a page is read by the real command line as it stands. Then, page by page and in
order, in a folder of its own, the commands are run with `smaller` settings behind them (fewer scenes, views, pixels,
steps; the ray caster; a tiny model), and last the page's Python blocks as one script. A command that cannot run here is
named in `NOT_RUN` with the reason, another program than `randscene` in `PROGRAMS`; one that is neither run nor named
fails. `PREPARED` says what lies in a page's folder before its first command. What builds does so in this process
(`in_process_ray`) but for the README's commands, which start Ray's.
"""

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
import yaml
from docs_pages import PAGES, ROOT, SHELL, Block, Command, blocks, commands, mentioned, options, read, understand
from front3d_fixtures import write_front3d
from in_process_ray import in_process_ray
from objaverse_server import glb_of, layout, serving, uid_of
from PIL import Image
from shard_fixtures import make_dataset
from tiny_model import TINY_MODEL

from randscene.cli.main import app
from randscene.manifests import load_spec
from randscene.manifests import with_overrides as with_fields
from randscene.shards import open_dataset
from randscene.train.settings import load_settings
from randscene.train.settings import with_overrides as with_settings

PUBLIC = "needs published weights; tests/test_prediction_source.py predicts from tiny ones of every such form"
CARD = "needs a graphics card"
NOT_RUN = (
    # page, a regular expression for the start of the command, why it cannot run here
    ("*", r"randscene predict \S*(weights/|iscene-folder|microsoft/)", PUBLIC),
    ("*", r"randscene encode \S+ .*--encoder microsoft/", PUBLIC),
    ("*", r"randscene generate .*--device (cuda|gpu|optix)", CARD),
    ("*", r"randscene generate .*--engine eevee", CARD),
    ("README.md", r"randscene generate .*--ray-address auto", "needs a cluster; docs/cluster.md has one"),
    ("README.md", r"randscene estimate", "docs/recipes.md runs the same"),
    ("docs/cluster.md", r"randscene estimate", "docs/recipes.md runs the same"),
    ("*", r"randscene doctor\b", "looks at this machine, not at the data; tests/test_doctor.py runs the command"),
    ("*", r"randscene demo\b", "minutes; continuous integration runs it with --small"),
    (
        "docs/benchmarks.md",
        r"python -m randscene\.train\.mini_vae",
        "an hour; tests/test_mini_vae.py trains for seconds",
    ),
)
"""Commands that are read, not run. To add one: the page (`*` for all), how it begins, and the reason."""
PROGRAMS = {
    ".": "enters the environment that the tests run in",
    "source": "enters the environment that the tests run in",
    "make": "its targets are looked up; continuous integration runs them",
    "pip": "needs the network",
    "git": "needs the network",
    "hf": "needs the network",
    "apt-get": "needs the network, and changes the machine",
    "sudo": "changes the machine",
    "torchrun": "needs several cards; its arguments are read, and tests/test_trainer.py runs two processes",
    "ray": "needs a cluster; tests/test_cluster_build.py builds on two nodes",
    "unzip": "of a download that needs the network",
    "ptxas": "of a download that needs the network; makes kernels for cards",
    "tensorboard": "serves until it is stopped",
    "chromium": "opens a window",
    "docker": "needs a container runtime",
    "export": "sets a variable for what follows by hand",
    "huggingface-cli": "needs the network",
    "pytest": "the tests themselves",
}
"""Other programs, by name, and why the tests do not run them."""
SCRIPTS = {
    ("docs/cluster.md", "#!/bin/bash"): "needs SLURM; bash reads it in tests/test_docs_cluster.py",
}
"""Shell programs that run as a whole or not at all, by page and first line."""
PYTHON_NOT_RUN = {
    ("docs/shards.md", "import megatron.energon"): "needs megatron-energon; tests/test_energon.py runs the same there",
}
"""Python blocks that are compiled only: page, a line in it, the reason."""
OTHER_OPTIONS = frozenset(
    {"--nproc-per-node", "--num-gpus", "--num-cpus", "--logdir", "--check", "--no-sandbox", "--shm-size", "--small"}
)
"""Options that pages mention and that are other programs'."""
MOVED = {"/shared/": "shared/", "/data/": "shared/", "s3://bucket/": "bucket/"}
"""Places of other machines, and where they lie in the small world."""

SIZE = (
    "cameras.views=2", "render.resolution=48", "assets.held_out_fraction=0.5", "shards.scenes_per_shard=1",
)  # fmt: skip
TINY_RUN = (
    *TINY_MODEL, "conditioner.kind=mini", "conditioner.patch_size=16", "data.encoder=mini", "data.scenes_per_step=1",
    "data.instances_per_scene=1", "data.loader_workers=0", "checkpoint_every=1", "validation.groups=1",
    "validation.pictures=0", "optimiser.precision=float32", "optimiser.condition_dropout=0.1", "init=''",
)  # fmt: skip


def not_run(command: Command) -> str | None:
    """Why a command cannot run here; None if it can."""
    line = " ".join(command.words)
    for page, pattern, reason in NOT_RUN:
        if fnmatch(command.page, page) and re.match(pattern, line):
            return reason
    name = Path(command.words[0]).name or command.words[0]
    if name.startswith("python"):
        if command.words[1:3] == ("-m", "pytest"):
            return PROGRAMS["pytest"]
        if command.words[1:2] and command.words[1].startswith("benchmarks/"):
            return "measures for minutes; the script and its options are looked up"
        if "zstandard" in line:
            return PROGRAMS["ptxas"]
    if name == "cd" and "bpy" in line:
        return PROGRAMS["ptxas"]
    return None if command.randscene is not None and name == "randscene" else PROGRAMS.get(name)


# What a command becomes in the small world.


def sets(fields: list[str] | tuple[str, ...]) -> list[str]:
    return [word for field in fields for word in ("--set", field)]


def small_spec(name: str, given: list[str]) -> list[str]:
    """Options that make one scene of each split of a spec, with few pixels."""
    spec = with_fields(load_spec(name), given)
    fields = [*SIZE, *(f"splits.{split}.scenes=1" for split, told in spec.splits.items() if told.scenes)]
    if spec.assets.kinds is not None:
        fields.append("assets.kinds=null")
    return [*sets(fields), "--scenes", "1"]


def smaller(arguments: list[str]) -> list[str]:
    """The same command at the size of a test: later options overrule the page's own."""
    name, told = understand(arguments)
    given = list(told.get("set_") or ())
    if name == "assets build":
        more = ["--count", str(min(int(told["count"] or 8), 40)), "--workers", "1"]
        return [*arguments, *(more if told["source"] == "procedural" or told["count"] else more[2:])]
    if name == "plan":
        return [*arguments, *small_spec(str(told["spec"]), given)]
    if name == "estimate":
        more = [*sets(["latents.encoder=null"]), "--engine", "raycast", "--probes", "2", "--budget", "1"]
        return [*arguments, *small_spec(str(told["spec"]), given), *more]
    if name == "generate":
        spec = small_spec(str(told["spec"]), given)
        return [*arguments, *spec, *sets(["latents.encoder=null"]), "--engine", "raycast", "--workers", "1"]
    if name == "train":
        # Sizes that need cards become `mini`; the settings of the page's own preset were read before.
        preset = str(told["preset"])
        mini = [] if preset.endswith(".yaml") or preset == "mini" else ["--preset", "mini"]
        few = ["data.scenes=first:1"] if any(field.startswith("data.scenes=") for field in given) else []
        return [*arguments, *mini, *sets([*TINY_RUN, *few]), "--steps", "2", "--device", "cpu"]
    if name == "predict":
        few = [] if told["keys"] or told["views"] or told["image"] else ["--views", "1"]
        return [*arguments, *few, "--steps", "1", "--device", "cpu"]
    if name == "evaluate":
        quick = [] if told["protocol"] else ["--protocol", "iscene-quick"]
        return [*arguments, *quick, "--workers", "1"]
    if name == "scaling":
        return [*arguments, "--dry-run"]
    if name == "import-3dfront":
        return [*arguments, "--resolution", "96", "--split", "train=:-1", "--split", "test=-1:", "--workers", "1"]
    return [*arguments, *(["--workers", "1"] if "workers" in told and name in ("lint", "verify", "encode") else [])]


@dataclass(frozen=True)
class World:
    """Folders that commands run in, and what was made before, so that the same is not made twice."""

    made: Path

    def run(self, arguments: list[str], where: str) -> None:
        """Run a command in this process, in the present folder."""
        for old, new in MOVED.items():
            arguments = [word.replace(old, new) for word in arguments]
        arguments = ["dataset" if word == "DATASET" else word for word in arguments]
        arguments = smaller(arguments)
        name, told = understand(arguments)
        kept = self._recall(name, told)
        try:
            code = app(list(arguments), standalone_mode=False)
        except SystemExit as stop:
            code = stop.code
        except (Exception, typer.Abort) as error:
            raise AssertionError(f"{where}\n  as: randscene {' '.join(arguments)}\n  {error!r}") from error
        assert not code, f"{where}: exit code {code}"
        if kept is not None and not kept.exists():
            _copy_out(name, Path(str(told["out"])), kept)

    def _recall(self, name: str, told: dict[str, object]) -> Path | None:
        """Lay what an equal command made before in its place, for this one to find done; where it is kept."""
        if name == "assets build" and str(told["source"].value) == "procedural":
            key = f"{told['count']}-{told['seed']}"
        elif name == "generate":
            spec = Path(str(told["spec"]))
            content = spec.read_text() if spec.suffix == ".yaml" else str(spec)
            lock = re.sub(r'"[^"]*\.assets/', '"', Path(str(told["assets"])).read_text())
            key = json.dumps([content, lock, sorted(map(str, told["set_"])), str(told["check_shards"])])
        elif name == "train":
            data = [json.loads((Path(folder) / "dataset.json").read_text())["fingerprint"] for folder in told["data"]]
            key = json.dumps([data, str(told["preset"]), list(told["set_"])])
        elif name == "import-3dfront":
            folder = Path(str(told["folder"]))
            rooms = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*")}
            key = json.dumps([rooms, {field: str(told[field]) for field in told if field != "out"}], sort_keys=True)
        else:
            return None
        digest = hashlib.sha256(f"{name} {key}".encode()).hexdigest()[:16]
        kept, out = self.made / digest, Path(str(told["out"]))
        if kept.exists() and not out.exists():
            _copy_in(name, kept, out)
        return kept

    def lock(self, path: str = "assets.lock.jsonl") -> None:
        self.run(["assets", "build", "--source", "procedural", "--count", "40", "--out", path], path)

    def dataset(self, out: str, spec: str = "demo", *fields: str) -> None:
        """A dataset of a preset; its lock lies beside it."""
        lock = "assets.lock.jsonl"
        if not Path(lock).exists():
            self.lock(lock)
        self.run(["generate", spec, "--assets", lock, "--out", out, *sets(fields)], out)

    def trained(self, out: str, dataset: str) -> None:
        self.run(["train", dataset, "--preset", "mini", "--out", out], out)


def _copy_out(name: str, out: Path, kept: Path) -> None:
    if name != "assets build":
        shutil.copytree(out, kept)
        return
    stem = out.name.removesuffix(".lock.jsonl")
    kept.mkdir()
    shutil.copytree(out.parent / f"{stem}.assets", kept / "assets")
    (kept / "lock").write_text(out.read_text().replace(f'"{stem}.assets/', '"STEM.assets/'))


def _copy_in(name: str, kept: Path, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if name != "assets build":
        shutil.copytree(kept, out)
        return
    stem = out.name.removesuffix(".lock.jsonl")
    shutil.copytree(kept / "assets", out.parent / f"{stem}.assets")
    out.write_text((kept / "lock").read_text().replace('"STEM.assets/', f'"{stem}.assets/'))


# What lies in a page's folder before its first command.


def own_meshes(folder: str = "my/meshes", count: int = 3) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        (Path(folder) / f"box-{number}.glb").write_bytes(glb_of(number))


def metadata(path: str = "ObjaverseXL_sketchfab.csv") -> None:
    """What `hf download` would have fetched: the table of the small Objaverse."""
    rows = [
        f'{hashlib.sha256(glb_of(n)).hexdigest()},https://sketchfab.com/3d-models/{uid_of(n)},{5 + n / 4},"[""a""]"'
        for n in range(8)
    ]
    Path(path).write_text("\n".join(["sha256,file_identifier,aesthetic_score,captions", *rows]) + "\n")


def theirs(dataset: str, predictions: str) -> None:
    """Another method's outputs for the same views, as MIDI writes them: here the true meshes."""
    Path("theirs").mkdir()
    for folder in Path(predictions).iterdir():
        shutil.copy(Path(dataset) / "scenes" / f"{folder.name[:6]}.glb", Path("theirs") / f"{folder.name}.glb")


def share() -> None:
    """The lock and its files, on the file system that machines share."""
    for folder in Path().glob("*.assets"):
        shutil.copytree(folder, Path("shared") / folder.name)
    shutil.copytree("my", "shared/my")
    shutil.copy("assets.lock.jsonl", "shared")


def small_study(path: str = "study.yaml") -> None:
    """The study with as many scenes as the small world has."""
    study = yaml.safe_load(Path(path).read_text())
    for arm in study.get("arms", {}).values():
        arm.update({"scenes": "first:1"} if "scenes" in arm else {})
    for size in study["sizes"].values():
        size["scenes"] = [1]
    arms = study.get("arms", {})
    study["comparisons"] = [pair for pair in study.get("comparisons", []) if set(pair) <= set(arms)]
    Path(path).write_text(yaml.safe_dump(study))


def own_picture(dataset: str) -> None:
    """room.png, room-ids.png and camera.json of one sample."""
    sample = open_dataset(dataset, split="val")[0]
    Image.fromarray(sample.rgb).save("room.png")
    Image.fromarray(sample.ids).save("room-ids.png")
    Path("camera.json").write_text(json.dumps({k: sample.meta[k] for k in ("camera_to_world", "look_at")}))


def synthetic(resolution: int = 64, folder: str = "dataset") -> None:
    """A folder with depth and latents inside, and more than one shard."""
    shutil.rmtree(folder, ignore_errors=True)
    make_dataset(Path(folder), splits=("train", "val"), depth=True, latents=True, resolution=resolution)


def of_cluster(world: World) -> None:
    world.lock("shared/assets.lock.jsonl")
    world.dataset("bucket/rand-15k", "rand-15k")  # what the jobs on clusters make


def of_prediction(world: World) -> None:
    world.dataset("demo/dataset")
    world.trained("runs/mini", "demo/dataset")
    own_picture("demo/dataset")


def of_evaluation(world: World) -> None:
    world.dataset("dataset")
    world.trained("run", "dataset")
    world.run(["predict", "run", "--dataset", "dataset", "--split", "val", "--out", "ours"], "ours")
    theirs("dataset", "ours")


def of_protocols(world: World) -> None:
    world.dataset("dataset")
    world.trained("run", "dataset")
    world.run(["predict", "run", "--dataset", "dataset", "--views", "1", "--out", "predictions"], "predictions")


def of_training(world: World) -> None:
    write_front3d(Path("data/3d-front"), rooms=3)
    world.run(["import-3dfront", "data/3d-front", "--out", "3d-front/dataset"], "3d-front")
    world.dataset("rand-15k/dataset", "rand-15k")
    world.dataset("rand-25k/dataset", "rand-25k")


def of_front3d(world: World) -> None:
    write_front3d(Path("data/3d-front"), rooms=3)
    world.dataset("rand-15k/dataset", "rand-15k")


def of_shards(world: World) -> None:
    world.dataset("dataset", "rand-15k")


def of_experiments(world: World) -> None:
    own_meshes()
    for path in (ROOT / "docs/experiments/random_scenes").glob("*.yaml"):
        shutil.copy(path, path.name)


def of_recipes(world: World) -> None:
    own_meshes()
    metadata()
    write_front3d(Path("data/3d-front"), rooms=3)
    Path("shelf.yaml").write_text(next(b.text for b in blocks("", read("docs/recipes.md")) if b.language == "yaml"))


def of_readme(world: World) -> None:
    own_meshes(count=40)
    write_front3d(Path("data/3d-front"), rooms=3)
    Path("study.yaml").write_text(next(b.text for b in blocks("", read("README.md")) if b.language == "yaml"))


PREPARED: dict[str, Callable[[World], object]] = {
    "README.md": of_readme,
    "docs/assets.md": lambda world: metadata(),
    "docs/cluster.md": of_cluster,
    "docs/estimate.md": lambda world: world.lock(),
    "docs/evaluation.md": of_evaluation,
    "docs/experiments/random_scenes.md": of_experiments,
    "docs/front3d.md": of_front3d,
    "docs/prediction.md": of_prediction,
    "docs/protocols.md": of_protocols,
    "docs/recipes.md": of_recipes,
    "docs/sample_format.md": lambda world: synthetic(),
    "docs/shards.md": of_shards,
    "docs/training.md": of_training,
    "docs/troubleshooting.md": lambda world: world.dataset("dataset"),
    "docs/preview.md": lambda world: (world.dataset("dataset"), world.dataset("demo/dataset")),
}
BEFORE = {
    # page, how the command begins: what the reader has by then
    ("README.md", r"randscene scaling"): small_study,
    ("docs/experiments/random_scenes.md", r"randscene scaling"): small_study,
    ("docs/recipes.md", r"randscene generate .*/shared/"): share,
}
BEFORE_PYTHON: dict[str, Callable[[World], object]] = {
    # The snippets look at depth, latents, several shards and larger objects, which the small world's dataset lacks.
    "README.md": lambda world: synthetic(160, "demo/dataset"),
    "docs/shards.md": lambda world: (
        synthetic(),
        world.run(["encode", "dataset"], "latents beside the shards"),
    ),
}


# The tests.


def every_command() -> list[Command]:
    return [command for page in PAGES for block in blocks(page, read(page)) for command in commands(block)]


def ids(page: str) -> str:
    return page.removeprefix("docs/").removesuffix(".md")


@pytest.fixture(scope="module")
def world(tmp_path_factory, one_thread) -> World:
    return World(made=tmp_path_factory.mktemp("made"))


@pytest.fixture
def ray(page, request) -> Iterator[None]:
    """The README's commands run with Ray's processes, those of the other pages without."""
    if page == "README.md":
        request.getfixturevalue("one_ray")
        yield
        return
    with in_process_ray():
        yield


@pytest.fixture(scope="module")
def objaverse():
    files = layout(16)
    lvis = json.loads(gzip.decompress(files["lvis-annotations.json.gz"]))
    files["lvis-annotations.json.gz"] = gzip.compress(json.dumps(lvis | {"lamp": [uid_of(5)]}).encode())
    with serving(files) as state:
        yield state


def test_commands_of_every_kind_of_block_are_found():
    page = """
```bash
# a remark
PYTHONPATH=here randscene plan demo \\
  --out x --assets y    # another
pip install a && randscene lint x
```
```console
$ randscene status x
12 scenes
```
```text
randscene is no command here
```
* a point

  goes on

    make test     # remark
    randscene preview x

    DIR/file   what it is
"""
    found = [command for block in blocks("p", page) for command in commands(block)]
    assert [(c.line, c.words) for c in found] == [
        (4, ("randscene", "plan", "demo", "--out", "x", "--assets", "y")),
        (6, ("pip", "install", "a")),
        (6, ("randscene", "lint", "x")),
        (9, ("randscene", "status", "x")),
    ]
    assert found[0].environment == ("PYTHONPATH=here",)
    loose = [command for block in blocks("p", page.split("  goes on\n")[1]) for command in commands(block)]
    assert [c.words[0] for c in loose] == ["make", "randscene", "DIR/file"]  # the last is named nowhere: it would fail
    assert mentioned("p", "Say `randscene retry x --reason timeout`, not `randscene retry`.\n") == [
        ["retry", "x", "--reason", "timeout"]
    ]
    script = '```bash\nif randscene status "$out" --json | grep x; then exit 0; fi\n```\n'
    assert mentioned("p", script) == [["status", "$out", "--json"]]


@pytest.mark.parametrize("wrong", [["generat", "demo"], ["status", "x", "--jsn"], ["generate", "demo"], ["lint"]])
def test_what_the_command_line_does_not_know_is_noticed(wrong):
    with pytest.raises(Exception, match=r"(?i)no such|missing"):
        understand(wrong)


def test_every_command_is_one_that_there_is_or_named_with_a_reason():
    wrong, known = [], 0
    for command in every_command():
        arguments = command.randscene
        if arguments is None:
            if not_run(command) is None and Path(command.words[0]).name not in ("cp", "mkdir", "sha256sum"):
                wrong.append(f"{command.where}: neither run nor named in PROGRAMS or NOT_RUN")
            continue
        known += 1
        try:
            _, told = understand(arguments)
            if told.get("set_") is not None and "spec" in told and not str(told["spec"]).endswith(".yaml"):
                with_fields(load_spec(str(told["spec"])), told["set_"])
            if "preset" in told and not str(told["preset"]).endswith(".yaml"):
                with_settings(load_settings(str(told["preset"] or "iscene")), told["set_"] or ())
        except Exception as error:
            wrong.append(f"{command.where}: {error}")
    assert not wrong, "\n".join(wrong)
    assert known >= 60


def test_commands_in_prose_scripts_and_yaml_are_known_with_their_options():
    wrong, found = [], 0
    for page in PAGES:
        for arguments in mentioned(page, read(page)):
            found += 1
            try:
                understand(arguments)
            except Exception as error:
                name = " ".join(arguments[:2]) if arguments[0] == "assets" else arguments[0]
                unknown = {word.split("=")[0] for word in arguments if word.startswith("--")} - options().get(
                    name, set()
                )
                stands_for = any(re.fullmatch(r"[A-Z][A-Z_]*|\.\.\.", word) for word in arguments)
                if unknown or not (stands_for or "Missing" in type(error).__name__):
                    wrong.append(f"{page}: randscene {' '.join(arguments)}: {error} {unknown or ''}")
    assert not wrong, "\n".join(wrong)
    assert found >= 10


def test_every_option_in_prose_is_one_that_a_command_has():
    scripts = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    all_options = frozenset().union(*options().values(), re.findall(r'"(--[a-z][\w-]*)"', scripts)) | OTHER_OPTIONS
    wrong, found = [], 0
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)
        for name in re.findall(r"`(--[a-z][\w-]*)[^`]*`", prose):
            found += 1
            if name not in all_options:
                wrong.append(f"{page}: {name}")
    assert not wrong, f"options that no command has (of another program? OTHER_OPTIONS): {wrong}"
    assert found >= 40


def test_make_targets_modules_and_benchmarks_that_pages_name_exist():
    makefile = read("Makefile")
    lines = [(command.page, list(command.words)) for command in every_command()]
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.M | re.S)
        lines += [(page, text.split()) for text in re.findall(r"`((?:python (?:-m |benchmarks/)|make )[^`]+)`", prose)]
    found = {"make": 0, "benchmark": 0}
    for page, words in lines:
        where = f"{page}: {' '.join(words)}"
        if words[0] == "make":
            found["make"] += 1
            target = next(word for word in words[1:] if "=" not in word) if len(words) > 1 else "demo"
            assert re.search(rf"^{re.escape(target)}:", makefile, re.M), f"{where}: no such target"
        elif Path(words[0]).name.startswith("python") and len(words) > 1 and words[1].startswith("benchmarks/"):
            found["benchmark"] += 1
            script = ROOT / words[1]
            assert script.exists(), f"{where}: no such script"
            for option in (word for word in words[2:] if word.startswith("--")):
                assert f'"{option}"' in script.read_text(), f"{where}: the script has no {option}"
        elif words[1:2] == ["-m"] and words[2].startswith("randscene."):
            room, module = words[2].split(".")[1:3]
            assert (ROOT / room / f"{module}.py").exists(), f"{where}: no such module"
    assert found["make"] >= 4 and found["benchmark"] >= 10


def test_scripts_are_named_with_a_reason():
    found = {(b.page, b.text.splitlines()[0]) for page in PAGES for b in blocks(page, read(page)) if b.is_script}
    assert found == set(SCRIPTS)


def test_no_block_that_is_not_run_looks_like_commands():
    programs = r"(randscene [a-z]|python |pip |make |torchrun |\.venv/|ray (start|up|job)|git |hf )"
    for page in PAGES:
        for block in blocks(page, read(page)):
            if block.language in {"text", ""}:
                inside = re.search(rf"^\s*(\$ )?{programs}", block.text, re.M)
                assert inside is None, f"{page}:{block.line}: a command in a block that is not run: {inside}"
            known = SHELL | {"text", "console", "python", "yaml", "json", "dockerfile"}
            assert block.language in known, f"{page}:{block.line}: of what language is this block? One of {known}"


def test_every_reason_names_a_command_that_there_is():
    lines = [(command.page, " ".join(command.words)) for command in every_command()]
    for page, pattern, _ in NOT_RUN:
        if page != "*":
            assert any(fnmatch(p, page) and re.match(pattern, line) for p, line in lines), f"not needed: {pattern}"
    for page, first in PYTHON_NOT_RUN:
        assert any(b.language == "python" and first in b.text for b in blocks(page, read(page))), f"not needed: {first}"
    assert set(PREPARED) | set(BEFORE_PYTHON) | {page for page, _ in BEFORE} <= {
        *PAGES,
        "docs/preview.md",
        "docs/troubleshooting.md",
    }


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_commands_and_snippets_of_a_page_run_in_order(page, world, ray, objaverse, tmp_path, monkeypatch):
    found = [command for block in blocks(page, read(page)) for command in commands(block)]
    run = [command for command in found if not_run(command) is None]
    snippets = [block for block in blocks(page, read(page)) if block.language == "python"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", objaverse.url)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where Objaverse's annotations would go
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    if run or snippets:
        PREPARED.get(page, lambda world: None)(world)
    for command in run:
        for (where, pattern), prepare in BEFORE.items():
            if page == where and re.match(pattern, " ".join(command.words)):
                prepare()
        if command.randscene is None:
            if command.words[0] == "sha256sum":
                subprocess.run(command.words, check=True, cwd="dataset", stdout=subprocess.DEVNULL)
            continue  # cp and mkdir: what they would put there is prepared
        world.run(_with_keys_that_exist(command.randscene), command.where)
    if snippets:
        BEFORE_PYTHON.get(page, lambda world: None)(world)
        run_python(page, snippets)


def _with_keys_that_exist(arguments: list[str]) -> list[str]:
    """`--key` of a page names a view of the full dataset: here the first of the small one."""
    if "--key" not in arguments:
        return arguments
    place = arguments.index("--key") + 1
    dataset = open_dataset(arguments[arguments.index("--dataset") + 1], split="val")
    return [*arguments[:place], dataset.keys[0], *arguments[place + 1 :]]


def run_python(page: str, snippets: list[Block]) -> None:
    """One script of all blocks, each on the lines that it has on the page, so that an error names the place."""
    script = [""] * (len(read(page).splitlines()) + 1)
    for block in snippets:
        compile(block.text, f"{page}:{block.line}", "exec")
        if any(where == page and first in block.text for where, first in PYTHON_NOT_RUN):
            continue
        lines = block.text.splitlines()
        script[block.line - 1 : block.line - 1 + len(lines)] = lines
    if not any(script):
        return
    name = Path(page).name + ".py"
    Path(name).write_text("\n".join(script) + "\nprint('to the end')\n")
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, name], capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "to the end"


def test_yaml_blocks_are_yaml():
    found = 0
    for page in PAGES:
        for block in blocks(page, read(page)):
            if block.language == "yaml":
                found += 1
                assert list(yaml.safe_load_all(block.text)), f"{page}:{block.line}"
    assert found >= 4
