"""What quantizers compute with: sweeps that compensate errors, clusterings, searches. No method of its own."""
