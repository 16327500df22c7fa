"""Time and memory of a run before it is started: from the sizes of the model and a look at how fast it runs here.

`estimate` says what is expected, `table` lists what every kind of study needs, `fitting` refuses what cannot fit and
offers what would, `watch` puts all that around a study and records the truth. Attribution is counted by
`workbench.costs`; here it is given the measured speed.
"""
