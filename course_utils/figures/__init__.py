"""Figures that only one topic draws; `display` and `widgets` have what all lessons draw."""
