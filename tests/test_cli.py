"""The command line: a user's mistake is one clear line and a non-zero exit, and nothing is overwritten."""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from randscene.cli.console import console, log_file, logs_to, progress_bar
from randscene.cli.main import main
from randscene.errors import RandsceneError


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process; returns (exit code, lines on stderr)."""

    def call(*arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["randscene", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, capsys.readouterr().err.strip().splitlines()

    return call


def test_a_missing_lock_is_one_line(run, tmp_path):
    code, lines = run("generate", "demo", "--assets", tmp_path / "none.jsonl", "--out", tmp_path / "out")
    assert code == 1 and len(lines) == 1
    assert lines[0].startswith("error: ") and "none.jsonl" in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [("build", "--count", "2"), ("merge", "LOCK")])
def test_a_folder_in_place_of_a_lock_is_one_line(run, lock_path, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    code, lines = run("assets", *[lock_path if word == "LOCK" else word for word in command], "--out", ".")
    assert code == 1 and lines == ["error: . is a folder: name a file, such as assets.lock.jsonl"]


def test_a_negative_seed_of_assets_is_refused_as_an_option(run, tmp_path):
    code, lines = run("assets", "build", "--count", "2", "--seed", "-1", "--out", tmp_path / "x.lock.jsonl")
    assert code == 2 and any("--seed" in line for line in lines)


@pytest.mark.parametrize("command", [("evaluate", "nowhere", "--dataset", "nowhere"), ("verify", "nowhere")])
def test_a_file_in_place_of_the_results_folder_is_refused_before_the_work(run, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    code, lines = run(*command, "--out", tmp_path / "file")
    assert code == 1 and lines == [f"error: --out {tmp_path / 'file'} is a file: give a folder"]


def test_a_corrupt_lock_is_one_line_that_names_the_place(run, lock_path, tmp_path):
    corrupt = tmp_path / "assets.lock.jsonl"
    lines = lock_path.read_text().splitlines()
    corrupt.write_text("\n".join([lines[0], lines[1][: len(lines[1]) // 2], *lines[2:]]))
    code, errors = run("generate", "demo", "--assets", corrupt, "--out", tmp_path / "out")
    assert code == 1 and len(errors) == 1 and "line 2" in errors[0].replace(":2", "line 2")
    assert not (tmp_path / "out").exists()


def test_an_unknown_preset_is_one_line_that_names_the_known_ones(run, lock_path, tmp_path):
    code, lines = run("plan", "rand-15m", "--assets", lock_path, "--out", tmp_path / "out")
    assert code == 1 and len(lines) == 1 and "rand-15k" in lines[0]
    assert not (tmp_path / "out").exists()


def test_an_unknown_field_is_one_line(run, lock_path, tmp_path):
    out = tmp_path / "out"
    code, lines = run("plan", "demo", "--assets", lock_path, "--out", out, "--set", "cameras.vieuws=3")
    assert code == 1 and len(lines) == 1 and "cameras.vieuws" in lines[0]


def test_a_folder_with_other_files_is_left_alone(run, lock_path, tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    code, lines = run("generate", "demo", "--assets", lock_path, "--out", tmp_path)
    assert code == 1 and len(lines) == 1 and "not empty" in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_a_folder_that_cannot_be_written_is_one_line(run, lock_path, tmp_path):
    # A path below a file fails for every user, root too, where permission bits do not stop root.
    (tmp_path / "file").write_text("x")
    code, lines = run("generate", "demo", "--assets", lock_path, "--out", tmp_path / "file" / "out")
    assert code == 1 and len(lines) == 1 and "file" in lines[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(run, lock_path, tmp_path, monkeypatch):
    import randscene.files

    # The real error of a full disk: the temporary file of every atomic write is a symbolic link to /dev/full.
    real_open = open

    def full(path, mode="r", *rest, **options):
        return real_open("/dev/full" if "w" in mode and str(path).endswith(".tmp") else path, mode, *rest, **options)

    monkeypatch.setattr(randscene.files, "open", full, raising=False)
    code, lines = run("plan", "demo", "--assets", lock_path, "--out", tmp_path / "out", "--scenes", 1)
    assert code == 1 and len(lines) == 1 and "disk is full" in lines[0]
    assert not list((tmp_path / "out").glob("*"))


def test_another_plan_in_the_folder_is_not_overwritten(run, lock_path, tmp_path):
    assert run("plan", "demo", "--assets", lock_path, "--out", tmp_path, "--scenes", 2)[0] == 0
    before = (tmp_path / "recipes.jsonl").read_bytes()
    assert run("plan", "demo", "--assets", lock_path, "--out", tmp_path, "--scenes", 2)[0] == 0
    code, lines = run("plan", "demo", "--assets", lock_path, "--out", tmp_path, "--scenes", 3)
    assert code == 1 and len(lines) == 1 and "another plan" in lines[0]
    assert (tmp_path / "recipes.jsonl").read_bytes() == before
    shutil.rmtree(tmp_path)


def test_every_command_explains_itself_with_an_example(run, capsys, monkeypatch):
    import typer

    from randscene.cli.main import app

    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for leaf in getattr(command, "commands", {name: command}).values():
            assert "Example:" in (leaf.help or ""), f"{name} {leaf.name} shows no example"


EXTRAS = (
    "bpy",
    "embreex",
    "numba",
    "psutil",
    "ray",
    "safetensors",
    "scipy",
    "shapely",
    "skimage",
    "torch",
    "trimesh",
)
ONLY_CORE = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
"""


