"""What we look at: a model, its matrices, the texts, and the statistics of its activations."""
