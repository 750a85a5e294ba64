"""The reading wing: stored records go in, estimates with intervals come out; nothing here prints and nothing is stored.

`stats` holds the formulas, `frame` turns records into one flat value a process, `compare` groups processes into rows and
divides only what measured the same work.
"""
