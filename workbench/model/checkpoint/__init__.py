"""A model as a folder that other programs open: written whole or not at all, and opened once by a fresh process."""
