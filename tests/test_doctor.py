"""`randscene doctor`: what is broken is one line with its cure, whatever way it breaks, and nothing else is touched."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from randscene.cli.checks.catalogue import CHECKS, Check, by_name, function_of
from randscene.cli.checks.finding import Finding, Options
from randscene.cli.checks.rendering import has_kernel
from randscene.cli.checks.runner import in_child, make_checks
from randscene.extras import install_command

NO_LIBRARY = 'raise ImportError("libX11.so.6: cannot open shared object file: No such file or directory")'
CRASH = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Put modules before those that are installed, for processes that are started."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def put(name: str, source: str) -> None:
        (folder / f"{name}.py").write_text(source)

    return put


def make(name: str, options: Options | None = None, **changes: object) -> Finding:
    finding = in_child(dataclasses.replace(by_name(name), **changes), options or Options())
    assert "\n" not in finding.found and "\n" not in finding.cure and "Traceback" not in finding.found
    return finding


def test_a_machine_without_the_libraries_of_blender_is_told_which_to_install(modules):
    modules("bpy", NO_LIBRARY)
    finding = make("blender")
    assert finding.status == "problem" and "libX11.so.6" in finding.found
    assert "apt-get install -y --no-install-recommends libxrender1" in finding.cure


def test_a_renderer_that_dies_at_its_start_is_one_line_and_what_needs_it_is_not_tried(modules):
    modules("bpy", CRASH)
    names = ("blender", "cycles, processor", "cycles, CUDA", "eevee, EGL")
    rows = {check.name: found for check, found in make_checks(Options(), checks=[by_name(name) for name in names])}
    assert rows["blender"].status == "problem" and "signal 11" in rows["blender"].found and rows["blender"].cure
    assert [rows[name].status for name in names[1:]] == ["absent"] * 3


@pytest.mark.blender
def test_a_renderer_that_dies_in_its_first_frame_is_one_line_with_its_last_words(modules, tmp_path):
    pytest.importorskip("bpy")
    # Blender opens a mesh: the process is killed as by a fault of a driver.
    modules(
        "sitecustomize",
        "import os, signal, sys\n"
        "def seen(event, arguments):\n"
        "    if event == 'open' and str(arguments[0]).endswith('.glb'):\n"
        "        os.write(2, b'the driver gave up\\n')\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "if '--parent' in sys.orig_argv and 'randscene.blender_scripts.worker' in sys.orig_argv:\n"
        "    sys.addaudithook(seen)\n",
    )
    finding = make("cycles, processor", Options(work=str(tmp_path)))
    assert finding.status == "problem" and "signal 11" in finding.found and finding.cure
    assert "the driver gave up" in finding.found


@pytest.mark.blender
def test_a_frame_is_really_rendered_and_looked_at(tmp_path, monkeypatch):
    pytest.importorskip("bpy")
    from randscene.cli.checks import rendering

    options = Options(work=str(tmp_path))
    assert make("ray caster", options).status == "ok"
    finding = make("cycles, processor", options)
    assert finding.status == "ok" and finding.seconds is not None and finding.seconds > 0.1
    # The very same sample is refused once it is dark, or an object is missing.
    monkeypatch.setattr(rendering, "DARK", 256.0)
    assert "black" in rendering.ray_caster(options).found
    monkeypatch.setattr(rendering, "OBJECTS", 2)
    monkeypatch.setattr(rendering, "fault_of", lambda sample: f"{sample.n_instances} objects")
    assert rendering.ray_caster(options).status == "problem"


def test_a_library_that_crashes_at_its_import_is_named(modules):
    modules("shapely", CRASH)
    finding = make("libraries to generate")
    assert finding.status == "problem" and "signal 11" in finding.found and "importing shapely" in finding.found


def test_a_library_that_cannot_be_imported_is_named_with_its_reason(modules):
    modules("fcl", "raise ImportError('libfcl.so.7: wrong ELF class')")
    finding = make("libraries to generate")
    assert finding.status == "problem" and "python-fcl" in finding.found and "wrong ELF class" in finding.found
    assert "[generate" in finding.cure


def test_a_library_that_hangs_is_given_up_and_ended(modules, tmp_path):
    modules("torch", f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    finding = make("torch", timeout_s=2.0)
    assert finding.status == "problem" and "did not answer within 2 s" in finding.found
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_what_a_library_prints_does_not_disturb_the_answer(modules):
    modules("ray", "import sys; print('noise'); print('more', file=sys.stderr); __version__ = '2.99'")
    finding = make("ray", Options(quick=True))
    assert finding.status == "ok" and finding.found == "2.99"


def test_an_installation_that_a_folder_of_its_name_hides_is_a_problem(modules):
    assert make("core libraries").status == "ok"
    # The package is found as a folder without code, but for processes that heed no working folder (-P).
    modules(
        "sitecustomize",
        "import sys\nfrom importlib.machinery import ModuleSpec\nclass Folder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'randscene' and not sys.flags.safe_path:\n"
        "            return ModuleSpec(name, None, is_package=True)\n"
        "sys.meta_path.insert(0, Folder)\n",
    )
    finding = make("core libraries")
    assert finding.status == "problem" and "called randscene" in finding.found and "pip install" in finding.cure


def test_an_extra_that_is_not_installed_is_no_problem_unless_it_is_asked_for(modules):
    modules("torch", "raise ModuleNotFoundError('No module named torch', name='torch')")
    checks = [by_name("torch")]
    ((_, plain),) = make_checks(Options(), checks=checks)
    ((_, asked),) = make_checks(Options(), {"train"}, checks=checks)
    assert (plain.status, asked.status) == ("absent", "problem")
    assert plain.cure == asked.cure == install_command("train")


def test_an_extra_in_part_is_a_warning_and_a_problem_where_it_is_asked_for(modules):
    # What `importlib.metadata` finds is hidden as well, as if the library had never been installed.
    modules(
        "sitecustomize",
        "import importlib.metadata as metadata\n"
        "real = metadata.version\n"
        "def version(name):\n"
        "    if name == 'tensorboard':\n"
        "        raise metadata.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "metadata.version = version\n",
    )
    checks = [by_name("libraries to train")]
    ((_, plain),) = make_checks(Options(), checks=checks)
    ((_, asked),) = make_checks(Options(), {"train"}, checks=checks)
    assert (plain.status, asked.status) == ("warning", "problem") and "tensorboard not installed" in asked.found
    assert asked.cure.startswith("pip install") and "[train]'" in asked.cure


def test_a_card_that_torch_does_not_see_is_a_warning(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a card that torch sees")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 9.0, 81559 MiB, 580.1'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    finding = make("graphics cards")
    assert finding.status == "ok" and "sm_90" in finding.found
    finding = make("torch", Options(quick=True))
    assert finding.status == "warning" and "H100" in finding.found and "CUDA" in finding.cure
    # Blender's wheel has no kernels for it; trying would take longer than any time-out.
    if pytest.importorskip("bpy"):
        finding = make("cycles, CUDA", Options(device="CUDA"))
        assert finding.status == "warning" and "sm_90" in finding.found and "Kernels for Hopper" in finding.cure


@pytest.mark.parametrize(
    ("capability", "kernels", "has"),
    [("9.0", {75, 86, 89, 120}, False), ("8.9", {86}, True), ("8.0", {75, 86}, False), ("9.0", {86, 90}, True)],
)
def test_kernels_serve_cards_of_their_generation_that_are_not_older(capability, kernels, has):
    assert has_kernel(capability, kernels) is has


def test_a_folder_that_cannot_be_written_is_a_problem_and_one_that_can_is_left_as_it_was(tmp_path):
    (tmp_path / "file").write_text("x")
    finding = make("disk", Options(out=str(tmp_path / "file" / "out")))
    assert finding.status == "problem" and "not a folder" in finding.found and "--out" in finding.cure
    assert make("disk", Options(out="/proc/dataset")).status == "problem"
    assert make("disk", Options(out=str(tmp_path / "new" / "dataset"))).status in ("ok", "warning")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_a_problem(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        finding = make("disk", Options(out=str(folder / "dataset")))
        assert finding.status == "problem" and "the disk is full" in finding.found
        assert not list(folder.iterdir())
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_system_that_does_not_tell_its_memory_is_not_taken_for_one_without(monkeypatch):
    from randscene.cli.checks import machine

    def nowhere(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(machine.Path, "read_text", nowhere)
    finding = machine.processors_and_memory(Options())
    assert finding.status == "ok" and "memory" not in finding.found and finding.facts["memory_bytes"] is None


def test_temporary_files_that_cannot_be_written_are_a_problem(monkeypatch):
    from randscene.cli.checks import machine

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(machine.tempfile, "gettempdir", nowhere)
    finding = machine.temporary_folder(Options())
    assert finding.status == "problem" and "TMPDIR" in finding.cure


def test_compiled_functions_that_cannot_be_kept_are_a_warning(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    from randscene.cli.checks import machine

    # As on a read-only installation without a home: numba finds no folder for its cache.
    monkeypatch.setattr(caching.FunctionCache._impl_class, "_locator_classes", [])
    finding = machine.numba_cache(Options())
    assert finding.status == "warning" and "NUMBA_CACHE_DIR" in finding.cure


def test_a_machine_that_does_not_speak_utf_8_is_told_how(monkeypatch):
    for name, value in (("PYTHONUTF8", "0"), ("PYTHONCOERCECLOCALE", "0"), ("LC_ALL", "C")):
        monkeypatch.setenv(name, value)
    finding = make("locale")
    assert finding.status == "warning" and "LANG=C.UTF-8" in finding.cure


def test_weights_are_found_in_the_cache_and_never_fetched(tmp_path, monkeypatch):
    from randscene.cli.checks.services import WEIGHTS, files_of

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name in WEIGHTS:
        finding = make("public weights")
        assert finding.status == "absent" and name in finding.found and f"hf download {name}" in finding.cure
        for file in files_of(name):
            path = tmp_path / f"models--{name.replace('/', '--')}" / "snapshots" / ("0" * 40) / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
    assert make("public weights").status == "ok"


def test_the_weights_that_are_looked_for_are_those_that_are_read():
    pytest.importorskip("torch")
    from randscene.cli.checks.services import WEIGHTS
    from randscene.train import dinov2_conditioner, published
    from randscene.train.settings import ConditionerSettings, DataSettings

    stems = (published.ENCODER_STEM, published.DECODER_STEM, published.FLOW_STEM)
    assert {DataSettings().encoder: stems, ConditionerSettings().source: dinov2_conditioner._FILES} == WEIGHTS


def test_every_check_can_be_loaded_and_says_what_it_is_for():
    assert len({check.name for check in CHECKS}) == len(CHECKS) > 20
    for check in CHECKS:
        assert isinstance(check, Check) and callable(function_of(check))


def test_the_command_exits_1_names_what_is_broken_and_shows_no_traceback(modules):
    modules("bpy", NO_LIBRARY)
    command = [sys.executable, "-m", "randscene.cli.main", "doctor", "--quick"]
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True)
    assert as_json.returncode == 1 and not as_json.stderr
    report = json.loads(as_json.stdout)
    assert report["problems"] == ["blender"]
    assert {row["name"] for row in report["checks"]} >= {"python", "disk", "ray", "torch", "public weights"}
    assert all(row["status"] in ("ok", "warning", "absent") for row in report["checks"] if row["name"] != "blender")
