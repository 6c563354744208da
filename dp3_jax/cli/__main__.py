"""`python -m dp3_jax.cli` is the command `dp3`."""

from dp3_jax.cli.main import run

run()