# As the installed script does; the variable for completion is named after the program.
PROGRAM = "import sys; sys.argv[0] = 'randscene'; from randscene.cli.main import main; main()"


def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `randscene` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def test_the_version_is_told():
    import randscene

    done = command("--version")
    assert done.returncode == 0 and done.stdout == f"randscene {randscene.__version__}\n" and not done.stderr


def test_help_and_status_load_nothing_heavy(tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    for arguments in (["--help"], ["generate", "--help"], ["doctor", "--help"], ["status", str(tmp_path)]):
        code = (
            f"import sys; sys.argv = ['randscene', *{arguments!r}]\n"
            "from randscene.cli.main import main\n"
            "try:\n    main()\n"
            "except SystemExit:\n    pass\n"
            "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        loaded = done.stderr.strip().splitlines()[-1]
        assert "'randscene'" in loaded and "'typer'" in loaded
        heavy = {"torch", "ray", "bpy", "transformers", "trimesh", "scipy", "numba", "matplotlib"}
        assert not [name for name in heavy if f"'{name}'" in loaded], arguments


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (("train", "{folder}", "--out", "{folder}/run"), "torch", "train"),
        (("encode", "{folder}"), "torch", "train"),
        (("estimate", "demo", "--assets", "{lock}"), None, "generate"),
        (("assets", "inspect", "{lock}"), None, "generate"),
    ],
)
def test_what_an_extra_brings_is_asked_for_in_one_line(tmp_path, lock_path, monkeypatch, arguments, module, extra):
    from shard_fixtures import make_dataset

    make_dataset(tmp_path / "set", scenes=1, views=1)
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "sitecustomize.py").write_text(ONLY_CORE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    done = command(*(word.format(folder=tmp_path / "set", lock=lock_path) for word in arguments))
    (line,) = done.stderr.strip().splitlines()
    assert done.returncode == 1 and line.startswith("error: ") and f"pip install 'randscene[{extra}]'" in line
    assert module is None or module in line


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("randscene gen", {"generate"}),
        ("randscene doc", {"doctor"}),
        ("randscene generate rand-", {"rand-15k", "rand-25k"}),
        ("randscene train x --preset mi", {"mini", "mix-3dfront-rand15k"}),
        ("randscene predict x --dataset {folder} --split ", {"odd", "train", "all"}),
        ("randscene predict x --dataset /nowhere --split v", {"val"}),
    ],
)
def test_the_shell_completes_commands_presets_and_splits(tmp_path, words, offered):
    (tmp_path / "dataset.json").write_text('{"splits": {"train": {}, "odd": {}}}')
    line = words.format(folder=tmp_path)
    place = str(len(line.split(" ")) - 1)
    done = command(_RANDSCENE_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place)
    assert set(done.stdout.split()) == offered and not done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion_script(shell):
    done = command(_RANDSCENE_COMPLETE=f"source_{shell}")
    assert done.returncode == 0 and "_RANDSCENE_COMPLETE=complete_" + shell in done.stdout and not done.stderr


