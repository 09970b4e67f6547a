"""Marking: tasks, model files, the scorer, nbgrader, reports."""
