"""Several processes for one job: started by torch's launcher, kept in step by a process group, reduced to one trial."""
