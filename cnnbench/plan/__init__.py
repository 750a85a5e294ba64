"""From suites (TOML) and a machine to a list of jobs. Pure: the same suites, machine and seed give the same plan."""
