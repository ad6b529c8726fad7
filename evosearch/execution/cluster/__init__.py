"""A Ray cluster as its user meets it: the token, joining it, jobs on it, what a doctor finds, and files that start one."""
