"""The machine under the benchmark: its fingerprint, its theoretical peaks with their sources, and what is wrong with it."""