def test_a_mistyped_command_or_option_is_answered_with_the_nearest_one():
    for arguments, meant in ((("genrate", "demo"), "generate"), (("evaluate", "--protocl", "x"), "--protocol")):
        done = command(*arguments, COLUMNS="200")
        assert done.returncode == 2 and meant in done.stderr and "Traceback" not in done.stderr


@pytest.mark.blender
@pytest.mark.ray
def test_brackets_and_colons_in_names_and_messages_are_printed_as_they_are(capsys):
    table = Table("example")
    table.add_row("cannot read [/tmp/x] of list[int] :warning:")
    console.print(table)
    console.print("written: runs[a]/scores")
    with progress_bar("{task.fields[note]}") as bar:
        bar.add_task("iscene, ours[b]", total=1, note="[/dev/x]")
    shown = capsys.readouterr().out
    for text in ("[/tmp/x] of list[int] :warning:", "runs[a]/scores", "ours[b]", "[/dev/x]"):
        assert text in shown


def test_the_log_lies_beside_the_dataset_however_that_is_named(tmp_path, monkeypatch):
    (tmp_path / "set" / "shards").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "set")
    for name in (".", "../set/", str(tmp_path / "set"), "shards/.."):
        assert log_file(name).resolve() == tmp_path / "set.log"
    assert log_file("s3://bucket/far/") == Path("far.log") and log_file("/") == Path("dataset.log")


def test_what_is_logged_finds_its_folder_made_and_no_line_leaves_no_file(tmp_path):
    with logs_to(tmp_path / "quiet" / "x.log"):
        pass
    assert not (tmp_path / "quiet").exists()
    with logs_to(tmp_path / "new" / "x.log"):
        logging.getLogger("randscene.test").warning("hello")
    assert (tmp_path / "new" / "x.log").read_text().endswith("hello\n")
    (tmp_path / "file").write_text("x")
    with logs_to(tmp_path / "file" / "x.log"), pytest.raises(RandsceneError, match="a part of the path is a file"):
        logging.getLogger("randscene.test").warning("hello")


def test_a_first_run_prints_its_progress_and_its_result_and_nothing_else(lock_path, tmp_path):
    pytest.importorskip("bpy")
    pytest.importorskip("ray")
    fields = ["layout.objects=[2,2]", "cameras.views=1", "render.resolution=48", "splits.val.scenes=1"]
    fields += ["assets.held_out_fraction=0.3", "latents.encoder=mini"]
    settings = [word for field in fields for word in ("--set", field)]
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "predictions"
    for arguments, result in (
        (["generate", "demo", "--assets", lock_path, "--out", data, "--scenes", 1, *settings], "2 scenes"),
        (["train", data, "--preset", "mini", "--out", run, "--steps", 2], "2 steps done"),
        (["predict", run, "--dataset", data, "--split", "val", "--steps", 2, "--out", out], "1 views in"),
    ):
        done = command(*arguments, COLUMNS="200", OMP_NUM_THREADS="1")
        assert done.returncode == 0 and done.stderr == ""
        lines = done.stdout.strip().splitlines()
        assert result in lines[-1] and str(arguments[0]) in done.stdout
        known = (str(arguments[0]), "1 x CPU", "1 x NVIDIA", "no geometry for", result)
        assert [line for line in lines if not line.startswith(known)] == []
