"""What was measured, and how: each module is one benchmark, ``python -m benchmarks`` the ratios.

A benchmark measures what it compares in one run, in turns: times of a shared machine vary by a
factor of two, ratios within one run do not. A module whose numbers belong in the one table has
``rows(rounds)``, which gives :class:`benchmarks.measuring.Row`; each has ``main()``.
"""
