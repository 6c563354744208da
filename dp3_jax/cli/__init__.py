"""The command `dp3` and what `launch.py` needs: flags and dispatch."""
