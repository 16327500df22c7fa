"""The kinds of quantized weight: what is stored of a matrix, and how the dense one comes back."""
