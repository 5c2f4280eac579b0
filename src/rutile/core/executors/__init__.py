"""Who does many pieces of work: threads here, processes here, jobs of Slurm; `catalogue.open_executor` opens one."""
