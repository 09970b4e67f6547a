"""Time a training step and the scoring of 100 pictures on a quiet and on a busy machine.

    python -m benchmarks.busy_machine [--rounds 3]

Busy: another program computes on one of the cores. Default: the threads that torch and onnxruntime
take by themselves, which spin while they wait. Ours: what ``fit`` and the scorer take. All of it is
measured in one run, in turns, and the median of the rounds is printed; the last column is the pace
beside that of one thread on the quiet machine.
"""

import contextlib
import io
import subprocess
import sys
import time
import warnings
from statistics import median
from typing import Annotated

import numpy as np
import torch
import typer
from torch.nn import functional as F

from benchmarks.measuring import ROUNDS, Row, hardware, timed
from course_utils.hand_in.inference import open_model, predict
from course_utils.machine import processors
from course_utils.models.unet import UNet
from course_utils.training import fastest_mode
from course_utils.training.threads import take_fastest

CLASSES, SIZE, BATCH, STEPS, PICTURES = 10, (96, 128), 8, 8, 100
LOOP = "while True: pass"


@contextlib.contextmanager
def machine(kind: str):
    """Keep one core busy with another process, or none."""
    if kind == "quiet":
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", LOOP])
    time.sleep(0.5)
    try:
        yield
    finally:
        other.kill()
        other.wait()


def training():
    """Return a function that takes one step of lesson 06's training, and one that runs the net."""
    torch.manual_seed(0)
    mode = fastest_mode(torch.device("cpu"))
    model = UNet(3, CLASSES).to(memory_format=mode.memory_format)
    x = torch.rand(BATCH, 3, *SIZE).contiguous(memory_format=mode.memory_format)
    y = torch.randint(0, CLASSES, (BATCH, *SIZE))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)

    def logits(images):
        with torch.autocast("cpu", mode.dtype, enabled=mode.dtype is not None):
            return model(images)

    def step():
        loss = F.cross_entropy(logits(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def trial():  # as in fit: four pictures, forward alone
        with torch.no_grad():
            logits(x[:4])

    return step, trial


def sessions() -> dict[str, object]:
    """Return sessions of onnxruntime: its own default, one thread, and that of the scorer."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            UNet(3, CLASSES).eval(),
            (torch.rand(1, 3, *SIZE),),
            file,
            dynamo=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_axes={"images": {0: "batch"}},
        )
    scorer = open_model(file.getvalue())
    import onnxruntime

    opened = {"ours": scorer}
    for name, threads in (("default", 0), ("one thread", 1)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        opened[name] = onnxruntime.InferenceSession(
            file.getvalue(), options, providers=["CPUExecutionProvider"]
        )
    return opened


def measure(rounds: int) -> tuple[dict, list[int]]:
    """Return all times by what, machine and way, and the numbers of threads that were taken."""
    step, trial = training()
    opened = sessions()
    most = min(torch.get_num_threads(), processors())
    images = np.random.default_rng(0).integers(0, 256, (PICTURES, *SIZE, 3), dtype=np.uint8)
    times, taken = {}, []
    for _ in range(rounds):
        for kind in ("quiet", "busy"):
            with machine(kind):
                for way in ("one thread", "default", "ours"):
                    torch.set_num_threads(1 if way == "one thread" else most)
                    if way == "ours":
                        taken.append((kind, take_fastest(trial, most)))
                    step()
                    pace = np.mean([timed(step) for _ in range(STEPS)])
                    times.setdefault(("step", kind, way), []).append(pace)
                    score = timed(lambda: predict(opened[way], images, CLASSES))  # noqa: B023
                    times.setdefault(("scoring", kind, way), []).append(score)
    return times, taken


def rows(rounds: int = ROUNDS) -> list[Row]:
    """Return what ``fit`` and the scorer gain beside the libraries' own numbers of threads."""
    times, _ = measure(rounds)
    return [
        Row(
            {"step": "training step", "scoring": "scoring 100 pictures"}[what]
            + f", {kind} machine",
            "default threads",
            "ours",
            times[what, kind, "default"],
            times[what, kind, "ours"],
        )
        for what in ("step", "scoring")
        for kind in ("quiet", "busy")
    ]


def main(rounds: Annotated[int, typer.Option(help="Measurements of each.")] = 3) -> None:
    """Print the table."""
    times, taken = measure(rounds)
    print(hardware())
    print(f"{'':8} {'machine':8} {'':11} {'seconds':>8}  pace of one thread, quiet = 1")
    for what in ("step", "scoring"):
        base = median(times[what, "quiet", "one thread"])
        for kind in ("quiet", "busy"):
            for way in ("one thread", "default", "ours"):
                mean = median(times[what, kind, way])
                print(f"{what:8} {kind:8} {way:11} {mean:8.3f}  {base / mean:5.2f}")
    for kind in ("quiet", "busy"):
        numbers = [n for where, n in taken if where == kind]
        print(f"threads that fit took, {kind}: {numbers} (median {median(numbers):g})")


if __name__ == "__main__":
    typer.run(main)
