"""The same networks in torch.nn, written apart from ours: for the tests and the benchmark only."""
