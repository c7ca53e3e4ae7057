"""The command line: a user's mistake is one clear line and a non-zero exit, and nothing is overwritten."""

import shutil
import sys
from pathlib import Path

import pytest

from randscene.cli.main import main


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
