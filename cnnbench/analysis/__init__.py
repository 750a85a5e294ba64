"""The analysis of stored records: records go in, estimates with intervals come out; nothing here prints or stores.

`stats` holds the formulas, `process_table` turns records into one flat value per process, `speedup` groups processes
into rows and divides only what measured the same work.
"""
