"""Helper package of the image segmentation course.

Importing it is instant: torch, onnx and the rest are imported by the modules
that need them.
"""

__version__ = "0.1.0"
