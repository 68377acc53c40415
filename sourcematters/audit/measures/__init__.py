"""What is measured on a finished model: its scores with and without each confounder, in each group, and controls."""
