"""A notebook's kernel for the sandbox: ``python -I -m ...marking.kernel -f FILE``.

ipykernel opens a TCP port to collect what child processes print. In the sandbox there
are neither child processes nor a network, so it is started without that pipe, and a line
such as ``!pip install`` says so instead of ending its cell.
"""

import os
import sys

from ipykernel import kernelapp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.utils.text import SList


def _no_program(shell, command, **_) -> None:
    print(f"No program is started while a notebook is graded: {command}")
    shell.user_ns["_exit_code"] = 1


def _no_output(shell, command, **_) -> SList:
    _no_program(shell, command)
    return SList([])


if __name__ == "__main__":
    iopub_thread = kernelapp.IOPubThread
    kernelapp.IOPubThread = lambda *args, **kw: iopub_thread(*args, **{**kw, "pipe": False})
    ZMQInteractiveShell.system = _no_program
    ZMQInteractiveShell.getoutput = _no_output
    os.environ["COURSE_HAND_IN"] = os.getcwd()  # for function_task, wherever a cell goes from here
    # A module that a cell has written is found, but after all that is installed.
    sys.path.append("")
    kernelapp.launch_new_instance()
