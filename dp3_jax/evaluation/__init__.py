"""Measuring and sampling trained generators."""
