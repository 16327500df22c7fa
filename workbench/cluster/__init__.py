"""Sweeps over many machines, on Ray (extra `cluster`): workers hold the model and make the parts of studies.

`wish.Wish` says what is asked for, `run.start` runs a study with it. Ray is imported here alone, and only when a run
asks for it.
"""
