"""The regression check: paired differences of two arms in, a verdict out, exact whatever the noise.

A block is two fresh processes, base and head, whose order a fair coin decides; its observation is d, the log of head's
step time over base's. If the arms are interchangeable the sign of each d is a fair coin, so the tests of `signed_rank` hold
for any drift, autocorrelation or bursts. `design` says after how many blocks to look and how strictly, `blocks` computes the d's
of raw blocks and says which count and whether both arms did the same work, `decision` turns the d's so far into a verdict or a
wish for more, `verdict_text` puts the verdict into words. None of these starts a process or reads a file.

Around them: `arms` settles what is compared, `sequential` has blocks measured (by `runner.paired`) and put on disk until there
is an end, `check_record` is the check's file, `noise_profile` is the noise of a machine.
How often the check errs, and how often the rules of other tools do, is measured by `docs/studies/false_alarms.py`.

A cheap screen precedes it: `saved_baseline` names recorded runs and has their rows, `screen` compares a later run with them.
"""
