"""The bank of wrong answers: what students plausibly write, and the message that each must get.

Most of it is in the exercises themselves (``course_utils.checks.lesson_NN``): the mistakes that
they know by what a student computes who makes them. By exercise, a module here named after the
lesson adds, or where there is none ``tests/test_lesson_NN.py``:

``RIGHT``
    Right answers, by other ways than the exercise's own ``right``; at least two.
``WRONG``
    A regular expression of the message -> an answer that gets it: one that raises, has a wrong
    type, or is known by no value.

``tests/test_wrong_answers.py`` runs them all; a new exercise or bank needs no new test. What can
go wrong with any exercise (``return`` forgotten, input changed, stub left) is made there.
"""
