"""What people and machines burn into a film after it was taken: arrows, rulers, text, borders."""
