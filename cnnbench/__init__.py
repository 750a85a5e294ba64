"""cnnbench times the training of a lecture's MNIST CNN on every processor of a machine and judges the numbers.

Suites and the machine make a plan of jobs; each job runs in a fresh process; each process leaves one record in an
append-only ledger; everything shown (tables, speed-ups, reports) is derived from those records when it is read.
"""

__version__ = "0.1.0"
