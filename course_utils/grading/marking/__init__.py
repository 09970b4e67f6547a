"""Marking one hand-in: nbgrader in a sandbox, and the trusted scorer outside of it."""
