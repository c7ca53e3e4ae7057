"""The command line: a user's mistake is one clear line and a non-zero exit, and nothing is overwritten."""

import importlib.util
import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from randscene.cli import console as console_module
from randscene.cli.completion import engines, protocols, render_devices, run_presets
from randscene.cli.console import console, log_file, logs_to, progress_bar
from randscene.cli.main import app, main
from randscene.errors import RandsceneError
from randscene.manifests.spec_sections import RenderSpec


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


def test_an_asset_lock_without_a_licence_asked_for_warns_of_none(tmp_path):
    words = ["assets", "build", "--source", "procedural", "--count", "2", "--out", str(tmp_path / "lock.jsonl")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "warning" not in result.output


def test_a_licence_that_spdx_does_not_list_is_warned_of_with_the_one_that_was_meant(tmp_path):
    (tmp_path / "meshes").mkdir()
    (tmp_path / "meshes" / "a.stl").write_bytes(b"solid\n")
    words = ["--source", "directory", "--path", str(tmp_path / "meshes"), "--out", str(tmp_path / "x.jsonl")]
    shown = CliRunner().invoke(app, ["assets", "build", *words, "--licence", "CC0", "--workers", "1"]).output
    assert "warning: CC0 is not on SPDX's list of licences: did you mean CC0-1.0?" in shown


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_number_of_a_progress_bar_is_cut_on_a_narrow_terminal(width):
    bar = progress_bar("{task.fields[note]}")
    bar.add_task("generate", total=1200, completed=700, note="48 views, 3.1/s, 2 workers, 700.3 kB, 51.1 GB free")
    shown = io.StringIO()
    Console(file=shown, width=width).print(bar.get_renderable())
    words = shown.getvalue().replace("\u2026", " cut ").split()
    assert "cut" not in words and {"700/1200", "-:--:--", "views,", "700.3"} <= set(words)


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "nowhere", "--dataset", "nowhere"),
        ("verify", "nowhere"),
        ("predict", "nowhere", "--dataset", "nowhere"),
    ],
)
def test_a_file_or_a_dataset_in_place_of_the_results_folder_is_refused_before_the_work(run, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    code, lines = run(*command, "--out", tmp_path / "file")
    assert code == 1 and lines == [f"error: --out {tmp_path / 'file'} is a file: give a folder"]
    (tmp_path / "dataset.json").write_text("{}")
    code, lines = run(*command, "--out", tmp_path)
    assert code == 1 and lines == [f"error: --out {tmp_path} is a dataset: give another folder"]


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


@pytest.mark.parametrize(("chosen", "spins"), [({}, "5000"), ({"OMP_WAIT_POLICY": "passive"}, "0")])
def test_threads_that_wait_for_one_another_soon_give_way_unless_the_user_chose_otherwise(chosen, spins):
    torch = importlib.util.find_spec("torch")
    library = Path(torch.origin).parent / "lib" / "libgomp.so.1" if torch else Path()
    if not library.is_file():
        pytest.skip("PyTorch is not here, or brings another OpenMP")
    # The library, loaded after the command as PyTorch does it, prints what it goes by.
    code = PROGRAM.replace("main()", f"\ntry: main()\nfinally:\n import ctypes; ctypes.CDLL({str(library)!r})")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        capture_output=True,
        text=True,
        env=environment | {"OMP_DISPLAY_ENV": "verbose"} | chosen,
    )
    assert done.returncode == 0 and f"GOMP_SPINCOUNT = '{spins}'" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments", [("-c", "import randscene; randscene.__version__"), ("-m", "randscene.cli.main")])
def test_a_folder_called_randscene_where_a_command_is_run_does_not_hide_the_package(arguments, tmp_path):
    (tmp_path / "randscene" / "cli").mkdir(parents=True)  # as a clone looks from where it lies
    done = subprocess.run(
        [sys.executable, *arguments, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{done.stderr}\ninstall it again: make setup"


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
    assert done.returncode == 1 and line.startswith("error: ") and f"[{extra}]'" in line
    assert module is None or module in line


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("randscene gen", {"generate"}),
        ("randscene doc", {"doctor"}),
        ("randscene generate rand-", {"rand-15k", "rand-25k"}),
        ("randscene train x --preset mi", {"mini", "mix-3dfront-rand15k"}),
        ("randscene generate x --engine ", {"cycles", "eevee", "raycast"}),
        ("randscene generate x --device g", {"gpu"}),
        ("randscene train x --device c", {"cpu", "cuda"}),
        ("randscene evaluate x --protocol midi", {"midi-fixed", "midi-legacy"}),
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


def test_helps_and_completion_name_all_that_there_is():
    helps = {}
    for name in ("train", "evaluate"):
        done = command(name, "--help", COLUMNS="1000")
        helps[name] = done.stdout
    assert all(preset in helps["train"] for preset in run_presets(""))
    assert len(protocols("")) > 5 and all(name in helps["evaluate"] for name in protocols(""))
    fields = RenderSpec.model_fields
    assert (*engines(""),) == get_args(fields["engine"].annotation)
    assert (*render_devices(""),) == get_args(fields["device"].annotation)


def test_what_is_no_terminal_is_told_how_far_the_work_is(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(console_module, "console", Console(file=shown, width=200, markup=False))
    with progress_bar("{task.fields[note]}") as bar:
        task = bar.add_task("train", total=700, note="")
        bar.update(task, completed=1)
        bar.update(task, completed=2)
        assert not shown.getvalue()  # half a minute has not gone by
        monkeypatch.setattr(console_module, "TOLD_EVERY_S", 0.0)
        bar.update(task, completed=350, note="loss 0.5 [x]")
        assert shown.getvalue() == "train 350/700, loss 0.5 [x]\n"
        bar.advance(task)
        assert shown.getvalue().endswith("\ntrain 351/700, loss 0.5 [x]\n")


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
