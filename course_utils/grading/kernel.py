"""A notebook's kernel for the sandbox: ``python -I -m course_utils.grading.kernel -f FILE``.

ipykernel opens a TCP port to collect what child processes print. In the sandbox there
are neither child processes nor a network, so it is started without that pipe.
"""

from ipykernel import kernelapp

if __name__ == "__main__":
    iopub_thread = kernelapp.IOPubThread
    kernelapp.IOPubThread = lambda *args, **kw: iopub_thread(*args, **{**kw, "pipe": False})
    kernelapp.launch_new_instance()
