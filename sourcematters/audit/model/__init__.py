"""A finished model: loaded, asked for scores with and without each confounder, and what these say."""
