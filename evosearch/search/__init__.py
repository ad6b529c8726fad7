"""The study of a run: ask / tell, window, resume, Pareto front, log, statistics of a claim. No torch, no ray."""
