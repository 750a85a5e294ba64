"""The regression check: paired differences of two arms in, a verdict out, exact whatever the noise.

A block is two fresh processes, base and head, whose order a fair coin decides; its observation is d, the log of head's
step time over base's. If the arms are interchangeable the sign of each d is a fair coin, so the tests of `signflip` hold
for any drift, autocorrelation or bursts. `plan` says after how many blocks to look and how strictly, `decide` turns the
d's so far into a verdict or a wish for more, `guards` says which blocks count, `words` says the verdict in words. None of
these starts a process or reads a file.

Around them: `prepare` settles what is compared, `drive` has blocks measured (by `runner.paired`) and put on disk until
`course` finds an end, `observe` makes d's of raw blocks, `recording` is the check's file, `profile` and `calibration` are
the noise of a machine. `noise`, `peers`, `simulate` and `proof` measure how often the check errs, and how often the rules
of other tools do.

Beside the check stands a cheap screen: `baseline` stores figures of recorded runs, `judge` holds a later run against them.
"""
