"""The one exception a user is meant to read."""


class StudyError(ValueError):
    """Something outside the code is wrong: a file, a table, a parameter; printed without a traceback.

    The message says what is wrong, where (file, row, column), and how to mend it.
    """
