"""What differs from patient to patient in the body itself, drawn: the heart's size and side, the tissue over it."""
