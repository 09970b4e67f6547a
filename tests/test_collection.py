"""Collecting the tests imports no torch and starts no process: that comes with the tests.

So torch is imported in a module's ``setup_module``, which pytest calls before the module's first
test, and networks and banks of answers that need it stand in modules of their own.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COLLECT = """
import sys
import pytest

HEAVY = {"torch", "torchvision", "fastai", "timm", "segmentation_models_pytorch", "onnxruntime"}
PROCESS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"}


def refuse(event, given):
    if event in PROCESS or event == "import" and given[0] in HEAVY:
        raise RuntimeError(f"while tests are collected: {event} of {given[0]}")


sys.addaudithook(refuse)
sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def collected(*given):
    return subprocess.run(
        [sys.executable, "-c", COLLECT, *given], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.process
def test_collecting_imports_no_torch_and_starts_no_process():
    done = collected("tests")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    modules = {line.partition(":")[0] for line in done.stdout.splitlines()}
    for path in ROOT.glob("tests/**/test_*.py"):
        skipped = "importorskip(" in path.read_text()
        assert skipped or str(path.relative_to(ROOT)) in modules


@pytest.mark.process
@pytest.mark.parametrize(
    "work", ["import torch", "importlib.import_module('torch')", "os.system('true')"]
)
def test_a_module_that_works_while_it_is_collected_is_found(work, tmp_path):
    (tmp_path / "test_hurried.py").write_text(f"import importlib, os\n{work}\n")
    done = collected(str(tmp_path), f"--rootdir={tmp_path}")
    assert done.returncode == pytest.ExitCode.INTERRUPTED
    assert "while tests are collected: " in done.stdout
