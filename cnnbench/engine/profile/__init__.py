"""Where a step's time goes: the same step that is measured elsewhere, run under torch.profiler in a process of its own."""
