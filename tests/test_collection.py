"""Collecting the tests reads their names and does no work: what they need comes when they run.

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
    assert done.returncode == 0, done.stdout[-3000:]
    modules = {line.partition(":")[0] for line in done.stdout.splitlines()}
    assert {f"tests/{path.name}" for path in ROOT.glob("tests/test_*.py")} <= modules


@pytest.mark.process
@pytest.mark.parametrize(
    ("work", "refused"),
    [("import torch", "import of torch"), ("__import__('os').system('true')", "os.system")],
)
def test_a_module_that_works_while_it_is_collected_is_found(work, refused, tmp_path):
    (tmp_path / "test_hurried.py").write_text(f"{work}\n\n\ndef test_nothing():\n    pass\n")
    done = collected(str(tmp_path), f"--rootdir={tmp_path}")
    assert done.returncode == 2
    assert f"while tests are collected: {refused}" in done.stdout
