"""Run a notebook's code cells in this bare process: ``python run_cells.py NOTEBOOK FILE``.

The notebook leaves a dictionary ``claims``; it goes to FILE as JSON, with seconds and memory.
"""

import json
import sys
import time

import nbformat


def main(notebook: str, file: str) -> None:
    started, names = time.time(), {}
    for cell in nbformat.read(notebook, 4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.id, "exec"), names)
    names["claims"] |= {
        "seconds": time.time() - started,
        "megabytes": peak_megabytes(),
        "torch": "torch" in sys.modules,
    }
    with open(file, "w") as output:
        json.dump(names["claims"], output, default=float)


def peak_megabytes() -> float:
    try:  # ru_maxrss starts with what pytest held when it forked
        with open("/proc/self/status") as status:
            return int(status.read().split("VmHWM:")[1].split()[0]) / 1024
    except OSError:  # not Linux; macOS counts bytes
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main(*sys.argv[1:])
