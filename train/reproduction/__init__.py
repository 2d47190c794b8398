"""What `train.reproduce` is made of: suites and published figures, records of runs, tables and findings."""
