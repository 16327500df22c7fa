"""Long work: a store of jobs on disk, the one process that holds the model, and the client that pages and shell use.

Only `worker` (and what it starts) imports torch. One worker serves one cache folder, however many apps look at it.
"""
