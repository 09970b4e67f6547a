"""From whatever a platform gives to one folder a student and lesson."""
