"""Which weights matter: one metric a file, found by `workbench.registry.salience`.

A metric is a pure function of a weight `[out, in]` and the statistics of its inputs. It returns scores that are never
negative unless it says `signed`: one per weight, one per input channel or one per matrix, as its `granularity` says.
"""
