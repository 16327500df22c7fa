"""Finished studies as one file, carried between machines: JSON, parquet and safetensors in a zip, never a pickle.

`create` writes a bundle, `opening` reads one that somebody else made: nothing of it is believed before it is checked,
and nothing lies in the cache folder before all of it is. Digests show damage, they do not say who made a bundle.
No torch here.
"""
