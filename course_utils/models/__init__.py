"""Networks that are given, and not an exercise."""
