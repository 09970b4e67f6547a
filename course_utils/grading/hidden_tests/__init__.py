"""Hidden tests, one module a lesson: never shipped to students; their messages stay short."""
