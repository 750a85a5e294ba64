"""Where a step's time goes: the step that is measured elsewhere, run under torch.profiler in a separate process."""
