"""The one exception a user is meant to read."""


class StudyError(Exception):
    """Something outside the code is wrong: a file, a table, a parameter; printed without a traceback.

    The message says what is wrong, where (file, row, column), and how to mend it. It is no ValueError: what turns a
    library's errors into sentences must not turn our sentences into others. Pydantic's validators raise ValueError.
    """
