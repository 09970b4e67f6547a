"""A notebook's kernel for the sandbox: ``python -I -m ...marking.kernel -f FILE``.

ipykernel opens a TCP port to collect what child processes print. In the sandbox there
are neither child processes nor a network, so it is started without that pipe, and a line
such as ``!pip install`` says so instead of ending its cell.
"""

import importlib
import os
import sys

from ipykernel import kernelapp
from ipykernel.ipkernel import IPythonKernel
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.utils.text import SList


def _no_program(shell, command, **_) -> None:
    print(f"No program is started while a notebook is graded: {command}")
    shell.user_ns["_exit_code"] = 1


def _no_output(shell, command, **_) -> SList:
    _no_program(shell, command)
    return SList([])


class Kernel(IPythonKernel):
    """A kernel that answers even after a cell has put something in the place of its streams.

    ipykernel flushes them before it answers. What cannot be flushed, such as None or a class of
    one's own that only writes, would leave whoever waits without an answer.
    """

    async def do_execute(
        self,
        code,
        silent,
        store_history=True,
        user_expressions=None,
        allow_stdin=False,
        *,
        cell_meta=None,
        cell_id=None,
    ):
        """Run a cell; then bring back streams that cannot be flushed."""
        streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
        try:
            return await super().do_execute(
                code,
                silent,
                store_history,
                user_expressions,
                allow_stdin,
                cell_meta=cell_meta,
                cell_id=cell_id,
            )
        finally:
            for name, stream in streams.items():
                if not callable(getattr(getattr(sys, name, None), "flush", None)):
                    setattr(sys, name, stream)


def import_more() -> None:
    """Import what torch itself imports later: with the first optimizer that a cell makes."""
    if "torch" in sys.modules:
        for name in ("torch._dynamo", "torch.onnx", "torch.utils.data"):
            importlib.import_module(name)


def _leave_debugger_out() -> None:
    """Have ipykernel find no debugger: here nobody looks on, and its import takes long."""
    sys.modules["debugpy"] = None
    importlib.import_module("ipykernel.debugger")
    del sys.modules["debugpy"]


def main() -> None:
    """Be a kernel, to the end of this process."""
    iopub_thread = kernelapp.IOPubThread
    kernelapp.IOPubThread = lambda *args, **kw: iopub_thread(*args, **{**kw, "pipe": False})
    ZMQInteractiveShell.system = _no_program
    ZMQInteractiveShell.getoutput = _no_output
    _leave_debugger_out()
    os.environ["COURSE_HAND_IN"] = os.getcwd()  # for function_task, wherever a cell goes from here
    # A module that a cell has written is found, but after all that is installed.
    sys.path.append("")
    kernelapp.launch_new_instance(kernel_class=Kernel)


if __name__ == "__main__":
    main()
