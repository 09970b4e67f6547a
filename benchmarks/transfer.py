"""Measure what a head start buys: five ways to begin, few and many images, several seeds.

    python benchmarks/transfer.py [--data drawn_pets people] [--seeds 0 1 2] [--keep FOLDER]

The ways are those of `course_utils/training/transfer.py`, each with the same decoder, steps and
schedule; a seed draws the training images, the random weights, and the order. Lesson 08 runs a part
of it and shows the rest from the record, which ``--record`` writes. Each training is kept in
``--keep``; an interrupted run goes on from there, and two may run side by side.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from course_utils.data import SegmentationSet, load
from course_utils.files import write_atomic
from course_utils.models.depths import encoder_of
from course_utils.models.encoders import imagenet_encoder
from course_utils.training import evaluate
from course_utils.training.transfer import RECORD, WAYS, drawn, rates_by_part, train_way

COUNTS = (8, 32, 128)
SIZES = {"drawn_pets": (64, 64), "people": (96, 64)}
"""Smaller than the task's: what learns all the way takes a minute otherwise."""


def measured_on(name: str) -> tuple[SegmentationSet, SegmentationSet]:
    """Return what training images are drawn from, and what is measured on."""
    size = SIZES[name]
    count = {"drawn_pets": 300}.get(name)  # as many as the task has
    train, valid = load(name, "train", size=size, count=count), load(name, "valid", size=size)
    if name == "people":  # few in the sample of 300: both that no training sees
        test = load(name, "test", size=size)
        images, masks = (
            np.concatenate([getattr(part, kind) for part in (valid, test)])
            for kind in ("images", "masks")
        )
        valid = replace(valid, images=images, masks=masks)
    return train, valid


def main() -> None:
    """Train, keep, and print the table of each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["drawn_pets"], choices=SIZES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--keep", type=Path, default=Path("transfer"))
    parser.add_argument("--record", action="store_true", help="write what lesson 08 shows")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    name, weights = imagenet_encoder("lite0")
    found: dict = {}
    for data in options.data:
        train, valid = measured_on(data)
        for seed in options.seeds:
            for count in options.counts:
                few = drawn(train, count, seed)
                for way in options.ways:
                    file = options.keep / f"{data}_{way.replace(' ', '_')}_{count}_{seed}.json"
                    if not file.exists():
                        net = train_way(
                            WAYS[way],
                            lambda pretrained: encoder_of(name, weights if pretrained else None),
                            few,
                            rates_by_part,
                            seed=seed,
                        )
                        score = evaluate(net, valid).mean_iou()
                        write_atomic(file, json.dumps(round(score, 4)))
                    score = json.loads(file.read_text())
                    scores = found.setdefault(data, {}).setdefault(way, {}).setdefault(count, [])
                    scores.append(score)
                    print(f"{data}, {way}, {count} images, seed {seed}: {score:.3f}", flush=True)
    for data, scores in found.items():
        print(f"\n{table(data, scores)}")
    if options.record:
        write_atomic(RECORD, json.dumps(found, indent=1) + "\n")


def table(data: str, scores: dict) -> str:
    """Return the scores of one data set as a table of docs/performance.md."""
    counts = sorted({int(count) for by_count in scores.values() for count in by_count})
    rows = [f"| {data.replace('_', ' ')} | " + " | ".join(f"{n} images" for n in counts) + " |"]
    rows.append("|---" * (len(counts) + 1) + "|")
    for way, by_count in scores.items():
        cells = [
            " ".join(f"{s:.3f}" for s in by_count.get(n, by_count.get(str(n)))) for n in counts
        ]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
