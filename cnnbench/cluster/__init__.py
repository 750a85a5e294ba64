"""Runs a suite on every node of a cluster: jobs through Slurm, the state of each node, and all records in one results
tree.

A fleet is one `cluster run`: a folder beside the results with its state (`fleet.json`, a few kilobytes) and a folder
for each node, where that node's `cnnbench run` writes its ledger. How a node did is not stored: it is derived, each
time somebody asks, from what Slurm last reported of its job and from the files in its folder.
"""
