"""The instructor's side: hand-ins collected, marked, reported; lessons published."""
