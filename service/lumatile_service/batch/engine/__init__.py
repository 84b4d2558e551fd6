"""The engines that run a batch job: threads of one process, or Ray."""
