"""Data sets of photos, clips and robot recordings, anonymized by many processes; begin at `job.py`."""
