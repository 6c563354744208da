"""Where live pictures come from, and where they go."""
