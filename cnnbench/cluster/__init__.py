"""A suite on every node of a cluster: jobs through Slurm, what became of each node, and the records in one results tree.

A fleet is one `cluster run`: a folder beside the results with its state (`fleet.json`, a few kilobytes) and a folder for each
node, where that node's `cnnbench run` writes its ledger. Nothing that is stored says how a node did: that is worked out from
what Slurm last said of its job and from what lies in its folder, each time somebody asks.
"""
