"""The machine under the benchmark: its fingerprint, its theoretical peaks with their sources, and its faults."""
