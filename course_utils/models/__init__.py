"""Networks that are given, and not a student's to write."""
