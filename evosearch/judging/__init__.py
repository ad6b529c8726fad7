"""What a worker runs: tasks, models, filters, training, objectives. Pure in its arguments; knows no search."""
