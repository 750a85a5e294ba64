"""The regression check: paired differences of two arms go in, a verdict comes out, exact whatever the noise.

A block is two fresh processes, base and head, whose order a fair coin decides; its observation is d, the log of head's
step time over base's. If the arms are interchangeable the sign of each d is a fair coin, so the tests of `signed_rank`
hold for any drift, autocorrelation or bursts. `design` defines after how many blocks to look and how strictly, `blocks`
computes the d's of raw blocks, selects the blocks that count and checks that both arms did the same work, `decision`
turns the d's so far into a verdict or a request for more blocks, `verdict_text` formats the verdict. None of these
starts a process or reads a file.

Around them: `arms` defines what is compared, `sequential` measures blocks (through `runner.paired`) and writes them to
disk until the check ends, `check_record` is the check's file, `noise_profile` is the noise of a machine. How often the
check errs, and how often the rules of other tools do, is measured by `docs/studies/false_alarms.py`.

A cheap screen precedes it: `saved_baseline` names recorded runs and loads their rows, `screen` compares a later run
with them.
"""
