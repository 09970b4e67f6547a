"""What a machine has, what that means for the lessons, and how to mend what is wrong.

Each function looks at one thing and returns a :class:`Finding`; none of them
raises, because a broken machine is what they are for.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from course_utils import machine
from course_utils.errors import CourseError, last_error
from course_utils.paths import course_root, data_folder, list_lessons, other_copy

KEY_PACKAGES = (
    "torch",
    "torchvision",
    "fastai",
    "timm",
    "segmentation-models-pytorch",
    "numpy",
    "onnx",
    "onnxruntime",
    "jupyterlab",
    "nbgrader",
)
GIGABYTE = 1e9
# Lesson 06 takes 1.3 GB at its peak (profile full on a CPU: 2.6 GB), JupyterLab 0.2 GB beside it.
MEMORY_NEEDED = 2 * GIGABYTE
DISK_NEEDED = 1 * GIGABYTE  # for models, checkpoints and data
# Training in lesson 06 (profile quick) takes as long as this many steps of `_trial_step`.
TRIAL_STEPS_IN_LESSON_06 = 1050


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    topic, found
        What was looked at, and what is there.
    problem, cure
        What is wrong with it and the command that mends it; empty if nothing is.
    needed
        Whether the lessons cannot be done while the problem lasts.
    """

    topic: str
    found: str
    problem: str = ""
    cure: str = ""
    needed: bool = True


def run() -> None:
    """Print the report; exit with code 1 if something that the lessons need is broken."""
    torch_child = start_torch_report()  # takes seconds: it works while the rest is looked at
    findings = look()
    torch_report = read_torch_report(torch_child)
    findings.append(gpu(torch_report))
    print(report(findings, advice(torch_report)))
    if any(finding.problem and finding.needed for finding in findings):
        raise SystemExit(1)


def look() -> list[Finding]:
    """Look at everything but torch."""
    return [
        python(),
        *packages(),
        processor(),
        memory(),
        disk(),
        *copy_of_the_course(),
        lessons(),
        *data_sets(),
        isolation(),
    ]


def report(findings: list[Finding], lines: list[str]) -> str:
    """Return the report as text: what there is, what it means, what to mend."""
    width = max(len(finding.topic) for finding in findings) + 2
    text = [f"  {finding.topic:<{width}}{finding.found}" for finding in findings]
    text += ["", *(f"  {line}" for line in lines)]
    problems = [finding for finding in findings if finding.problem]
    if not problems:
        return "\n".join([*text, "", "Nothing is wrong."])
    text += ["", "To mend:" if any(f.needed for f in problems) else "Could be better:"]
    for finding in sorted(problems, key=lambda finding: not finding.needed):
        topic = f"{finding.topic}: " if finding.topic else ""
        text.append(f"{'!' if finding.needed else '-'} {topic}{finding.problem}")
        text.append(f"      {finding.cure}")
    return "\n".join(text)


def reinstall_command() -> str:
    """Return the command that installs the locked packages into this very Python."""
    return f"{_pip()} install -r requirements.lock -e ."


def _same(package: str) -> str:
    """Return what pip must be told to install the version that is here, of another build."""
    return f"{package}=={metadata.version(package).partition('+')[0]}"


def _pip() -> str:
    executable = Path(sys.executable)
    if executable.is_relative_to(Path.cwd()):
        executable = executable.relative_to(Path.cwd())
    name = f'"{executable}"' if " " in str(executable) else executable
    return f"{name} -m pip"


def python(version: tuple[int, int, int] = sys.version_info[:3]) -> Finding:
    """Look at Python itself."""
    found = f"{'.'.join(map(str, version))} at {sys.executable}"
    allowed = Requirement(f"python{metadata.metadata('course-utils')['Requires-Python']}")
    if allowed.specifier.contains(".".join(map(str, version))):
        return Finding("Python", found)
    return Finding(
        "Python",
        found,
        f"the course needs {allowed.specifier}",
        "install Python 3.12 from https://www.python.org/downloads/, then: make lab",
    )


