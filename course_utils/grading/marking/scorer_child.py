"""What runs in the scorer's child process: the model file on images, nothing else.

The child has no labels. It reads everything from its standard input and answers
on its standard output; started by ``scorer.py`` in the sandbox of ``sandbox.py``.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np


def _inspect(request: dict, content: bytes) -> dict:
    """Put the model file through the gate, and say for which profile it is."""
    from course_utils.errors import CourseError
    from course_utils.hand_in import gate, tasks

    try:
        profile = gate.stated_profile(content, request["task"], request["name"])
        task = tasks.get_task(request["task"], profile)
        gate.check_model_bytes(content, task, request["name"])
    except CourseError as error:
        return {"refused": str(error)}
    return {"profile": profile}


def main() -> None:
    """Answer one request: a line of JSON, then the model file, then perhaps images."""
    stdin = sys.stdin.buffer
    # What a library prints must not get into the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = json.loads(stdin.readline())
    content = stdin.read(request["bytes"])
    if "shape" not in request:
        answer.write(json.dumps(_inspect(request, content)).encode())
        answer.flush()
        return
    from course_utils.hand_in.inference import open_model, predict

    session = open_model(content)
    del content
    images = np.frombuffer(stdin.read(), np.uint8).reshape(request["shape"])
    sliding = {key: request[key] for key in ("window", "stride")}
    answer.write(predict(session, images, request["classes"], **sliding).tobytes())
    answer.flush()


if __name__ == "__main__":
    # -I leaves the package's folder out; last on the path, it can shadow nothing.
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    main()
