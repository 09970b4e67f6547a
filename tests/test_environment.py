"""The lock, pyproject.toml, environment.yml and setup.sh describe one environment."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def locked() -> list[Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.lstrip().startswith("#")]


def declared() -> list[Requirement]:
    groups = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    return [Requirement(line) for group in groups for line in group]


def pins_on(python: str, platform: str) -> dict[str, str]:
    """Return {package: version} that the lock installs on one machine."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": platform,
        "platform_machine": "arm64" if platform == "darwin" else "x86_64",
        "os_name": "nt" if platform == "win32" else "posix",
        "implementation_name": "cpython",
    }
    pins = {}
    for requirement in locked():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (specifier,) = requirement.specifier
            name = canonicalize_name(requirement.name)
            assert specifier.operator == "==", f"{requirement} is not pinned"
            assert name not in pins, f"{name} is pinned twice on {platform}, Python {python}"
            pins[name] = specifier.version
    return pins


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_locked_within_its_range(python, platform):
    pins = pins_on(python, platform)
    for requirement in declared():
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"{requirement.name} is not in requirements.lock: run make lock"
        assert requirement.specifier.contains(pin), f"{requirement} but {pin} is locked"


def test_torch_and_torchvision_are_locked_as_a_matching_pair():
    pins = pins_on("3.11", "linux")
    torch, vision = (pins[name].split(".") for name in ("torch", "torchvision"))
    # torchvision 0.N goes with torch 2.(N - 15), from 0.15 with 2.0 on
    assert (torch[0], vision[0]) == ("2", "0")
    assert int(vision[1]) - 15 == int(torch[1])


def test_torch_is_supported_from_the_oldest_promised_pair_on():
    ranges = {requirement.name: requirement.specifier for requirement in declared()}
    assert ranges["torch"].contains("2.11.0")
    assert not ranges["torch"].contains("2.10.0")
    assert ranges["torchvision"].contains("0.26.0")
    assert not ranges["torchvision"].contains("0.25.0")


def test_what_computes_is_the_same_on_every_python():
    # Else the tests, which run on one Python, would say nothing of the others.
    names = ("numpy", "scipy", "scikit-image", "onnx", "onnxruntime", "nbgrader", "jupyterlab")
    sets = [{name: pins_on(python, "linux")[name] for name in names} for python in PYTHONS]
    assert all(pins == sets[0] for pins in sets)


def test_lock_names_no_folder_and_no_server():
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|^-|@ ", text, re.MULTILINE)
    # uv names what asked for a package; only this project may appear there as a path
    assert not re.search(r"[ (]/", text)


def test_environment_yml_installs_the_lock_and_this_package():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert "pip" in conda, "conda warns, and may fail, when it must add pip by itself"
    (python,) = (line for line in conda if line.startswith("python="))
    version = python.removeprefix("python=")
    assert version in PYTHONS, "Binder reads only python=X.Y"
    assert SpecifierSet(PROJECT["requires-python"]).contains(version)
    assert set(conda) == {python, "pip"}, "all else comes from the lock"


def test_every_file_allows_the_same_pythons():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert all(allowed.contains(python) for python in PYTHONS)
    assert not allowed.contains("3.10")
    assert not allowed.contains("3.15")
    (bounds,) = re.findall(
        r"\((\d), (\d+)\) <= sys.version_info\[:2\] <= \((\d), (\d+)\)",
        (ROOT / "tools/setup.sh").read_text(),
    )
    assert bounds == (*PYTHONS[0].split("."), *PYTHONS[-1].split("."))


# ---- tools/setup.sh, with a Python that only pretends, so that nothing is downloaded ----

FAKE_PYTHON = """#!/bin/sh
# Stands for python3 and, copied into .venv/bin, for the venv's own python.
echo "$*" >> "$LOG"
case "$1 $2" in
    "--version "*) echo "Python $FAKE_VERSION" ;;
    "-c import sys"*)
        case "$FAKE_VERSION" in 3.1[1-4]*) exit 0 ;; *) exit 1 ;; esac ;;
    "-P -c") exit "${FAKE_MOVED:-0}" ;;
    "-m venv")
        if [ "${FAKE_NO_VENV:-}" ]; then mkdir -p .venv/bin; echo "no ensurepip" >&2; exit 1; fi
        rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip") exit "${FAKE_PIP:-0}" ;;
esac
"""


@pytest.fixture
def setup(tmp_path, processes):
    """Return a function that runs setup.sh in a small course: (result, the calls of python)."""
    if sys.platform == "win32":
        pytest.skip("setup.sh is for POSIX shells")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/setup.sh", tmp_path / "tools")
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    for name in ("jupyter_server_config.d", "share/nbconvert"):
        (tmp_path / "course_utils/jupyter" / name).mkdir(parents=True)
    binaries = tmp_path / "bin"
    binaries.mkdir()
    fake = binaries / "python3"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    for tool in ("sh", "cat", "cksum", "rm", "mkdir", "cp", "dirname"):
        (binaries / tool).symlink_to(shutil.which(tool))

    def run(**fake):
        log = tmp_path / "log"
        log.write_text("")
        environment = {"PATH": str(binaries), "LOG": str(log), "FAKE_VERSION": "3.12.1", **fake}
        result = subprocess.run(
            ["sh", "tools/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        return result, log.read_text()

    run.root = tmp_path
    return run


def test_setup_makes_the_venv_once_and_then_starts_at_once(setup):
    first, calls = setup()
    assert first.returncode == 0, first.stderr
    assert "-m venv --clear .venv" in calls
    assert "install --disable-pip-version-check -r requirements.lock" in calls
    assert (setup.root / ".venv/etc/jupyter/jupyter_server_config.d").is_dir()
    assert (setup.root / ".venv/share/jupyter/nbconvert").is_dir()
    second, calls = setup()
    assert second.returncode == 0
    assert "venv" not in calls
    assert "pip" not in calls


def test_setup_updates_the_venv_in_place_when_the_lock_changes(setup):
    setup()
    (setup.root / "requirements.lock").write_text("numpy==2.5.0\n")
    result, calls = setup()
    assert "requirements.lock" in result.stdout
    assert "-m venv" not in calls
    assert "-r requirements.lock" in calls
    assert "pip" not in setup()[1]


def test_setup_starts_afresh_after_an_interrupted_installation(setup):
    broken, _ = setup(FAKE_PIP="1")
    assert broken.returncode == 1
    assert "run the same command again" in broken.stderr
    again, calls = setup()
    assert again.returncode == 0
    assert "-m venv --clear .venv" in calls


def test_setup_remakes_a_venv_whose_course_was_moved_or_python_removed(setup):
    setup()
    assert "-m venv --clear" in setup(FAKE_MOVED="1")[1]
    setup()
    (setup.root / ".venv/bin/python").unlink()
    assert "-m venv --clear" in setup()[1]


def test_setup_says_which_python_is_needed(setup):
    result, calls = setup(FAKE_VERSION="3.9.2")
    assert result.returncode == 1
    assert "Python 3.11 to 3.14 is needed, here is Python 3.9.2" in result.stderr
    assert "venv" not in calls


def test_setup_says_how_to_get_the_venv_module(setup):
    result, _ = setup(FAKE_NO_VENV="1")
    assert result.returncode == 1
    assert "sudo apt install python3-venv" in result.stderr


def test_setup_takes_the_python_that_it_is_told(setup):
    result, _ = setup(PYTHON="python3.13-absent")
    assert result.returncode == 1
    assert "here is no python3.13-absent" in result.stderr