def packages(
    installed: Callable[[str], str] = metadata.version, lock: Mapping[str, str] | None = None
) -> list[Finding]:
    """Compare the installed packages with what the course needs and with the tested set."""
    lock = locked_versions() if lock is None else lock
    cure = reinstall_command()
    missing, wrong, untested = [], [], []
    for line in metadata.requires("course-utils") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = requirement.name
        try:
            version = installed(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        pin = lock.get(canonicalize_name(name))
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{name} {version} (needed: {requirement.specifier})")
        elif pin and version.split("+")[0] != pin:  # 2.14.0+cpu is 2.14.0, built for the CPU
            untested.append(f"{name} {version} (tested: {pin})")

    def version_of(name: str) -> str:
        try:
            return f"{name} {installed(name)}"
        except metadata.PackageNotFoundError:
            return f"no {name}"

    found = [version_of(name) for name in KEY_PACKAGES]
    broken = [f"{', '.join(missing)} not installed"] * bool(missing) + wrong
    problem = "; ".join(broken or untested)
    first = Finding(
        "Packages", ", ".join(found[:5]), problem, cure if problem else "", needed=bool(broken)
    )
    return [first, Finding("", ", ".join(found[5:]))]


def locked_versions() -> dict[str, str]:
    """Return ``{package: version}`` of requirements.lock for this machine; {} without a lock."""
    try:
        text = (course_root() / "requirements.lock").read_text(encoding="utf-8")
    except (OSError, CourseError):
        return {}
    pins = {}
    for line in re.findall(r"^[\w.-]+==.*$", text, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate():
            (specifier,) = requirement.specifier
            pins[canonicalize_name(requirement.name)] = specifier.version
    return pins


def processor() -> Finding:
    """Count the processor cores that this process may use."""
    cores, there = machine.processors(), os.cpu_count() or 1
    granted = f" (of {there} in the machine)" if cores < there else ""
    return Finding("Processor", f"{cores} core{'s' * (cores > 1)}{granted}")


def memory() -> Finding:
    """Look at the memory, in all and free."""
    total, free = machine.memory()
    found = f"{free / GIGABYTE:.1f} GB free of {total / GIGABYTE:.1f} GB"
    if free >= MEMORY_NEEDED:
        return Finding("Memory", found)
    return Finding(
        "Memory",
        found,
        f"lesson 06 and JupyterLab can take {MEMORY_NEEDED / GIGABYTE:.0f} GB",
        "close other programs; in JupyterLab: Kernel > Shut Down All Kernels",
        needed=False,
    )


def disk(free: int | None = None) -> Finding:
    """Look at the free space where the course lies."""
    folder = Path.cwd()
    with contextlib.suppress(CourseError):
        folder = course_root()
    free = shutil.disk_usage(folder).free if free is None else free
    found = f"{free / GIGABYTE:.1f} GB free in {folder}"
    if free >= DISK_NEEDED:
        return Finding("Disk", found)
    return Finding(
        "Disk",
        found,
        f"models and downloads need {DISK_NEEDED / GIGABYTE:.0f} GB",
        "free some space, for example: python -m pip cache purge",
    )


def lessons() -> Finding:
    """Look for the lessons."""
    try:
        names = list_lessons(course_root() / "lessons")
    except CourseError as error:
        return Finding("Lessons", "none", str(error), "cd THE-COURSE-FOLDER; course doctor")
    if names:
        return Finding("Lessons", f"{len(names)}: {', '.join(names)}")
    return Finding("Lessons", "none", "lessons/ is empty", "course release")


def copy_of_the_course() -> list[Finding]:
    """Look whether the running code is that of the folder; nothing to say if it is."""
    other = other_copy()
    return [Finding("Course", "the code of another copy", *other, needed=False)] if other else []


def data_sets() -> list[Finding]:
    """Look for the data sets: scenes are drawn on the spot, others lie in the data folder."""
    from course_utils.data import catalogue

    findings = [Finding("Data", "scenes: always there, drawn when needed")]
    try:
        folder = data_folder()
    except CourseError:  # outside of the course, which `lessons` reports
        return findings
    if os.environ.get("COURSE_DATA") and not folder.is_dir():
        problem = f"COURSE_DATA is {folder}, and there is no such folder"
        return [*findings, Finding("", "others: none", problem, f'mkdir -p "{folder}"', False)]
    for name in ("camvid", "camvid-fastai"):
        if found := catalogue.present(name):
            return [*findings, Finding("", f"{name}: {found}")]
    fetch = "course data fetch camvid"
    found = f"camvid: not in {folder}"
    if os.environ.get("COURSE_PROFILE") == "full":
        return [*findings, Finding("", found, "COURSE_PROFILE is full, which trains on it", fetch)]
    return [*findings, Finding("", f"{found} (for profile full: {fetch})")]


def isolation() -> Finding:
    """Look at what can hold a hand-in back while it is graded; of use to instructors only."""
    from course_utils.grading.marking import sandbox

    level = sandbox.isolation_level()
    if level != sandbox.LIMITS:
        return Finding("Grading", f"hand-ins run behind {level}")
    if sys.platform == "linux":
        return Finding(
            "Grading",
            level,
            "hand-ins of others would run without isolation (your own need none)",
            "sudo apt install bubblewrap",
            needed=False,
        )
    return Finding("Grading", f"{level}: grade the hand-ins of others on Linux 5.13 or later")


# ---- torch, in a process of its own, because a broken torch can take its process with it ----


def start_torch_report() -> subprocess.Popen:
    """Start a child that imports torch and torchvision, and tries their speed."""
    code = "from course_utils.doctor import _print_torch_report as r; r()"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def read_torch_report(child: subprocess.Popen, seconds: float = 120) -> dict:
    """Return what the child found: ``device``, ``step``, ``cuda_seen`` and so on, or ``error``."""
    try:
        output, errors = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return {"error": f"no answer within {seconds:.0f} s"}
    if child.returncode == 0:
        return json.loads(output.splitlines()[-1])
    cause = last_error(errors) or f"its process ended with code {child.returncode}"
    return {"error": cause[:200]}


def gpu(found: Mapping) -> Finding:
    """Say which GPU the lessons would use, from the torch report."""
    if "error" in found:
        problem = f"torch does not work: {found['error']}"
        return Finding("GPU", "unknown", problem, reinstall_command())
    if found["device"] == "cuda":
        return Finding("GPU", f"{found['name']} (CUDA), {found['memory'] / GIGABYTE:.0f} GB")
    if found["device"] == "mps":
        return Finding("GPU", "Apple (MPS)")
    if found["cuda_seen"]:
        return Finding(
            "GPU",
            "an NVIDIA GPU that torch cannot use",
            "it is in use, its driver fails, or the installed torch has no code for its age; the "
            "wheels cu126, if your torch has them, are for cards from 2014 on",
            f"{_pip()} install --force-reinstall {_same('torch')} {_same('torchvision')} "
            "--index-url https://download.pytorch.org/whl/cu126",
            needed=False,
        )
    if nvidia_present() and not found["cuda_built"]:
        return Finding(
            "GPU",
            "an NVIDIA GPU that torch cannot use",
            "the installed torch is built for the CPU only",
            "choose your platform on https://pytorch.org/get-started/locally/, run its command",
            needed=False,
        )
    return Finding("GPU", "none that torch can use")


def nvidia_present() -> bool:
    """Return whether this machine has NVIDIA's driver."""
    return shutil.which("nvidia-smi") is not None


def advice(found: Mapping) -> list[str]:
    """Say which profile fits, and about how long the longest training takes."""
    if "error" in found:
        return ["For the lessons: nothing can be trained until torch works."]
    minutes = found["step"] * TRIAL_STEPS_IN_LESSON_06 / 60
    lines = [
        f"For the lessons: profile quick fits. Training in lesson 06 takes about "
        f"{'a minute' if minutes < 1.5 else f'{minutes:.0f} minutes'}."
    ]
    if found["device"] == "cuda":
        lines.append("Profile full (CamVid) fits too: COURSE_PROFILE=full course lab")
    else:
        lines.append("Profile full (CamVid at 256x384) is meant for a CUDA GPU.")
    return lines


def _print_torch_report() -> None:
    import torch
    import torchvision  # noqa: F401 - dies at import if it does not match torch

    from course_utils.training import fastest_mode, pick_device

    device = pick_device()
    found = {
        "device": device.type,
        "cuda_seen": torch.cuda.is_available(),
        "cuda_built": torch.backends.cuda.is_built(),
        "step": _trial_step(device, fastest_mode(device)),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"name": properties.name, "memory": properties.total_memory}
    print(json.dumps(found))


def _trial_step(device, mode) -> float:
    """Return the seconds of one training step of three convolutions: the fastest of some."""
    import torch
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
    ).to(device, memory_format=mode.memory_format)
    x = torch.rand(16, 3, 96, 128, device=device).to(memory_format=mode.memory_format)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        with torch.autocast(device.type, mode.dtype, enabled=mode.dtype is not None):
            loss = net(x).square().mean()
        loss.backward()
        loss.item()  # waits for the GPU
        times.append(time.perf_counter() - start)
    return min(times)  # the others were disturbed, by warming up or by other programs
